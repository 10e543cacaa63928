"""Finding and ending every process of a run, whoever its parent is by now.

Each carries the run's mark in its environment. Ray's agents survive their parents, and a tree of
processes forgets its branches when a parent dies; an environment is inherited and stays.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterable
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
    chosen: Callable[[str], bool],
    *,
    grace_s: float,
    seen: Iterable[psutil.Process] = (),
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """SIGTERM to all, SIGKILL to those left after `grace_s`, until none is found.

    Processes may start others meanwhile, so each pass looks anew. Waits also for those that were
    `seen` before and end already. Returns how many were ended.
    """
    ended: set[psutil.Process] = set()
    kill_at = clock() + grace_s
    give_up_at = kill_at + grace_s
    while left := find(chosen):
        for process in left:
            with contextlib.suppress(psutil.Error):
                if clock() >= kill_at:
                    process.kill()
                elif process not in ended:
                    process.terminate()
                ended.add(process)
        if clock() >= give_up_at:
            break
        time.sleep(_POLL_S)
    while not all(map(is_gone, ended.union(seen))) and clock() < give_up_at:
        time.sleep(_POLL_S)
    return len(ended)


def is_gone(process: psutil.Process) -> bool:
    """Whether it has let go of its ports and files too.

    A dying process first gives its memory back, 0.2 s for 3 GiB, and with it the environment that
    `find` knows it by; its sockets close after that. The first of its threads can be a zombie
    before the others have come so far.
    """
    if not process.is_running():
        return True
    try:
        return process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1
    except psutil.NoSuchProcess:
        return True
