"""Finding and ending every process of a run, whoever its parent is by now.

Each carries the run's mark in its environment. Ray's agents survive their parents, and a tree of
processes forgets its branches when a parent dies; an environment is inherited and stays.
"""

import contextlib
import os
import time
from collections.abc import Callable
from typing import Final

import psutil

MARK: Final = "FLOODGATE_RUN_ID"
_POLL_S = 0.05


def new_mark(random: str, home: str) -> str:
    """The mark of one run in one home."""
    return f"{random}@{home}"


def of_run(mark: str) -> Callable[[str], bool]:
    """Chooses the processes of one run."""
    return lambda found: found == mark


def of_home(home: str) -> Callable[[str], bool]:
    """Chooses the processes of every run in a home."""
    return lambda found: found.partition("@")[2] == home


def find(chosen: Callable[[str], bool]) -> list[psutil.Process]:
    """This user's processes whose mark is chosen, this one left out; zombies do not count."""
    found = []
    for process in psutil.process_iter(["uids"]):
        uids = process.info["uids"]
        if process.pid == os.getpid() or uids is None or uids.real != os.getuid():
            continue
        with contextlib.suppress(psutil.Error, OSError):
            mark = process.environ().get(MARK)
            if mark is not None and chosen(mark) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def end(
    chosen: Callable[[str], bool], *, grace_s: float, clock: Callable[[], float] = time.monotonic
) -> int:
    """SIGTERM to all, SIGKILL to those left after `grace_s`, until none is found.

    Processes may start others meanwhile, so each pass looks anew. Returns how many were ended.
    """
    ended: set[tuple[int, float]] = set()
    kill_at = clock() + grace_s
    give_up_at = kill_at + grace_s
    while left := find(chosen):
        for process in left:
            with contextlib.suppress(psutil.Error):
                identity = (process.pid, process.create_time())
                if clock() >= kill_at:
                    process.kill()
                elif identity not in ended:
                    process.terminate()
                ended.add(identity)
        if clock() >= give_up_at:
            break
        time.sleep(_POLL_S)
    return len(ended)
