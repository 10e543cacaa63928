"""Replicas that a test publishes, in front of servers of its own."""

import asyncio
import contextlib
from types import TracebackType
from typing import Self

import redis

from serving.flow.model_store import ModelStore
from serving.flow.record import EngineLoad, ReplicaFacts, model_record_json, record_json
from serving.flow.record_store import RecordStore

_PERIOD_S = 0.5


class PublishedReplicas:
    """Renews the records of all that were added; the more slots, the sooner one is chosen."""

    def __init__(self, flow_url: str, model: str) -> None:
        self._flow_url = flow_url
        self._model = model
        self._stores: dict[str, RecordStore] = {}
        self._records: dict[str, str] = {}
        self._keeper = ModelStore(flow_url, model=model)
        self.wanted: int | None = None
        self.start_failure = ""

    def add(self, name: str, url: str, *, slots: int = 4) -> None:
        self._stores[name] = RecordStore(self._flow_url, model=self._model, replica_id=name)
        facts = ReplicaFacts(self._model, name, context_tokens_max=4096, endpoints=())
        self._records[name] = record_json(
            facts, url=url, state="running", slots=slots, load=EngineLoad(), published_at_ms=0
        )
        self._write()

    def fall_silent(self, name: str) -> None:
        """Its record expires by itself, as that of a replica that was stopped."""
        del self._records[name]

    def remove(self, name: str) -> None:
        """As one that goes in good order."""
        del self._records[name]
        self._stores[name].remove()

    def _write(self) -> None:
        for name, record in self._records.items():
            self._stores[name].write(record)
        if self.wanted is not None:
            self._keeper.write(
                model_record_json(
                    replicas_wanted=self.wanted, replicas_max=9, start_failure=self.start_failure
                )
            )

    async def _keep(self) -> None:
        while True:
            with contextlib.suppress(redis.RedisError):  # gone for a while: as replicas do
                self._write()
            await asyncio.sleep(_PERIOD_S)

    async def __aenter__(self) -> Self:
        self._keeping = asyncio.create_task(self._keep())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._keeping
        for store in self._stores.values():
            store.close()
        self._keeper.close()
