"""A file that operators edit while the gateway runs: read again as it changes.

At start a mistake stops the start; later the file is refused in the log and what it said before
stays. The supervisor reads at the start, and hands each worker what it had when it was last good:
a worker that takes the place of a dead one needs no good file.
"""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from gateway.errors import FileUnusable

log = structlog.get_logger(__name__)

_WATCH_PERIOD_S = 1.0
_Entry = TypeVar("_Entry")


class WatchedFile(Generic[_Entry]):
    """Entries by name, as they were when the file was last good."""

    def __init__(
        self, path: Path, read: Callable[[Path], Mapping[str, _Entry]], *, what: str
    ) -> None:
        """Reads the file. `what` names its entries in the log (`plans`).

        Raises:
            FileUnusable: it cannot be read, or has a mistake; names file and line.
        """
        self.path = path
        self._read = read
        self._what = what
        self._looked_at = self._good = _identity(path)
        self.by_name = read(path)

    def refresh(self) -> bool:
        """Reads the file again if it has changed, and tells; whether it was taken over."""
        # Before the reading: what is written meanwhile differs again.
        identity = _identity(self.path)
        if identity == self._looked_at:
            return False
        self._looked_at = identity
        try:
            taken_over = self.renew()
        except FileUnusable as error:
            log.error(f"{self._what}_refused", error=str(error), kept=sorted(self.by_name))
            return False
        if taken_over:
            names = {self._what: sorted(self.by_name)}
            log.info(f"{self._what}_read", file=str(self.path), **names)
        return taken_over

    def renew(self) -> bool:
        """Reads the file again unless it is the one that was good; whether it was taken over.

        Raises:
            FileUnusable: it has a mistake; `by_name` stays.
        """
        identity = _identity(self.path)
        if identity == self._good:
            return False
        self.by_name = self._read(self.path)
        self._good = identity
        return True


async def keep_fresh(refresh: Callable[[], object]) -> None:
    """Refreshes once a second, beside the loop, until cancelled."""
    while True:
        await asyncio.sleep(_WATCH_PERIOD_S)
        await asyncio.to_thread(refresh)


def _identity(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file is written in place or replaced; None while it is gone."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
