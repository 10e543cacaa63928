"""The floor of free disk space under the ledger: below it, the ledger takes no writes.

Redis with fsync on every write ends when a write fails, and a full disk fails it in the midst of a
transaction. So whoever sees the disk shuts the ledger for writes before that, by the server's own
switch: a server that wants replicas and has none refuses each write, and each script before its
first one, so nothing is half written. It holds for every client at once; reads go on.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import redis

_SWITCH: Final = "min-replicas-to-write"
# More than any ledger has. Redis forgets it when it ends.
_SHUT: Final = 9
# The launcher looks twice a second and must not stand still for a ledger that hangs.
_DEADLINE_S: Final = 0.25
# Writes are taken again only well above the floor, so that they do not flicker.
_REOPEN_SHARE: Final = 1.1


class LedgerDisk:
    """Watches one ledger's disk."""

    def __init__(
        self,
        folder: Path,
        url: str,
        *,
        free_bytes_min: int,
        on_event: Callable[[str], None],
    ) -> None:
        """`folder` is the ledger's `dir`. `on_event` gets a line when writes stop or go on."""
        self._folder = folder
        self._free_bytes_min = free_bytes_min
        self._on_event = on_event
        self._client: redis.Redis = redis.Redis.from_url(
            url,
            socket_timeout=_DEADLINE_S,
            socket_connect_timeout=_DEADLINE_S,
            decode_responses=True,
        )
        self._shut = False

    def check(self) -> None:
        """Looks at the disk and sees to it that the server is as it should be. Never raises.

        The server is asked each time: one that was started again has forgotten.
        """
        try:
            free_bytes = shutil.disk_usage(self._folder).free
        except OSError:
            return  # no folder, no disk: the ledger itself says so
        floor = self._free_bytes_min * (_REOPEN_SHARE if self._shut else 1.0)
        shut = free_bytes < floor
        try:
            is_shut = self._client.config_get(_SWITCH)[_SWITCH] == str(_SHUT)
            if is_shut != shut:
                self._client.config_set(_SWITCH, _SHUT if shut else 0)
        except redis.RedisError:
            return  # gone or slow; the next look tries again
        if shut != self._shut:
            self._shut = shut
            self._on_event(
                f"the ledger takes no writes: {free_bytes >> 20} MiB are free where it lies, fewer "
                f"than {self._free_bytes_min >> 20} MiB (FLOODGATE_LEDGER_FREE_BYTES_MIN)"
                if shut
                else f"the ledger takes writes again: {free_bytes >> 20} MiB are free"
            )

    def close(self) -> None:
        self._client.close()
