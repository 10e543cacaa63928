"""Restarts: at once the first time, later each time, and never while a process lives."""

from pathlib import Path

import pytest

from deploy.launcher.child import Child, ChildPlan
from deploy.launcher.supervisor import BACKOFF_S_MAX, BACKOFF_S_MIN, Supervisor, describe_exit


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def events() -> list[str]:
    return []


@pytest.fixture
def supervisor(clock: Clock, events: list[str]) -> Supervisor:
    return Supervisor(events.append, clock)


def plan(folder: Path, *argv: str, grace_s: float = 10.0) -> ChildPlan:
    return ChildPlan("it", argv, folder / "it.log", {"PATH": "/usr/bin:/bin"}, grace_s)


def test_running_process_is_left_alone(supervisor: Supervisor, tmp_path: Path) -> None:
    child = supervisor.start(plan(tmp_path, "sleep", "60"))
    assert not supervisor.check()
    assert supervisor.running() == {"it": True}
    supervisor.stop("it")
    assert child.exit_status() == -15


def test_ended_process_is_started_again_later_each_time(
    supervisor: Supervisor, clock: Clock, events: list[str], tmp_path: Path
) -> None:
    supervisor.start(plan(tmp_path, "false"))
    wait_s = BACKOFF_S_MIN
    for restarts in range(1, 10):
        supervisor.child("it").process.wait()
        assert supervisor.check()  # notices
        clock.now += wait_s * 0.99
        assert not supervisor.check()
        clock.now += wait_s * 0.02
        assert supervisor.check()  # starts
        assert supervisor.states()[0].restarts == restarts
        wait_s = min(2 * wait_s, BACKOFF_S_MAX)
    assert wait_s == BACKOFF_S_MAX
    assert "ended with status 1" in events[0]
    supervisor.stop("it")


def test_death_after_a_long_life_is_a_first_one(
    supervisor: Supervisor, clock: Clock, events: list[str], tmp_path: Path
) -> None:
    supervisor.start(plan(tmp_path, "sleep", "60"))
    for _ in range(2):
        supervisor.child("it").process.kill()
        supervisor.child("it").process.wait()
        clock.now += 61
        supervisor.check()
        clock.now += BACKOFF_S_MIN
        assert supervisor.check()
    assert all("signal 9" in event for event in events[::2])
    supervisor.stop("it")


def test_stubborn_process_is_killed(tmp_path: Path) -> None:
    child = Child(plan(tmp_path, "sh", "-c", "trap '' TERM; echo up; sleep 60", grace_s=0.2))
    while "up" not in child.log_tail():
        pass
    child.stop()
    assert child.exit_status() == -9


def test_log_tail_is_of_this_process_alone(tmp_path: Path) -> None:
    (tmp_path / "it.log").write_text("from before\n")
    child = Child(plan(tmp_path, "sh", "-c", "for i in 1 2 3; do echo $i; done"))
    child.process.wait()
    assert child.log_tail(2) == "2\n3"
    assert "from before" not in child.log_tail()
    assert (tmp_path / "it.log").read_text().startswith("from before")


def test_missing_program_is_an_error_at_once(supervisor: Supervisor, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        supervisor.start(plan(tmp_path, "/nowhere/program"))


def test_stopping_what_was_never_started_does_nothing(supervisor: Supervisor) -> None:
    supervisor.stop("nobody")


@pytest.mark.parametrize(("status", "words"), [(3, "status 3"), (-9, "signal 9")])
def test_exit_in_words(status: int, words: str) -> None:
    assert words in describe_exit(status)
