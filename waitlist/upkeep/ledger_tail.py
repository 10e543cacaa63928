"""The end of the ledger's append-only file after a kill or a power cut.

A script's writes stand in the file as one transaction, MULTI to EXEC. Where the server died while
it wrote one, Redis with `aof-load-truncated yes` cuts the file at the last whole command, inside
the transaction, and goes on writing behind it. At the start after that, the half transaction
swallows the next whole one: half of an unacknowledged redemption comes back and an acknowledged
one is lost (seen with Redis 7.0.15 and `kill -9`). So the ledger runs with `aof-load-truncated
no`, which refuses such a file, and `repair_tail` takes the half transaction away before each
start. Its writer never got an answer: an answer goes out only after write and fsync.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

from waitlist.errors import LedgerDamaged

# The largest script, 100 invites, writes 30 KB. More than this is no cut-off tail.
_TAIL_BYTES_MAX = 1 << 20
# About 100 MB/s are read: this is a file of 60 GB.
_CHECK_S_MAX = 600.0

_MANIFEST = Path("appendonlydir") / "appendonly.aof.manifest"
_LAST_FILE = re.compile(r"^file (?P<name>\S+) seq \d+ type i$", re.MULTILINE)
_ANALYSED = re.compile(r"AOF analyzed: filename=(?P<name>[^,]+), .*?ok_up_to=(?P<whole>\d+),")
# A count or a length: the marker, digits, and the end of the line; any of it may be missing.
_HEADER = re.compile(rb"(?P<marker>[*$])(?P<number>\d{0,10})(?P<end>\r?\n?)")


def repair_tail(folder: Path) -> int:
    """Makes the files of a stopped ledger loadable; returns the bytes that were cut off.

    `folder` is the ledger's `dir`. Damage of any other kind is left as it is.

    Raises:
        LedgerDamaged: the files are damaged before their end, or cannot be checked.
    """
    manifest = folder / _MANIFEST
    if not manifest.exists():
        return 0
    report = _check(manifest)
    if report is None:
        return 0
    analyses = list(_ANALYSED.finditer(report))
    last_names = _LAST_FILE.findall(manifest.read_text())
    if not analyses or not last_names or analyses[-1]["name"] != last_names[-1]:
        raise _damaged(folder, report.strip().splitlines()[-1:] or ["no report"])
    path = manifest.parent / last_names[-1]
    whole_bytes = int(analyses[-1]["whole"])
    tail_bytes: int = path.stat().st_size - whole_bytes
    with path.open("r+b") as file:
        file.seek(whole_bytes)
        if not 0 < tail_bytes <= _TAIL_BYTES_MAX or not is_cut_short(file.read()):
            raise _damaged(folder, [f"{path.name} is damaged from byte {whole_bytes} on"])
        file.truncate(whole_bytes)
        file.flush()
        os.fsync(file.fileno())
    if _check(manifest) is not None:
        raise _damaged(folder, [f"{path.name} stayed damaged after its tail was cut"])
    return tail_bytes


def is_cut_short(tail: bytes) -> bool:
    """Whether this is the beginning of one command or transaction, and nothing else."""
    position = 0
    while position < len(tail):
        try:
            name, end = _read_command(tail, position)
        except _BrokeOffError:
            return True
        except ValueError:
            return False
        if name == b"EXEC" or (position == 0 and name != b"MULTI"):
            return False  # something whole, so it is not the missing rest that was complained of
        position = end
    return position > 0


class _BrokeOffError(Exception):
    """The bytes end inside a command."""


def _read_command(data: bytes, position: int) -> tuple[bytes, int]:
    """The name of the command at a position, and where it ends.

    Raises _BrokeOffError where the data ends inside it, ValueError where it is none.
    """
    count, position = _read_header(data, position, b"*")
    name = b""
    for i in range(count):
        length, position = _read_header(data, position, b"$")
        end = position + length
        if i == 0:
            name = data[position:end]
        line_end = data[end : end + 2]
        if not b"\r\n".startswith(line_end):
            raise ValueError("an argument is longer than it says")
        if len(line_end) < 2:
            raise _BrokeOffError
        position = end + 2
    return name, position


def _read_header(data: bytes, position: int, marker: bytes) -> tuple[int, int]:
    if position == len(data):
        raise _BrokeOffError
    header = _HEADER.match(data, position)
    if header is None or header["marker"] != marker:
        raise ValueError("no count or length where one belongs")
    if header["number"] and header["end"] == b"\r\n":
        return int(header["number"]), header.end()
    if header.end() == len(data) and header["end"] in (b"", b"\r"):
        raise _BrokeOffError
    raise ValueError("a count or length is no number")


def _check(manifest: Path) -> str | None:
    """What redis-check-aof complains of; None when all is well."""
    program = shutil.which("redis-check-aof")
    if program is None:
        raise LedgerDamaged(
            "redis-check-aof is not installed.",
            hint="It comes with redis-server (Debian: the package redis-tools).",
        )
    try:
        check = subprocess.run(
            [program, str(manifest)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_CHECK_S_MAX,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _damaged(manifest.parent.parent, ["the check took too long"]) from None
    return None if check.returncode == 0 else check.stdout.decode(errors="replace")


def _damaged(folder: Path, reasons: list[str]) -> LedgerDamaged:
    manifest = folder / _MANIFEST
    return LedgerDamaged(
        f"The ledger's files are damaged: {reasons[0]}.",
        hint=f"Nothing was changed. Restore {folder} from a backup, or copy it and then run "
        f"`redis-check-aof --fix {manifest}`, which throws away all that follows the damage.",
    )
