"""The operators' commands, as processes, on a real ledger."""

import asyncio
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.commands.people_files import read_people
from tests.redis_server import RedisServer
from waitlist.directory import Directory, open_directory
from waitlist.errors import CodeRevoked
from waitlist.line.join_request import JoinRequest
from waitlist.settings import WaitlistSettings

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[3]
SECRET = "a secret of the tests, long enough to be one"

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def start(
    tmp_path: Path, ledger_server: RedisServer, flow_server: RedisServer
) -> Callable[..., subprocess.Popen[str]]:
    """Starts `floodgate …` in a folder of its own."""

    def floodgate(*arguments: str) -> subprocess.Popen[str]:
        environ = {name: text for name, text in os.environ.items() if name[:10] != "FLOODGATE_"}
        environ |= {
            "PYTHONPATH": str(ROOT),
            "FLOODGATE_HOME": str(tmp_path / "home"),
            "FLOODGATE_LEDGER_URL": ledger_server.url,
            "FLOODGATE_FLOW_URL": flow_server.url,
            "FLOODGATE_WAITLIST_SECRET": SECRET,
            "FLOODGATE_PUBLIC_URL": "https://gate.example",
        }
        return subprocess.Popen(
            [sys.executable, "-m", "deploy.cli", *arguments],
            cwd=tmp_path,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return floodgate


@pytest.fixture
def run(start: Callable[..., subprocess.Popen[str]]) -> Run:
    """Runs `floodgate …` to its end."""

    def floodgate(*arguments: str) -> subprocess.CompletedProcess[str]:
        process = start(*arguments)
        stdout, stderr = process.communicate()
        return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)

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
    assert (
        "120 rows read, 120 people added, 0 known already, 0 passed over, 0 rejected."
        in done.stdout
    ), done.stderr
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
    days = told(run("waitlist", "stats", "--days", "2", "--json"))  # midnight may have passed
    assert [sum(day[what] for day in days) for what in ("joined", "invited")] == [120, 5]
    actions = [row["action"] for row in told(run("waitlist", "audit"))]
    assert actions == [
        "import_began",
        "batch_opened",
        "people_invited",
        "address_searched",
        "address_searched",
        "entries_exported",
    ]


ODD = ("-ada@example.com", "+bob@example.com", "=cyd@example.com", "'dan@example.com")


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
async def test_export_is_imported_again_in_the_order_of_the_line(
    run: Run, tmp_path: Path, directory: Directory, ledger_server: RedisServer, suffix: str
) -> None:
    """Addresses and notes that a spreadsheet would run come back as they were."""
    people = [{"email": email, "note": f"={email[0]}"} for email in ODD]
    people += [{"email": f"p{i}@example.com", "note": ""} for i in range(300)]
    (tmp_path / "people.jsonl").write_text("".join(json.dumps(row) + "\n" for row in people))
    assert "304 people added" in run("waitlist", "import", "people.jsonl").stdout
    done = run("waitlist", "export", f"line.{suffix}", "--waiting")
    assert "304 places written" in done.stdout, done.stderr
    ledger_server.make_ready()  # empty: another ledger
    done = run("waitlist", "import", f"line.{suffix}")
    assert "304 people added, 0 known already, 0 passed over" in done.stdout, done.stderr
    there = [entry async for entry in directory.exports.waiting()]
    assert [(e.email, e.note) for e in there] == [(p["email"], p["note"]) for p in people]
    assert [entry.ahead for entry in there] == list(range(304))


async def test_rows_of_people_who_are_gone_are_passed_over(
    run: Run, tmp_path: Path, directory: Directory, ledger_server: RedisServer
) -> None:
    people = "".join(f"p{i}@example.com\n" for i in range(5))
    (tmp_path / "people.csv").write_text("email\n" + people)
    run("waitlist", "import", "people.csv")
    gone = [e async for e in directory.exports.waiting()][:2]
    await directory.departures.erase_for_operator(gone[0].entry_id)
    ticket = directory.signer.read(directory.signer.owner_ticket(gone[1].entry_id))
    await directory.departures.leave(ticket)
    assert "5 places" in run("waitlist", "export", "all.csv").stdout
    ledger_server.make_ready()
    done = run("waitlist", "import", "all.csv")
    assert "5 rows read, 3 people added, 0 known already, 2 passed over, 0" in done.stdout
    emails = {entry.email async for entry in directory.exports.entries()}
    assert emails == {f"p{i}@example.com" for i in (2, 3, 4)}


