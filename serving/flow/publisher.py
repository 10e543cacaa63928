"""Publishing a replica's record on the flow Redis, once a second, whatever happens to Redis.

The publisher has a thread of its own: vLLM's start blocks the replica's event loop for longer
than a record lives. Redis being gone, slow or restarted costs records, never a request: each call
has a deadline, failures are logged when they begin and when they end, and the next second tries
again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from redis.exceptions import RedisError

from serving.flow.flow_connection import REDIS_TIMEOUT_S
from serving.flow.record_store import RecordStore

_PUBLISH_PERIOD_S = 1.0

_log = logging.getLogger(__name__)


class Publisher:
    """Writes what `record()` returns once a second; nothing while it returns None."""

    def __init__(self, store: RecordStore, record: Callable[[], str | None]) -> None:
        self._store = store
        self._record = record
        self._wake = threading.Event()
        self._stopping = False
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)

    def start(self) -> None:
        """Start publishing."""
        self._thread.start()

    def turn_to(self, record: Callable[[], str | None]) -> None:
        """Write what this returns from now on, at once."""
        self._record = record
        self.publish_soon()

    def publish_soon(self) -> None:
        """Publish now, not at the end of the second; returns before it is done."""
        self._wake.set()

    def stop(self) -> None:
        """Publish no more and remove the record. Returns within three Redis deadlines."""
        self._stopping = True
        self._wake.set()
        self._thread.join(timeout=2 * REDIS_TIMEOUT_S)
        try:
            self._store.remove()
        except RedisError as error:
            _log.warning("record not removed, it expires by itself: %s", error)
        self._store.close()

    def _run(self) -> None:
        while not self._stopping:
            self._publish()
            self._wake.wait(_PUBLISH_PERIOD_S)
            self._wake.clear()

    def _publish(self) -> None:
        try:
            record = self._record()
            if record is not None:
                self._store.write(record)
        except RedisError as error:
            if not self._failing:
                _log.warning("record not published: %s", error)
            self._failing = True
        except Exception:
            # Serving must outlive a fault in its own reporting; silence lets the record expire.
            _log.exception("record not published")
        else:
            if self._failing:
                _log.warning("record published again")
            self._failing = False
