"""`floodgate down`: asks the launcher to stop, and ends whatever does not."""

import contextlib
import os
import signal
import time
from collections.abc import Callable

from deploy.errors import ProcessFailed
from deploy.home import Home
from deploy.launcher import marked_processes
from deploy.launcher.run_lock import is_held
from deploy.run_state import drop_state, read_state

_GRACE_S = 1.5
_POLL_S = 0.05


def down(home: Home, clock: Callable[[], float] = time.monotonic) -> bool:
    """Stops what runs in `home`; False where nothing did.

    Raises:
        ProcessFailed: something is still there that cannot be ended.
    """
    chosen = marked_processes.of_home(str(home.root))
    held = is_held(home)
    seen = marked_processes.find(chosen)
    if not held and not seen:
        drop_state(home)
        return False
    state = read_state(home)
    if held and state is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(state.launcher_pid, signal.SIGTERM)
        give_up_at = clock() + state.stop_s_max
        while is_held(home) and clock() < give_up_at:
            time.sleep(_POLL_S)
        if is_held(home):
            with contextlib.suppress(ProcessLookupError):
                os.kill(state.launcher_pid, signal.SIGKILL)
    marked_processes.end(chosen, grace_s=_GRACE_S, seen=seen)
    if left := marked_processes.find(chosen):
        pids = ", ".join(str(process.pid) for process in left)
        raise ProcessFailed(f"These processes do not end: {pids}.", f"Try kill -9 {pids}.")
    drop_state(home)
    return True
