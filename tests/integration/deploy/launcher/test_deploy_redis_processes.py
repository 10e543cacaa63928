"""The two Redis servers of a run, started for real."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from deploy.errors import ProcessFailed, Refused
from deploy.home import Home
from deploy.launcher.redis_processes import Role, start_redis
from deploy.launcher.stop_signal import StopSignal
from deploy.launcher.supervisor import Supervisor

pytestmark = pytest.mark.integration
ENVIRON = dict(os.environ)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "my home", tmp_path)
    home.make()
    return home


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    supervisor = Supervisor(print)
    yield supervisor
    for name in ("redis-flow", "redis-ledger"):
        supervisor.stop(name)


@pytest.fixture
def stop() -> Iterator[StopSignal]:
    stop = StopSignal()
    yield stop
    stop.close()


@pytest.mark.parametrize("role", ["ledger", "flow"])
def test_stranger_and_other_machines_are_kept_out(
    role: Role, home: Home, supervisor: Supervisor, stop: StopSignal
) -> None:
    plan = start_redis(role, home, ENVIRON, supervisor, stop)
    with redis.Redis(port=plan.port) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    with redis.Redis.from_url(plan.url, decode_responses=True) as client:
        assert client.config_get("bind")["bind"] == "127.0.0.1"
    config = home.run / f"redis-{role}.conf"
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    password = plan.url.split(":")[2].split("@")[0]
    assert password not in repr(plan)
    assert password not in " ".join(supervisor.child(f"redis-{role}").plan.argv)


def test_ledger_keeps_what_was_written_and_flow_does_not(
    home: Home, supervisor: Supervisor, stop: StopSignal
) -> None:
    kept = {}
    for round_number in range(2):
        for role in ("ledger", "flow"):
            plan = start_redis(role, home, ENVIRON, supervisor, stop)
            with redis.Redis.from_url(plan.url, decode_responses=True) as client:
                kept[role] = client.get("round")
                client.set("round", round_number)
            supervisor.child(f"redis-{role}").process.kill()
            supervisor.child(f"redis-{role}").process.wait()
            supervisor.stop(f"redis-{role}")
    assert kept == {"ledger": "0", "flow": None}


def test_redis_that_cannot_start_says_why(
    home: Home, supervisor: Supervisor, stop: StopSignal
) -> None:
    home.ledger.rmdir()
    home.ledger.write_text("not a folder")
    with pytest.raises(ProcessFailed) as failed:
        start_redis("ledger", home, ENVIRON, supervisor, stop)
    assert "redis-ledger.log" in failed.value.remedy
    assert supervisor.running() == {}


def test_missing_redis_names_the_package(
    home: Home, supervisor: Supervisor, stop: StopSignal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Refused, match="not installed") as refused:
        start_redis("flow", home, ENVIRON, supervisor, stop)
    assert "apt-get install redis-server" in refused.value.remedy
