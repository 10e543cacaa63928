"""The Ray Serve deployment: one vLLM engine, its HTTP API behind the secret, and its record.

It holds an LLMServer instead of deriving from it, so that the process that deploys it never
imports vLLM (10 s and 600 MB there).
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from functools import partial

from serving.engine.counted_requests import CountedRequests
from serving.engine.engine_config import slot_range
from serving.engine.engine_watch import EngineWatch
from serving.engine.hang_watch import HangWatch
from serving.engine.replica_address import ReplicaAddress
from serving.engine.replica_gate import ReplicaGate
from serving.engine.serving_replica import ServingReplica
from serving.engine.slot_rule import SlotRule
from serving.engine.start_deadline import StartDeadline
from serving.engine.starting_replica import StartingReplica
from serving.flow.publisher import Publisher
from serving.flow.record_store import RecordStore
from serving.hardware.accelerator import Accelerator
from serving.hardware.core_claim import usable_cores
from serving.ready_model import with_engine_folder
from serving.settings import ServingSettings


class Replica:
    """Deployed by `serving.server`; one instance is one engine on one port."""

    async def __init__(  # type: ignore[misc]  # Ray Serve awaits constructors
        self, settings: ServingSettings, accelerator: Accelerator
    ) -> None:
        from ray import serve

        # First: Ray calls `__del__` also when the rest of this has failed.
        self._ends = AsyncExitStack()
        self._deadline = StartDeadline(settings.served_name, settings.start_s_max)
        settings = with_engine_folder(settings)
        # Before vLLM binds its threads.
        cores = usable_cores()
        replica_id = serve.get_replica_context().replica_id.unique_id
        self._starting = StartingReplica(settings, accelerator, replica_id)
        self._store = RecordStore(
            settings.flow_url.get_secret_value(), model=settings.served_name, replica_id=replica_id
        )
        self._publisher = Publisher(self._store, self._starting.record)
        self._publisher.start()
        self._ends.push_async_callback(asyncio.to_thread, self._publisher.stop)
        self._server = await self._starting.start_engine(cores)

    async def __serve_build_asgi_app__(self) -> ReplicaGate:
        """Called by Ray Serve once the engine runs; the port opens right after."""
        from serving.engine import ray_internals

        api, facts = await self._starting.build_api(self._server)
        settings = self._starting.settings
        engine = ray_internals.engine_client(self._server)
        requests = CountedRequests(api)
        serving = ServingReplica(
            facts,
            engine=engine,
            requests=requests,
            watch=EngineWatch(
                SlotRule(slot_range(settings, self._starting.accelerator)),
                HangWatch(settings.engine_hang_s_max),
                unfinished=partial(ray_internals.unfinished_requests, engine),
                kill=partial(ray_internals.kill_engine, engine),
                clock=time.monotonic,
            ),
            address=ReplicaAddress(settings.replica_host, settings.replica_ports),
            start_s=self._starting.steps.seconds,
            demand=lambda: self._store.demand,
            publish=self._publisher.publish_soon,
            close_at_once=ray_internals.close_at_once,
        )
        self._publisher.turn_to(serving.record)
        self._deadline.met()
        secret = settings.engine_secret.get_secret_value()
        return ReplicaGate(requests, secret=secret, control=serving)

    async def check_health(self) -> None:
        """Called by Ray Serve every two seconds; raises when the engine is dead."""
        await self._server.check_health()

    async def __del__(self) -> None:
        # Called by Ray Serve at the end.
        await self._ends.aclose()
