"""Keeping what Ray and its workers wrote, where a start failed and their folder goes."""

from __future__ import annotations

import shutil
from pathlib import Path

# Of each file. An engine's start with all its tracebacks is a quarter of it.
_TAIL_BYTES = 64 * 2**10


def keep_ray_logs(folder: Path, kept: Path) -> None:
    """The last lines of each log below the run's `folder`, in `kept`, for this user alone.

    What an earlier failure left in `kept` goes.
    """
    logs = folder / "ray" / "session_latest" / "logs"
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(mode=0o700, parents=True)
    # Ray Serve's are in a folder of their own.
    for path in (*logs.glob("*"), *logs.glob("serve/*")):
        if path.is_file() and (tail := _tail(path)):
            (kept / path.name).write_bytes(tail)


def _tail(path: Path) -> bytes:
    with path.open("rb") as log:
        log.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        return log.read()
