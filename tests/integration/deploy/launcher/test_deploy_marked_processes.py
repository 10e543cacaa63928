"""Ending a run's processes, whoever their parent is."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from deploy.launcher import marked_processes
from deploy.launcher.marked_processes import MARK, of_home, of_run

pytestmark = pytest.mark.integration

Start = Callable[[str, str], subprocess.Popen[bytes]]


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[subprocess.Popen[bytes]] = []

    def start(mark: str, script: str) -> subprocess.Popen[bytes]:
        """Runs a shell script that says when it is ready."""
        environ = {**os.environ, MARK: mark}
        process = subprocess.Popen(["sh", "-c", script], env=environ, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_only_the_run_that_is_meant_is_ended(start: Start, tmp_path: Path) -> None:
    ours = start(f"1@{tmp_path}", "echo ready; exec sleep 60")
    others = [
        start(f"2@{tmp_path}", "echo ready; exec sleep 60"),
        start(f"1@{tmp_path}/x", "echo ready; exec sleep 60"),
    ]
    assert marked_processes.end(of_run(f"1@{tmp_path}"), grace_s=5) == 1
    assert ours.wait() == -15
    assert [other.poll() for other in others] == [None, None]
    assert marked_processes.end(of_home(str(tmp_path)), grace_s=5) == 1
    assert others[0].wait() == -15
    assert others[1].poll() is None


def test_orphans_and_the_stubborn_are_ended_too(start: Start, tmp_path: Path) -> None:
    mark = f"1@{tmp_path}"
    # The grandchild ignores SIGTERM, and its parent is gone before anything is ended.
    parent = start(mark, "sh -c 'trap \"\" TERM; echo ready; while :; do sleep 1; done' & wait")
    (orphan,) = psutil.Process(parent.pid).children()
    parent.kill()
    parent.wait()
    assert orphan.is_running()
    marked_processes.end(of_run(mark), grace_s=2)
    assert marked_processes.find(of_run(mark)) == []


# Large enough that giving the memory back takes a while, with threads that a zombie may outlive.
_LARGE_LISTENER = """
import mmap, socket, sys, threading, time
listener = socket.create_server(("127.0.0.1", 0))
memory = mmap.mmap(-1, 2 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE)
for _ in range(8):
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
print(listener.getsockname()[1], flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("by_us", [True, False])
def test_ports_are_free_when_a_run_has_ended(tmp_path: Path, by_us: bool) -> None:
    """A killed process stops carrying its mark long before its sockets are closed."""
    mark = f"1@{tmp_path}"
    process = subprocess.Popen(
        [sys.executable, "-c", _LARGE_LISTENER],
        env={**os.environ, MARK: mark},
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        seen = marked_processes.find(of_run(mark))
        assert [one.pid for one in seen] == [process.pid]
        if not by_us:
            process.kill()
            while marked_processes.find(of_run(mark)):
                pass
        marked_processes.end(of_run(mark), grace_s=5, seen=() if by_us else seen)
        socket.create_server(("127.0.0.1", port)).close()
    finally:
        process.kill()
        process.communicate()


def test_this_process_is_never_one_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = psutil.Process().environ().get(MARK, "")
    assert os.getpid() not in [one.pid for one in marked_processes.find(of_run(mine))]
