"""A replica that has no engine, for `floodgate serving` as it is, on real Ray Serve.

As a program it serves. A replica says who it is at every path, and at /stream counts until the
file `let-go` is there. One whose folder is named "broken" cannot start; of one that is named
"stuck" the second start never ends.
"""

import asyncio
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from serving.engine.counted_requests import CountedRequests
from serving.engine.engine_watch import EngineWatch
from serving.engine.hang_watch import HangWatch
from serving.engine.replica_address import ReplicaAddress
from serving.engine.replica_gate import DRAIN_PATH
from serving.engine.serving_replica import ServingReplica
from serving.engine.slot_rule import SlotRange, SlotRule
from serving.engine.start_deadline import StartDeadline
from serving.flow.publisher import Publisher
from serving.flow.record import ReplicaFacts
from serving.flow.record_store import RecordStore


def build(terms: dict[str, Any]) -> Any:
    """As `serving.cluster.application.build`, with a replica that has no engine."""
    import serving.engine.replica
    from serving.cluster import application

    serving.engine.replica.Replica = _Replica  # type: ignore[misc, assignment]
    return application.build(terms)


def _serve() -> None:
    import serving.engine.replica
    from serving.server import run
    from serving.settings import ServingSettings

    # Pickled by value, since it is of the program itself.
    serving.engine.replica.Replica = _Replica  # type: ignore[misc, assignment]
    run(ServingSettings(), lambda step: print(step, flush=True))


class _Replica:
    async def __init__(self, settings: Any, _accelerator: str) -> None:  # type: ignore[misc]
        self._settings = settings
        self._publisher: Publisher | None = None
        self._deadline = StartDeadline(settings.served_name, settings.start_s_max)
        if settings.model.endswith("broken"):
            raise ValueError("the tensors do not fit")
        if settings.model.endswith("stuck"):
            self._hang_in_second_start(Path(settings.model, "starts"))

    def _hang_in_second_start(self, starts: Path) -> None:
        """In the event loop. The file lists who started."""
        with starts.open("a") as file:
            file.write(f"{os.getpid()}\n")
        while len(starts.read_text().splitlines()) == 2:
            time.sleep(0.1)

    async def __serve_build_asgi_app__(self) -> Any:
        settings = self._settings
        who = {
            "model": Path(settings.model).name,
            "slots": settings.replica_slots or 0,
            "pid": os.getpid(),
        }
        # The rest is what serving asks of a replica at the start and at the end.
        told = json.dumps({"who": who, "in_flight": 0, "replica_id": "tiny", "start_s": {}})

        def pieces() -> Iterator[bytes]:
            while not (settings.home / "let-go").exists():
                yield b"counting\n"
            yield b"whole\n"

        async def answer(scope: Any, _receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                return
            if scope["path"] == DRAIN_PATH:
                _close_at_once()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            body = pieces() if scope["path"] == "/stream" else iter([told.encode()])
            for piece in body:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                await asyncio.sleep(0.05)
            await send({"type": "http.response.body", "body": b""})

        self._publisher, requests = self._published(answer)
        self._publisher.start()
        self._deadline.met()
        return requests

    def _published(self, app: Any) -> tuple[Any, Any]:
        """What publishes it from now on, as a replica with an engine is; and `app`, counted."""
        from ray import serve

        settings = self._settings
        replica_id = serve.get_replica_context().replica_id.unique_id
        requests = CountedRequests(app)
        slots = SlotRule(SlotRange(least=1, start=4, most=4))
        serving = ServingReplica(
            ReplicaFacts(settings.served_name, replica_id, context_tokens_max=1, endpoints=()),
            engine=_NoEngine(),
            requests=requests,
            watch=EngineWatch(
                slots, HangWatch(60), unfinished=int, kill=lambda: None, clock=time.monotonic
            ),
            address=ReplicaAddress(settings.replica_host, settings.replica_ports),
            start_s={},
            demand=lambda: None,
            publish=lambda: None,
            close_at_once=lambda: None,
        )
        flow_url = settings.flow_url.get_secret_value()
        store = RecordStore(flow_url, model=settings.served_name, replica_id=replica_id)
        return Publisher(store, serving.record), requests

    async def __del__(self) -> None:
        if self._publisher is not None:
            await asyncio.to_thread(self._publisher.stop)


def _close_at_once() -> None:
    """As `ray_internals` does, which would import vLLM."""
    from ray.serve._private import replica

    replica.RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S = 0.0


class _NoEngine:
    errored = False

    async def pause_generation(self, *, mode: str, clear_cache: bool) -> None:
        pass


if __name__ == "__main__":
    _serve()
