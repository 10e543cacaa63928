"""People who redeem: python -m tests.redeem_process LEDGER_URL FLOW_URL CODES DONE.

CODES has a code and an address a line. What is decided goes to DONE, a line each, as it is
decided: `ok ADDRESS ACCOUNT KEY`, or `used ADDRESS` where an earlier attempt had used the code and
its answer was lost. Started again, it goes on with what is not decided. Kill it at will.
"""

import asyncio
import os
import sys
from pathlib import Path

from waitlist.directory import Directory, open_directory
from waitlist.errors import CodeUsed, LedgerUnavailable

_AT_ONCE = 16


async def redeem(directory: Directory, code: str, email: str) -> str:
    while True:
        try:
            redemption = await directory.redeem(code, email)
        except LedgerUnavailable:
            await asyncio.sleep(0.02)
        except CodeUsed:
            return f"used {email}\n"
        else:
            return f"ok {email} {redemption.account_id} {redemption.api_key}\n"


def undecided(codes: Path, done: Path) -> list[tuple[str, str]]:
    """Codes and addresses that are still to be decided."""
    decided = {line.split()[1] for line in done.read_text().splitlines()}
    rows = [line.split() for line in codes.read_text().splitlines()]
    return [(code, email) for code, email in rows if email not in decided]


async def main(ledger_url: str, flow_url: str, codes: Path, done: Path) -> None:
    queue = undecided(codes, done)
    # One write a line, appended: a kill leaves no half line.
    out = os.open(done, os.O_WRONLY | os.O_APPEND)

    async def work() -> None:
        while queue:
            code, email = queue.pop()
            os.write(out, (await redeem(directory, code, email)).encode())

    async with open_directory(ledger_url, flow_url, deadline_s=30.0) as directory:
        await asyncio.gather(*(work() for _ in range(_AT_ONCE)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4])))
