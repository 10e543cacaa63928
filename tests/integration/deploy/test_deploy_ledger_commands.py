"""`floodgate ledger` and `floodgate release` as operators run them, on a real ledger."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.redis_server import RedisServer
from waitlist.directory import open_directory

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]


class Command:
    """The `floodgate` command with a home and a ledger of its own."""

    def __init__(self, home: Path, ledger: RedisServer, flow: RedisServer) -> None:
        kept = {name: value for name, value in os.environ.items() if "FLOODGATE_" not in name}
        self._environ = kept | {
            "FLOODGATE_HOME": str(home),
            "FLOODGATE_LEDGER_URL": ledger.url,
            "FLOODGATE_FLOW_URL": flow.url,
        }
        self._folder = home

    def __call__(self, *words: str, status: int = 0) -> str:
        """Its output, both streams; asserts its exit status."""
        done = subprocess.run(
            [sys.executable, "-m", "deploy.cli", *words],
            env=self._environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stdout
        return done.stdout


@pytest.fixture
def floodgate(tmp_path: Path, ledger_server: RedisServer, flow_server: RedisServer) -> Command:
    home = tmp_path / "home"
    home.mkdir()
    return Command(home, ledger_server, flow_server)


@pytest.fixture
def ada(ledger_server: RedisServer, flow_server: RedisServer) -> Any:
    async def redeem() -> Any:
        urls = (ledger_server.url, flow_server.url)
        async with open_directory(*urls, deadline_s=30.0) as directory:
            [invite] = await directory.create_invites(1)
            return await directory.redeem(invite.code, "ada@example.com")

    return asyncio.run(redeem())


def test_backup_and_restore(floodgate: Command, ada: Any, tmp_path: Path) -> None:
    file = tmp_path / "ledger.rdb"
    assert "MB" in floodgate("ledger", "backup", str(file))
    assert "exists" in floodgate("ledger", "backup", str(file), status=1)
    assert "Restored" in floodgate("ledger", "restore", str(file))
    folder = tmp_path / "home" / "ledger"
    with RedisServer.ledger(folder) as server, redis.Redis.from_url(server.url) as client:
        assert client.exists(f"fg:{{ledger}}:account:{ada.account_id}")
    assert "before-" in floodgate("ledger", "restore", str(file))


def test_check_says_what_is_wrong_and_ends_with_5(
    floodgate: Command, ada: Any, ledger_server: RedisServer
) -> None:
    assert "nothing wrong" in floodgate("ledger", "check")
    with redis.Redis.from_url(ledger_server.url) as client:
        client.delete(f"fg:{{ledger}}:key:{ada.key_id}")
    told = floodgate("ledger", "check", "--json", status=5).splitlines()
    findings = [json.loads(line) for line in told if line.startswith("{")]
    records = {"invite", "key number", "audit", "account's keys"}
    assert {finding["record"] for finding in findings} == records


def test_migrate_says_where_the_ledger_is(
    floodgate: Command, ada: Any, ledger_server: RedisServer
) -> None:
    assert "has schema" in floodgate("ledger", "migrate")
    with redis.Redis.from_url(ledger_server.url) as client:
        client.set("fg:{ledger}:schema", "999")
    assert "999" in floodgate("ledger", "migrate", status=1)


def test_ledger_that_is_gone_is_told_in_two_lines(
    floodgate: Command, ledger_server: RedisServer, tmp_path: Path
) -> None:
    ledger_server.kill()
    for words in (("check",), ("migrate",), ("backup", str(tmp_path / "file"))):
        told = floodgate("ledger", *words, status=1)
        assert told.startswith("floodgate: ") and "Traceback" not in told
        assert ledger_server.password not in told


def test_release_is_scheduled_and_shown(floodgate: Command, ada: Any) -> None:
    floodgate("release", "schedule", "--from-hour", "8", "--until-hour", "20", "--batch-max", "9")
    assert "belong together" in floodgate("release", "schedule", "--from-hour", "8", status=1)
    assert "Nothing was decided yet" in floodgate("release", "decisions")


def test_launch_is_played(floodgate: Command) -> None:
    told = floodgate("release", "simulate", "--days", "5", "--slots", "8,3:16", "--waiting", "100")
    assert len([line for line in told.splitlines() if line.lstrip()[:1].isdigit()]) == 5
    assert "Overload caused by release: 0 minutes" in told
    assert "no capacity" in floodgate("release", "simulate", "--slots", "many", status=1)
