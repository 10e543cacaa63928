"""The Ray Serve deployment: one vLLM engine, its HTTP API behind the secret, and its record.

It holds an LLMServer instead of deriving from it, so that the process that deploys it never
imports vLLM (10 s and 600 MB there).
"""

from __future__ import annotations

import asyncio
import http.client
import os
import time
from dataclasses import replace
from typing import Any

import psutil

from serving.accelerator import Accelerator
from serving.cores import thread_binding, threads_per_replica
from serving.engine_config import llm_config_arguments, slots_of
from serving.engine_metrics import read_engine_load
from serving.first_answer import get_first_answer
from serving.model_folder import tokenizer_folder
from serving.publisher import Publisher, RecordStore
from serving.record import (
    EngineLoad,
    ReplicaFacts,
    ReplicaState,
    endpoints_of,
    record_json,
)
from serving.replica_gate import ReplicaGate
from serving.settings import ServingSettings

# Ray answers this path itself, before any check: 200 while it serves, 503 while it drains.
_HEALTH_PATH = "/-/healthz"
# A replica whose event loop does not answer for so long is not published.
_HEALTH_TIMEOUT_S = 1.5
_DRAIN_POLL_S = 0.05


class Replica:
    """Deployed by `serving.server`; one instance is one engine on one port."""

    async def __init__(  # type: ignore[misc]  # Ray Serve awaits constructors
        self, settings: ServingSettings, accelerator: Accelerator, cores: tuple[int, ...]
    ) -> None:
        from ray import serve

        self._settings = settings
        self._draining = False
        self._port: int | None = None
        self._started_at = time.monotonic()
        self._start_s: dict[str, float] = {}
        context = serve.get_replica_context()
        self._facts = ReplicaFacts(
            model=settings.served_name,
            replica_id=context.replica_id.unique_id,
            slots=slots_of(settings, accelerator),
            context_tokens_max=settings.context_tokens_max or 0,
            endpoints=(),
            tokenizer=tokenizer_folder(settings.model),
            adapters=tuple(settings.lora_modules),
        )
        store = RecordStore(
            settings.flow_url.get_secret_value(),
            model=self._facts.model,
            replica_id=self._facts.replica_id,
        )
        self._publisher = Publisher(store, self._record)
        self._publisher.start()
        if accelerator == "cpu":
            _set_cpu_environment(settings, cores, rank=context.rank.local_rank)
        # Imports vLLM, which reads its environment: only now.
        from serving import ray_internals

        self._mark("import vLLM")
        ray_internals.keep_replica_grpc_on(settings.replica_host)
        self._server = await ray_internals.start_engine(
            llm_config_arguments(settings, accelerator, len(cores))
        )
        self._engine = ray_internals.engine_client(self._server)
        self._mark("start engine")

    async def __serve_build_asgi_app__(self) -> ReplicaGate:
        """Called by Ray Serve once the engine runs; the port opens right after."""
        from serving import ray_internals

        api = await ray_internals.build_api(self._server)
        # Tokenizers without the attribute (Mistral's) bring their own format.
        template = getattr(self._engine.get_tokenizer(), "chat_template", "own")
        endpoints = endpoints_of(
            await self._engine.get_supported_tasks(), has_chat_template=template is not None
        )
        self._mark("build API")
        await get_first_answer(api, self._facts.model, endpoints)
        self._mark("first answer")
        self._facts = replace(
            self._facts,
            context_tokens_max=self._engine.model_config.max_model_len,
            endpoints=endpoints,
            template_tokens=_template_tokens(self._engine.get_tokenizer()),
        )
        self._publisher.publish_soon()
        return ReplicaGate(
            api, secret=self._settings.engine_secret.get_secret_value(), control=self
        )

    async def check_health(self) -> None:
        """Called by Ray Serve every two seconds; raises when the engine is dead."""
        await self._server.check_health()

    def state(self) -> dict[str, Any]:
        """Where the seconds of the start went, and the load now."""
        return {
            "replica_id": self._facts.replica_id,
            "state": "draining" if self._draining else "running",
            "start_s": self._start_s,
            "in_flight": read_engine_load().in_flight,
        }

    async def drain(self, *, abort: bool, within_s: float) -> int:
        """Publish "draining"; end all requests now, or await them for `within_s` seconds first.

        Returns how many were cut.
        """
        self._draining = True
        self._publisher.publish_soon()
        deadline = time.monotonic() + within_s
        while not abort and read_engine_load().in_flight:
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(_DRAIN_POLL_S)
        left = read_engine_load().in_flight
        await self._engine.pause_generation(mode="abort", clear_cache=False)
        return left

    async def __del__(self) -> None:
        # Called by Ray Serve at the end, also of a replica that never got this far.
        if publisher := getattr(self, "_publisher", None):
            await asyncio.to_thread(publisher.stop)

    def _mark(self, step: str) -> None:
        elapsed_s = time.monotonic() - self._started_at
        self._start_s[step] = round(elapsed_s - sum(self._start_s.values()), 1)

    def _record(self) -> str | None:
        """The record now, or None when this replica must not be given work. In its own thread."""
        state, url = self._state_and_url()
        if state is None:
            return None
        return record_json(
            self._facts,
            url=url,
            state=state,
            load=read_engine_load() if url else EngineLoad(),
            published_at_ms=time.time_ns() // 1_000_000,
        )

    def _state_and_url(self) -> tuple[ReplicaState | None, str]:
        if not self._facts.endpoints:
            return "starting", ""
        host = self._settings.replica_host
        if self._port is None:
            self._port = _listening_port(self._settings.replica_ports)
        if self._port is None:
            return "starting", ""
        status = _health_status(host, self._port)
        url = f"http://{_address_for_others(host)}:{self._port}"
        if self._draining or status == 503:
            return "draining", url
        return ("running" if status == 200 and not self._engine.errored else None), url


