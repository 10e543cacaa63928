"""The run's state on disk, and the lock of a home."""

import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deploy.errors import AlreadyRunning, Refused
from deploy.home import Home
from deploy.launcher.run_lock import hold_run_lock, is_held
from deploy.run_state import RunState, drop_state, read_state, write_state


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home", tmp_path / "home")
    home.make()
    return home


STATE = RunState(
    mark="a@/home",
    launcher_pid=7,
    started_at=datetime(2026, 1, 1, tzinfo=UTC),
    phase="running",
    url="http://localhost:8000",
    model="m",
    ledger_url="redis://:secret@127.0.0.1:1/0",
    flow_url="redis://:secret@127.0.0.1:2/0",
)


def test_state_comes_back_and_only_its_user_may_read_it(home: Home) -> None:
    write_state(home, STATE)
    assert read_state(home) == STATE
    assert stat.S_IMODE(home.state.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.run.stat().st_mode) == 0o700
    drop_state(home)
    assert read_state(home) is None


@pytest.mark.parametrize("text", ["", "{}", "[", '{"version": 2}'])
def test_unreadable_state_counts_as_none(home: Home, text: str) -> None:
    home.state.write_text(text)
    assert read_state(home) is None


def test_lock_is_held_by_one(home: Home) -> None:
    write_state(home, STATE)
    assert not is_held(home)
    with hold_run_lock(home):
        assert is_held(home)
        with pytest.raises(AlreadyRunning, match="process 7") as refused, hold_run_lock(home):
            pass
        assert "floodgate down" in refused.value.remedy
    assert not is_held(home)
    with hold_run_lock(home):
        pass


def test_home_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "home"
    with pytest.raises(Refused, match=str(folder)), hold_run_lock(Home(folder, folder)):
        pass
