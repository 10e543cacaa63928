"""Set this machine up and run a command there: python3 deploy/bootstrap.py PROFILE -- COMMAND.

Profiles: gateway, serve (the default), test, bench. This file alone is kept to what Python 3.6 can
read, so that old ones get a clear message.
"""

import os
import shutil
import sys
from pathlib import Path

OLDEST = (3, 11)
NEWEST = (3, 14)


def main() -> int:
    """The exit status of the set-up; where that succeeds the command takes this process over."""
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        become_a_fitting_python()
        sys.stderr.write(
            f"floodgate: Python 3.{OLDEST[1]} to 3.{NEWEST[1]} is needed, this is "
            f"{sys.version.split()[0]} ({sys.executable}).\n"
            "  On Debian 12, Ubuntu 24.04 and newer: apt-get install python3\n"
        )
        return 1
    # This folder is on the path as the script's own; the packages stand one above.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    from deploy.setup.main import main as set_up

    return set_up(sys.argv[1:])


def become_a_fitting_python() -> None:
    """Starts again with another Python of this machine, if there is one that fits."""
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        path = shutil.which(f"python3.{minor}")
        if path:
            os.execv(path, [path, *sys.argv])  # noqa: S606 - the user's own command, as it was given


if __name__ == "__main__":
    sys.exit(main())