def _template_tokens(tokenizer: Any) -> int:
    """Tokens that the chat template puts around one empty message; 0 where there is no telling."""
    try:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": ""}], add_generation_prompt=True, tokenize=False
        )
        return len(tokenizer.encode(text, add_special_tokens=False))
    except Exception:  # no template, or one that wants more than a message
        return 0


def _set_cpu_environment(settings: ServingSettings, cores: tuple[int, ...], *, rank: int) -> None:
    """What differs between replicas, or holds on CPU alone; the engine's processes inherit it."""
    threads = threads_per_replica(
        cores=len(cores), replicas=settings.replicas, threads=settings.cpu_threads
    )
    workers = settings.tensor_parallel
    # Ray would leave one thread to an actor of one CPU: 40% fewer tokens/s on two cores.
    os.environ["OMP_NUM_THREADS"] = str(max(1, threads // workers))
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = thread_binding(
        cores=cores,
        replicas=settings.replicas,
        rank=rank,
        threads=threads,
        workers=workers,
        binding=settings.cpu_binding,
    )
    # vLLM 0.29 cannot load on CPU what it compiled ahead of time ('function' object has no
    # attribute 'finalize_loading') and compiles anew at every start: 55 s on two cores. Without
    # it, inductor's own cache works.
    os.environ["VLLM_USE_AOT_COMPILE"] = "0"


def _listening_port(ports: range) -> int | None:
    """The port of the HTTP server that Ray Serve opened in this process, if it has by now."""
    for connection in psutil.Process().net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port in ports:
            return int(connection.laddr.port)
    return None


def _health_status(host: str, port: int) -> int | None:
    """The status of Ray's health check, asked as a client would; None without an answer."""
    connection = http.client.HTTPConnection(host, port, timeout=_HEALTH_TIMEOUT_S)
    try:
        connection.request("GET", _HEALTH_PATH)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _address_for_others(host: str) -> str:
    """The address under which the gateway reaches a replica that listens on `host`."""
    if host != "0.0.0.0":  # noqa: S104 - compared, not bound
        return host
    import ray

    return str(ray.util.get_node_ip_address())
