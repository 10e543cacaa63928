"""One launcher for each FLOODGATE_HOME: a lock that ends with the process that holds it."""

import contextlib
import fcntl
from collections.abc import Iterator

from deploy.errors import AlreadyRunning, Refused
from deploy.home import Home
from deploy.run_state import read_state


@contextlib.contextmanager
def hold_run_lock(home: Home) -> Iterator[None]:
    """Holds the lock for the length of the block.

    Raises:
        AlreadyRunning: names the launcher that holds it.
        Refused: the folder cannot be written.
    """
    try:
        home.make()
        lock = home.lock.open("a")
    except OSError as error:
        raise Refused(
            f"{home.root} cannot be used: {error.strerror}.",
            "Set FLOODGATE_HOME to a folder of yours.",
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            state = read_state(home)
            who = f" (process {state.launcher_pid}, {state.url})" if state else ""
            raise AlreadyRunning(
                f"Floodgate already runs in {home.root}{who}.",
                "Stop it with `floodgate down`, or set another FLOODGATE_HOME and --port.",
            ) from None
        yield


def is_held(home: Home) -> bool:
    """Whether a launcher lives in this home."""
    try:
        lock = home.lock.open("r")
    except OSError:
        return False
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
