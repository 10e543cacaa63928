"""A replica whose engine has answered: what it publishes of itself, and how it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from serving.engine.counted_requests import CountedRequests
from serving.engine.engine_metrics import read_engine_load
from serving.engine.engine_watch import EngineWatch
from serving.engine.replica_address import ReplicaAddress
from serving.engine.token_rate import TokenRate
from serving.flow.demand import Demand
from serving.flow.record import ReplicaFacts, ReplicaState, record_json


class Engine(Protocol):
    """What is used of vLLM's AsyncLLM."""

    @property
    def errored(self) -> bool:
        """Whether it is dead."""

    async def pause_generation(self, *, mode: str, clear_cache: bool) -> None:
        """Run nothing any more; mode "abort" ends what runs."""


class ServingReplica:
    """`demand` is what the line asked for last; `publish` has the record written at once.

    `close_at_once` has the port closed without delay when the replica is stopped.
    """

    def __init__(
        self,
        facts: ReplicaFacts,
        *,
        engine: Engine,
        requests: CountedRequests,
        watch: EngineWatch,
        address: ReplicaAddress,
        start_s: Mapping[str, float],
        demand: Callable[[], Demand | None],
        publish: Callable[[], None],
        close_at_once: Callable[[], None],
    ) -> None:
        self._facts = facts
        self._engine = engine
        self._requests = requests
        self._watch = watch
        self._address = address
        self._start_s = start_s
        self._demand = demand
        self._publish = publish
        self._close_at_once = close_at_once
        self._token_rate = TokenRate()
        self._is_draining = False
        self._is_told_dead = False
        requests.on_end = self._look_at_engine

    def _look_at_engine(self) -> None:
        """Publishes a death as its first request fails: with the next second's record, whoever
        comes in place of those that failed would be sent here again.
        """
        if self._engine.errored and not self._is_told_dead:
            self._is_told_dead = True
            self._publish()

    def state(self) -> dict[str, Any]:
        """Where the seconds of the start went, and the requests inside now."""
        return {
            "replica_id": self._facts.replica_id,
            "state": "draining" if self._is_draining else "running",
            "start_s": dict(self._start_s),
            "in_flight": self._requests.unfinished,
        }

    async def drain(self, *, abort: bool, within_s: float) -> int:
        """Publish "draining"; end all requests now, or await them for `within_s` seconds first.

        Returns how many were cut.
        """
        self._is_draining = True
        self._publish()
        if not abort:
            await self._requests.all_ended(within_s=within_s)
        left = self._requests.unfinished
        await self._engine.pause_generation(mode="abort", clear_cache=False)
        self._close_at_once()
        return left

    def record(self) -> str | None:
        """The record now, None where there is no telling. Called in the publisher's thread."""
        load, demand = read_engine_load(), self._demand()
        self._watch.look(load, line_waits=demand is not None and demand.waiting > 0)
        tokens_per_s = self._token_rate.look(load.generation_tokens, now=time.monotonic())
        url, health = self._address.look()
        state = published_state(
            is_open=bool(url),
            health=health,
            ends=self._is_draining or self._watch.is_killed or self._engine.errored,
        )
        if state is None:
            return None
        return record_json(
            self._facts,
            url=url,
            state=state,
            slots=self._watch.slots,
            load=load,
            generation_tokens_per_s=tokens_per_s,
            published_at_ms=time.time_ns() // 1_000_000,
        )


def published_state(*, is_open: bool, health: int | None, ends: bool) -> ReplicaState | None:
    """What a replica is to gateways; None where nobody can tell at the moment.

    `is_open`: its port is there. `health`: the status that Ray answers with, None for no answer.
    `ends`: it is told to, or its engine is dead. That has to be published: the last record, which
    says "running", would live on.
    """
    if not is_open:
        return "starting"
    if ends or health == 503:
        return "draining"
    return "running" if health == 200 else None
