"""Watches what can serve: replica records on the flow Redis, or one upstream server.

Both watchers keep a PoolView that requests read without waiting, and remember whether the engine
has answered since this worker started.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol
from urllib.parse import urlsplit

import structlog

from gateway.engines.absence import AbsenceWatch
from gateway.engines.left_out import LeftOut
from gateway.engines.pools import UPSTREAM_PREFIX, Pool, PoolState, PoolView
from gateway.engines.replica_record import Replica, parse_model, parse_record
from gateway.engines.upstream import Upstream
from gateway.errors import EngineUnreachable, FlowUnavailable
from gateway.flow import redis_keys
from gateway.flow.redis_client import FlowRedis

log = structlog.get_logger(__name__)

REFRESH_S = 1.0
# A model whose serving is gone stays known for ten minutes: callers get 503, not 404.
_MODEL_REMEMBERED_MS = 600_000
# A restarted flow Redis is empty until the replicas' next records, a second later; until then a
# model's last pool holds. Five seconds is the records' own TTL.
_UNLISTED_S_MAX = 5.0
# Beyond a record's own five seconds: a replica that is starved of its processor for so long
# answers nobody either. A process that ends closes its connections, which tells sooner.
_SILENT_S_MAX = 15.0


class Capacity(Protocol):
    """A watcher of what can serve."""

    view: PoolView
    engine_answered: bool

    async def watch(self) -> None:
        """Refreshes the view until cancelled."""

    def leave_out(self, replica_id: str) -> bool:
        """Takes a replica out of the view that no connection could be made to, for some seconds.

        Whether it is out of it: a server that has no record is not left out.
        """


class FlowCapacity:
    """The records that Floodgate's own replicas publish once a second."""

    def __init__(self, flow: FlowRedis, upstream: Upstream, *, clock: Callable[[], float]) -> None:
        self._flow = flow
        self._upstream = upstream
        self._clock = clock
        self._by_model: dict[str, Pool] = {}
        self._models = AbsenceWatch(_UNLISTED_S_MAX)
        self._addresses = AbsenceWatch(_SILENT_S_MAX)
        self._left_out = LeftOut()
        self._empty_since = clock()
        self.view = PoolView()
        self.engine_answered = False

    async def watch(self) -> None:
        while True:
            try:
                await self.refresh()
            except FlowUnavailable as error:
                # The last view holds: the engines are most likely still there.
                log.warning("capacity_unreadable", error=str(error))
                self._show()
            await asyncio.sleep(REFRESH_S)

    async def refresh(self) -> None:
        """One look at the flow Redis.

        Raises:
            FlowUnavailable: it did not answer; the view is as before.
        """
        read_at = self._clock()
        models: list[str] = await self._flow.run(
            "read_models", (redis_keys.MODELS,), (_MODEL_REMEMBERED_MS,)
        )
        listed = {model: await self._pool_of(model) for model in models}
        now = self._clock()
        for model in self._models.look(listed, now):
            self._models.forget(model)
            del self._by_model[model]
        self._by_model |= listed
        if self._by_model:
            self._empty_since = now
        self._left_out.look((r for pool in listed.values() for r in pool.replicas), read_at)
        self._show()
        self._give_up_silent(listed.values(), now)
        if not self.engine_answered:
            await self._probe()

    def leave_out(self, replica_id: str) -> bool:
        self._left_out.add(replica_id, self._clock())
        self._show()
        return True

    def _show(self) -> None:
        now = self._clock()
        absent = self._left_out.ids(now)
        seen = {model: pool.without(absent) for model, pool in self._by_model.items()}
        self.view = PoolView.of(seen, empty_s=now - self._empty_since)

    def _give_up_silent(self, pools: Iterable[Pool], now: float) -> None:
        """Ends what waits for replicas that have fallen silent: their machine is gone, or hangs.

        An answer that still comes is left alone: its replica only cannot reach the flow Redis.
        """
        heard = {replica.url for pool in pools for replica in pool.replicas if replica.url}
        for url in self._addresses.look(heard, now):
            if not self._upstream.give_up(url, silent_s_max=_SILENT_S_MAX):
                self._addresses.forget(url)

    async def _pool_of(self, model: str) -> Pool:
        own, *texts = await self._flow.run(
            "read_replicas",
            (redis_keys.replica_index(model), redis_keys.model_record(model)),
            (redis_keys.replica_record_prefix(model),),
        )
        replicas = tuple(replica for text in texts if (replica := parse_record(text)) is not None)
        keeper, before = parse_model(own), self._by_model.get(model)
        if keeper is not None:
            adapters = keeper.adapters
        else:  # a model whose serving is dead stays known for a while, and its adapters with it
            adapters = before.adapters if before else frozenset()
        return Pool(model, replicas, keeper, adapters)

    async def _probe(self) -> None:
        for pool in self.view.pools():
            if pool.state is PoolState.SCALED_TO_ZERO:
                self.engine_answered = True  # asleep, as it should: callers wait in line
                return
            for replica in pool.running:
                try:
                    await self._upstream.list_models(replica.url)
                except EngineUnreachable as error:
                    log.warning("replica_unreachable", replica=replica.replica_id, error=str(error))
                else:
                    self.engine_answered = True
                    return


class UpstreamCapacity:
    """One OpenAI-compatible server with a fixed number of slots."""

    # Its list of models is both the probe and the news; five seconds keep it cheap.
    _REFRESH_S = 5.0
    # A busy machine may starve one probe; requests find out by themselves when it is really gone.
    _SILENT_PROBES_MAX = 3

    def __init__(
        self, upstream: Upstream, *, url: str, slots: int, clock: Callable[[], float]
    ) -> None:
        self._upstream = upstream
        self._clock = clock
        self._empty_since = clock()
        self._url = url
        self._slots = slots
        # Gateways in front of one server share its line, also when they share flow with others.
        self._pool = UPSTREAM_PREFIX + urlsplit(url).netloc
        self._silent_probes = 0
        self.view = PoolView()
        self.engine_answered = False

    async def watch(self) -> None:
        while True:
            await self.refresh()
            well = self.engine_answered and not self._silent_probes
            await asyncio.sleep(self._REFRESH_S if well else REFRESH_S)

    def leave_out(self, replica_id: str) -> bool:
        return False  # nobody stands in for it, and a probe tells soon enough

    async def refresh(self) -> None:
        """Asks the server for its models; when it stays silent they remain, without slots."""
        try:
            models = await self._upstream.list_models(self._url)
        except EngineUnreachable as error:
            self._silent_probes += 1
            log.warning("upstream_unreachable", url=self._url, error=str(error))
            if not self.view.by_model:
                self.view = PoolView(empty_s=self._clock() - self._empty_since)
            elif self._silent_probes >= self._SILENT_PROBES_MAX:
                self.view = PoolView({model: Pool(self._pool) for model in self.view.by_model})
            return
        self._silent_probes = 0
        self.engine_answered = True
        replica = Replica(
            model="upstream",
            replica_id="upstream",
            url=self._url,
            state="running",
            slots=self._slots,
        )
        pool = Pool(self._pool, (replica,))
        now = self._clock()
        if models:
            self._empty_since = now
        self.view = PoolView(dict.fromkeys(models, pool), now - self._empty_since)
