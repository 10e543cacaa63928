"""The operators' commands, as processes, on a real ledger."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.redis_server import RedisServer
from waitlist.directory import Directory, open_directory
from waitlist.join_request import JoinRequest
from waitlist.settings import WaitlistSettings

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[3]
SECRET = "a secret of the tests, long enough to be one"

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path, ledger_server: RedisServer, flow_server: RedisServer) -> Run:
    """Runs `floodgate …` in a folder of its own."""

    def floodgate(*arguments: str) -> subprocess.CompletedProcess[str]:
        environ = {name: text for name, text in os.environ.items() if name[:10] != "FLOODGATE_"}
        environ |= {
            "PYTHONPATH": str(ROOT),
            "FLOODGATE_HOME": str(tmp_path / "home"),
            "FLOODGATE_LEDGER_URL": ledger_server.url,
            "FLOODGATE_FLOW_URL": flow_server.url,
            "FLOODGATE_WAITLIST_SECRET": SECRET,
            "FLOODGATE_PUBLIC_URL": "https://gate.example",
        }
        return subprocess.run(
            [sys.executable, "-m", "deploy.cli", *arguments],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )

    return floodgate


@pytest.fixture
async def directory(ledger_server: RedisServer, flow_server: RedisServer) -> Any:
    settings = WaitlistSettings(waitlist_secret=SECRET)
    async with open_directory(
        ledger_server.url, flow_server.url, deadline_s=30, settings=settings
    ) as directory:
        yield directory


def told(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


async def test_people_are_imported_let_in_searched_and_exported(
    run: Run, tmp_path: Path, directory: Directory
) -> None:
    people = "email,joined_at\n" + "".join(f"p{i}@example.com,2026-01-01\n" for i in range(120))
    (tmp_path / "people.csv").write_text(people)
    done = run("waitlist", "import", "people.csv")
    assert "120 rows read, 120 people added, 0 known" in done.stdout, done.stderr
    [batch] = told(run("waitlist", "release", "5", "--reason", "test", "--json"))
    assert (batch["released"], batch["state"]) == (5, "done")
    [overview] = told(run("waitlist", "status", "--json"))
    assert (overview["in_line"], overview["invited"]) == (115, 5)
    [found] = told(run("waitlist", "search", "p0@example.com", "--json"))
    assert found["state"] == "invited"
    nobody = run("waitlist", "search", "nobody@example.com")
    assert (nobody.returncode, nobody.stderr) == (1, "floodgate: Nobody here has this address.\n")
    done = run("waitlist", "export", "out.jsonl")
    assert "120 places written" in done.stdout, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len({row["email"] for row in rows}) == 120
    [today] = told(run("waitlist", "stats", "--days", "1", "--json"))
    assert (today["joined"], today["invited"]) == (120, 5)
    actions = [row["action"] for row in told(run("waitlist", "audit"))]
    assert actions == [
        "import_began",
        "batch_opened",
        "people_invited",
        "address_searched",
        "address_searched",
        "entries_exported",
    ]


async def test_mail_is_shown_to_the_operator_and_dropped_when_delivered(
    run: Run, directory: Directory
) -> None:
    joined = await directory.entries.join(
        JoinRequest("ada@example.com"), network="192.0.2.1", proof=None
    )
    batch = await directory.releases.release(1)
    await directory.delivery.deliver_due()
    [mail] = told(run("waitlist", "mail", "list", "--json"))
    assert (mail["held"], mail["kind"]) == (True, "invite")
    shown = run("waitlist", "mail", "show", mail["mail_id"]).stdout
    assert "To: ada@example.com" in shown
    assert directory.signer.code(joined.entry_id, batch.batch_id) in shown
    assert "Dropped" in run("waitlist", "mail", "delivered", mail["mail_id"]).stdout
    assert told(run("waitlist", "mail", "list", "--json")) == []


async def test_campaign_codes_have_links_and_pictures(
    run: Run, tmp_path: Path, directory: Directory
) -> None:
    run("campaigns", "add", "press", "--plan", "plus")
    rows = told(run("campaigns", "codes", "press", "--count", "2", "--qr", "qr", "--json"))
    assert [row["link"].startswith("https://gate.example/redeem#code=fgi-") for row in rows] == [
        True
    ] * 2
    pictures = sorted(path.name for path in (tmp_path / "qr").iterdir())
    assert pictures == sorted(f"{row['invite_id']}.svg" for row in rows)
    assert "<svg" in (tmp_path / "qr" / pictures[0]).read_text()
    run("campaigns", "pause", "press")
    [campaign] = told(run("campaigns", "list", "--json"))
    assert (campaign["codes"], campaign["paused_at"] is not None) == (2, True)
    run("campaigns", "resume", "press")
    account = await directory.redeem(rows[0]["code"], "ada@example.com")
    assert account.plan == "plus"


async def test_accounts_operators_pauses_and_schedules(run: Run, directory: Directory) -> None:
    [invite] = await directory.create_invites(1)
    account = await directory.redeem(invite.code, "ada@example.com")
    assert run("accounts", "plan", account.account_id, "plus").returncode == 0
    assert run("accounts", "grant", account.account_id, "3").returncode == 0
    [seen] = told(run("accounts", "show", account.account_id, "--json"))
    assert (seen["plan"], seen["invites_left"]) == ("plus", 3)
    assert run("accounts", "branch", account.account_id).stdout.split() == [account.account_id]
    assert "1 accounts with 1 keys" in run("accounts", "revoke", account.account_id).stdout
    key = run("admins", "add", "root", "--role", "owner").stdout.strip()
    assert (await directory.admins.authorise(key, "owner")).name == "root"
    [admin] = told(run("admins", "list", "--json"))
    assert run("admins", "revoke", admin["admin_id"]).returncode == 0
    assert run("waitlist", "pause", "joining").stdout == "joining is paused.\n"
    assert run("waitlist", "pause", "joining").stdout == "joining is paused already.\n"
    assert run("waitlist", "resume", "joining").stdout == "joining is open.\n"
    schedule = run("waitlist", "schedule", "add", "2030-01-01T00:00:00Z", "5", "--every", "1d")
    [listed] = told(run("waitlist", "schedule", "list", "--json"))
    assert listed["schedule_id"] == schedule.stdout.strip()
    assert run("waitlist", "schedule", "drop", listed["schedule_id"]).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["waitlist", "import", "none.csv"], "cannot be read"),
        (["waitlist", "import", "none.xlsx"], "neither .csv nor .jsonl"),
        (["waitlist", "release", "5", "--invite-life", "soon"], "no duration"),
        (["waitlist", "release", "5", "--plan", "No"], "A plan's name"),
        (["waitlist", "schedule", "add", "soon", "5"], "no time"),
        (["waitlist", "schedule", "add", "2030-01-01T00:00:00", "5"], "time zone"),
        (["waitlist", "mail", "show", "invite:none"], "no such mail"),
        (["accounts", "show", "acct_none"], "no such account"),
        (["campaigns", "codes", "none"], "no such campaign"),
        (["admins", "revoke", "adm_none"], "no such operator"),
    ],
)
def test_what_cannot_be_done_is_told_in_words(run: Run, arguments: list[str], said: str) -> None:
    done = run(*arguments)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
