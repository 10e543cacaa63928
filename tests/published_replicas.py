"""Replicas that a test publishes, in front of servers of its own."""

import asyncio
import contextlib
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import redis

from serving.flow.model_store import ModelStore
from serving.flow.record import (
    EngineLoad,
    ReplicaFacts,
    ReplicaState,
    model_record_json,
    record_json,
)
from serving.flow.record_store import RecordStore

_PERIOD_S = 0.5


@dataclass
class _Replica:
    url: str
    slots: int
    state: ReplicaState = "running"


class PublishedReplicas:
    """Renews the records of all that were added; the more slots, the sooner one is chosen."""

    def __init__(self, flow_url: str, model: str) -> None:
        self._flow_url = flow_url
        self._model = model
        self._stores: dict[str, RecordStore] = {}
        self._replicas: dict[str, _Replica] = {}
        self._keeper = ModelStore(flow_url, model=model)
        self.wanted: int | None = None
        self.start_failure = ""

    def add(self, name: str, url: str, *, slots: int = 4) -> None:
        self._stores[name] = RecordStore(self._flow_url, model=self._model, replica_id=name)
        self._replicas[name] = _Replica(url, slots)
        self._write()

    def drain(self, name: str) -> None:
        """It takes nothing more, and is to go."""
        self._replicas[name].state = "draining"
        self._write()

    def fall_silent(self, name: str) -> None:
        """Its record expires by itself, as that of a replica that was stopped."""
        del self._replicas[name]

    def remove(self, name: str) -> None:
        """As one that goes in good order."""
        del self._replicas[name]
        self._stores[name].remove()

    def _write(self) -> None:
        for name, replica in self._replicas.items():
            facts = ReplicaFacts(self._model, name, context_tokens_max=4096, endpoints=())
            record = record_json(
                facts,
                url=replica.url,
                state=replica.state,
                slots=replica.slots,
                load=EngineLoad(),
                published_at_ms=time.time_ns() // 1_000_000,
            )
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
