"""How long a replica may take to start, in processes of their own."""

import signal
import subprocess
import sys
import time

import psutil

# Blocks as native code or a wait in the event loop does; says first whom it has started.
PROGRAM = """
import subprocess, sys, time
from serving.engine.start_deadline import StartDeadline

child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
deadline = StartDeadline("moss", {seconds})
if {is_met}:
    deadline.met()
    print("met", flush=True)
    sys.stdin.read()
    child.kill()
else:
    time.sleep(600)
"""


def started(*, seconds: float, is_met: bool) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(seconds=seconds, is_met=is_met)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def has_ended(pid: int) -> bool:
    """Also where nobody has collected it: its parent is gone."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_start_that_takes_longer_ends_with_all_that_it_started() -> None:
    with started(seconds=0.2, is_met=False) as process:
        told, logged = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert "moss: this replica was not ready within 0.2 s (FLOODGATE_START_S_MAX)" in logged
    while not has_ended(int(told)):
        time.sleep(0.01)


def test_one_that_has_started_lives_on() -> None:
    with started(seconds=1, is_met=True) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)][1] == "met\n"
        try:
            process.wait(1.5)
        except subprocess.TimeoutExpired:
            process.communicate("", timeout=60)
    assert process.returncode == 0
