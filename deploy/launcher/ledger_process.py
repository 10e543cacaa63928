"""The ledger's process: python -m deploy.launcher.ledger_process FOLDER REDIS_SERVER CONFIG.

Repairs what a kill in the middle of a write left at the end of the ledger's files, then becomes
redis-server. In one process, so that a ledger that the supervisor starts again is repaired too.
"""

import os
import sys
from pathlib import Path

from waitlist.errors import LedgerDamaged
from waitlist.upkeep.ledger_tail import repair_tail


def main() -> None:
    folder, program, config = sys.argv[1:]
    try:
        cut_bytes = repair_tail(Path(folder))
    except LedgerDamaged as error:
        sys.exit(f"{error.message} {error.hint}")
    if cut_bytes:
        sys.stderr.write(f"cut {cut_bytes} bytes of an unfinished, never acknowledged write\n")
        sys.stderr.flush()
    os.execv(program, [program, config])  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
