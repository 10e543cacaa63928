"""People who watch their place: one reader a worker, however many watch.

Each stream would otherwise ask the ledger by itself; here one call reads two hundred places.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from waitlist.errors import WaitlistError, WatchersFull
from waitlist.line.entries import ENTRIES_PER_CALL, Entries
from waitlist.line.standing import Standing, Standings

log = structlog.get_logger(__name__)

# Places are told at most this much later: half of what others poll at best (5 s).
_ROUND_S = 2.0


class Watcher:
    """One stream. Holds the newest standing that it has not been told."""

    def __init__(self, standing: Standing) -> None:
        self._told = standing
        self._news: Standing | None = None
        self._arrived = asyncio.Event()
        self.gone = False

    def tell(self, standing: Standing | None) -> None:
        """None: the entry is there no longer."""
        if standing is None:
            self.gone = True
        elif standing != self._told:
            self._news = standing
        else:
            return
        self._arrived.set()

    async def next(self) -> Standing | None:
        """Waits for news. None when the entry is there no longer."""
        await self._arrived.wait()
        self._arrived.clear()
        if self._news is not None:
            self._told, self._news = self._news, None
            return self._told
        return None


class WatchBoard:
    def __init__(self, entries: Entries, standings: Standings, *, watchers_max: int) -> None:
        self._entries = entries
        self.standings = standings
        self._watchers_max = watchers_max
        self._watchers: dict[str, set[Watcher]] = {}
        self._count = 0

    @contextmanager
    def watching(self, entry_id: str, standing: Standing) -> Iterator[Watcher]:
        """A watcher that has been told `standing`. Raises WatchersFull."""
        if self._count >= self._watchers_max:
            raise WatchersFull
        watcher = Watcher(standing)
        self._watchers.setdefault(entry_id, set()).add(watcher)
        self._count += 1
        try:
            yield watcher
        finally:
            self._count -= 1
            self._watchers[entry_id].discard(watcher)
            if not self._watchers[entry_id]:
                del self._watchers[entry_id]

    def has_room(self) -> bool:
        return self._count < self._watchers_max

    async def run(self) -> None:
        """Tells watchers what changed, until cancelled. While the ledger is gone they wait."""
        while True:
            try:
                await self.tell_all()
            except WaitlistError as error:
                log.warning("watching_paused", error=str(error))
            await asyncio.sleep(_ROUND_S)

    async def tell_all(self) -> None:
        """One round. Raises LedgerUnavailable."""
        watched = list(self._watchers)
        for start in range(0, len(watched), ENTRIES_PER_CALL):
            ids = watched[start : start + ENTRIES_PER_CALL]
            for entry_id, entry in zip(ids, await self._entries.read_many(ids), strict=True):
                standing = None if entry is None else await self.standings.of(entry)
                for watcher in self._watchers.get(entry_id, ()):
                    watcher.tell(standing)
