"""`floodgate serving` as it is, on real Ray Serve, with a replica that has no engine.

As a program it serves; `TinyServing` starts it and asks its replicas. A replica says who it is at
every path, and at /stream counts until the file `let-go` is there. One whose folder is named
"broken" cannot start; of one that is named "stuck" the second start never ends.
"""

import asyncio
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import psutil

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
from tests.free_ports import free_port

_STOP_S_MAX = 30.0


@dataclass(frozen=True)
class TinyReplica:
    """One that answers; one that drains does so too, and takes nothing new."""

    port: int
    pid: int
    model: str
    slots: int
    drains: bool = field(compare=False)


class TinyServing:
    """The program, with its files in `folder`, which has a models file of these models.

    `further` are settings.
    """

    def __init__(
        self,
        folder: Path,
        flow_url: str,
        models: Mapping[str, Mapping[str, Any]],
        **further: Any,
    ) -> None:
        self._folder = folder
        self.models_file = folder / "models.yaml"
        self._port_min = free_port()
        self._ports = range(self._port_min, self._port_min + 1000)
        self.write(models)
        settings = {
            "home": folder / "home",
            "models_file": self.models_file,
            "flow_url": flow_url,
            "engine_secret": "0123456789abcdef",
            "replica_port_min": self._port_min,
            "accelerator": "cpu",
            **further,
        }
        kept = {k: v for k, v in os.environ.items() if not k.startswith("FLOODGATE_")}
        with (folder / "output").open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, __file__],
                env={**kept, **{f"FLOODGATE_{k.upper()}": str(v) for k, v in settings.items()}},
                cwd=Path(__file__).parents[1],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def folder_of(self, name: str) -> str:
        """A model's folder, whole as far as can be seen before a start."""
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
        (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
        return str(folder)

    def write(self, models: Mapping[str, Mapping[str, Any]]) -> None:
        """What is to be served from now on; a model's folder is named by its last part alone."""
        terms = {
            name: {**each, "model": self.folder_of(each["model"])} for name, each in models.items()
        }
        written = self.models_file.with_suffix(".new")
        written.write_text(json.dumps(terms, indent=1))
        written.rename(self.models_file)

    @property
    def output(self) -> str:
        assert self._process.poll() is None, self._text()
        return self._text()

    def _text(self) -> str:
        return (self._folder / "output").read_text(errors="replace")

    async def until_told(self, words: str, *, times: int = 1) -> None:
        """Until so many lines have these words."""
        while sum(words in line for line in self.output.splitlines()) < times:
            await asyncio.sleep(0.1)

    def replicas(self) -> list[TinyReplica]:
        """Those that listen now."""
        found: list[TinyReplica] = []
        for process in psutil.Process(self._process.pid).children(recursive=True):
            try:
                connections = process.net_connections("tcp")
            except psutil.Error:
                continue
            ports = {each.laddr.port for each in connections if each.status == psutil.CONN_LISTEN}
            found += tiny_replicas(ports & set(self._ports))
        return found

    async def until_replicas(self, *wanted: tuple[str, int]) -> list[TinyReplica]:
        """Until exactly these answer, each a folder's name and a number of slots."""
        while True:
            found = await asyncio.to_thread(self.replicas)
            if sorted((each.model, each.slots) for each in found) == sorted(wanted):
                return found
            assert self._process.poll() is None, self._text()
            await asyncio.sleep(0.1)

    async def until_serves(self, model: str, slots: int) -> None:
        """Until such a replica takes requests; fails where meanwhile none of the others does."""
        while True:
            found = await asyncio.to_thread(self.replicas)
            if all(each.drains for each in found):  # one may have come while others were asked
                found = await asyncio.to_thread(self.replicas)
            serving = [(each.model, each.slots) for each in found if not each.drains]
            assert serving, "nobody takes requests"
            if (model, slots) in serving:
                return
            await asyncio.sleep(0.1)

    async def stream(self, replica: TinyReplica) -> asyncio.Task[str]:
        """An answer that has begun, to its end."""
        return await stream(replica.port)

    def let_go(self, go: bool = True) -> None:
        """End all streams, or let new ones begin."""
        path = self._folder / "home" / "let-go"
        path.touch() if go else path.unlink(missing_ok=True)

    def kill_controller(self) -> None:
        """Ray Serve's, which Ray starts again."""
        for process in psutil.Process(self._process.pid).children(recursive=True):
            if process.cmdline()[:1] == ["ray::ServeController"]:
                process.kill()
                return
        raise AssertionError("there is no controller")

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise


async def stream(port: int) -> asyncio.Task[str]:
    """An answer of the replica there that has begun, to its end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /stream HTTP/1.1\r\nhost: tiny\r\nconnection: close\r\n\r\n")
    await reader.readuntil(b"counting")

    async def rest() -> str:
        text = await reader.read()
        writer.close()
        return text.decode()

    return asyncio.create_task(rest())


def tiny_replicas(ports: Collection[int]) -> list[TinyReplica]:
    """Those that answer at one of these."""
    answers = [(port, _ask(port)) for port in ports]
    return [TinyReplica(port, **answer) for port, answer in answers if answer]


def build(terms: dict[str, Any]) -> Any:
    """As `serving.cluster.application.build`, with a replica that has no engine."""
    import serving.engine.replica
    from serving.cluster import application

    serving.engine.replica.Replica = _Replica  # type: ignore[misc, assignment]
    return application.build(terms)


def _ask(port: int) -> dict[str, Any] | None:
    """Who answers there; None for nobody, and for others than replicas."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/")
        who: dict[str, Any] = json.loads(connection.getresponse().read())["who"]
        connection.request("GET", "/-/healthz")
        return {**who, "drains": connection.getresponse().status != HTTPStatus.OK}
    except (OSError, ValueError, KeyError, http.client.HTTPException):
        return None
    finally:
        connection.close()


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