async def test_rows_that_cannot_be_used_stop_an_import_or_go_into_a_file(
    run: Run, tmp_path: Path, directory: Directory
) -> None:
    rows = ["email,note", "ada@example.com,a", "nobody,b", "bob@example.com", "cyd@example.com,c"]
    (tmp_path / "people.csv").write_text("\n".join([*rows, "dan@example.com,d,more", ""]))
    stopped = run("waitlist", "import", "people.csv")
    assert stopped.returncode == 1
    assert "Line 3 cannot be used: This is not a usable e-mail address" in stopped.stderr
    done = run("waitlist", "import", "people.csv", "--rejects", "bad.jsonl")
    assert "5 rows read, 2 people added, 0 known already, 0 passed over, 3 rejected" in done.stdout
    bad = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert [row["line"] for row in bad] == [3, 4, 6]
    assert "not a usable e-mail address" in bad[0]["reason"]
    assert "another number of fields" in bad[1]["reason"]
    assert bad[0]["row"] == {"email": "nobody", "note": "b"}
    assert stat.S_IMODE((tmp_path / "bad.jsonl").stat().st_mode) == 0o600
    assert [e.email async for e in directory.exports.waiting()] == [
        "ada@example.com",
        "cyd@example.com",
    ]


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_import_and_export_are_killed_midway_and_gone_on_with(
    start: Callable[..., subprocess.Popen[str]],
    run: Run,
    tmp_path: Path,
    directory: Directory,
) -> None:
    """kill -9 of both commands, again and again: everybody is there once, in order."""
    count = 30_000
    emails = [f"p{i}@example.com" for i in range(count)]
    bad = {7_000, 21_000}
    rows = ("nobody" if i in bad else email for i, email in enumerate(emails))
    (tmp_path / "people.csv").write_text("\n".join(["email", *rows, ""]))
    for goal in (3_000, 9_000, 18_000):
        process = start("waitlist", "import", "people.csv", "--rejects", "bad.jsonl")
        while (await directory.overview.line()).in_line < goal:
            assert process.poll() is None, process.communicate()
            await asyncio.sleep(0.01)
        process.kill()
        process.communicate()
    done = run("waitlist", "import", "people.csv", "--rejects", "bad.jsonl")
    assert f"{count} rows read, {count - 2} people added, 0 known already" in done.stdout
    rejected = [
        json.loads(row)["line"] for row in (tmp_path / "bad.jsonl").read_text().splitlines()
    ]
    assert set(rejected) == {number + 2 for number in bad}
    expected = [email for i, email in enumerate(emails) if i not in bad]
    assert [e.email async for e in directory.exports.waiting()] == expected

    out = tmp_path / "out.csv"
    for goal in (500_000, 1_200_000, 2_000_000):
        process = start("waitlist", "export", "out.csv", "--waiting", "--resume")
        while not out.exists() or out.stat().st_size < goal:
            assert process.poll() is None, process.communicate()
            await asyncio.sleep(0.005)
        process.kill()
        process.communicate()
    done = run("waitlist", "export", "out.csv", "--waiting", "--resume")
    assert f"{count - 2} places written" in done.stdout, done.stderr
    with read_people(out) as written:
        assert [row["email"] for row in written] == expected


async def test_codes_are_withdrawn_by_id_and_by_campaign(run: Run, directory: Directory) -> None:
    single, used = await directory.create_invites(2)
    await directory.redeem(used.code, "ada@example.com")
    assert "1 codes withdrawn" in run("invites", "revoke", single.invite_id).stdout
    with pytest.raises(CodeRevoked):
        await directory.redeem(single.code, "bob@example.com")
    assert "already redeemed" in run("invites", "revoke", used.invite_id).stderr
    assert "no such invite" in run("invites", "revoke", "inv_none").stderr
    assert "Name one invite" in run("invites", "revoke").stderr
    for name in ("press", "other"):
        await directory.campaigns.add(name)
    press = await directory.campaigns.make_codes("press", 3)
    [other] = await directory.campaigns.make_codes("other", 1)
    account = await directory.redeem(press[0].code, "bob@example.com")
    assert "2 codes withdrawn" in run("invites", "revoke", "--campaign", "press").stdout
    assert "0 codes withdrawn" in run("invites", "revoke", "--campaign", "press").stdout
    assert "no such campaign" in run("invites", "revoke", "--campaign", "none").stderr
    for code in press[1:]:
        with pytest.raises(CodeRevoked):
            await directory.redeem(code.code, "cyd@example.com")
    await directory.redeem(other.code, "cyd@example.com")
    assert await directory.find_key(account.api_key) is not None


async def test_batch_is_closed(run: Run, directory: Directory) -> None:
    batch_id = await directory.releases.open(10)
    [closed] = told(run("waitlist", "close", batch_id, "--json"))
    assert (closed["batch_id"], closed["state"], closed["released"]) == (batch_id, "done", 0)
    assert "no such batch" in run("waitlist", "close", "batch_none").stderr


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
    schedule = run("waitlist", "schedule", "add", "2090-01-01T00:00:00Z", "5", "--every", "1d")
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
        (["waitlist", "schedule", "add", "2090-01-01T00:00:00", "5"], "time zone"),
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
