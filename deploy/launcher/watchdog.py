"""A process that ends a run when its launcher dies.

Run as `python -m deploy.launcher.watchdog MARK STATE_PATH`.

Its standard input is a pipe from the launcher. Nothing is ever written to it: it ends with the
launcher, also with one that was killed with SIGKILL, and no process id can be confused.
"""

import signal
import sys
from pathlib import Path

from deploy.launcher import marked_processes

# The ledger syncs every write, so it loses nothing; the gateway and Ray get time to say goodbye.
_GRACE_S = 5.0


def main() -> None:
    mark, state_path = sys.argv[1], Path(sys.argv[2])
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    marked_processes.end(marked_processes.of_run(mark), grace_s=_GRACE_S)
    if mark in _text(state_path):  # and not that of the next run
        state_path.unlink(missing_ok=True)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


if __name__ == "__main__":
    main()
