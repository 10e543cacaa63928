"""The Ray Serve deployment: one vLLM engine, its HTTP API behind the secret, and its record.

It holds an LLMServer instead of deriving from it, so that the process that deploys it never
imports vLLM (10 s and 600 MB there).
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from serving.engine.counted_requests import CountedRequests
from serving.engine.engine_config import llm_config_arguments, slot_range
from serving.engine.engine_metrics import read_engine_load
from serving.engine.engine_watch import EngineWatch
from serving.engine.first_answer import get_first_answer
from serving.engine.hang_watch import HangWatch
from serving.engine.replica_address import address_for_others, health_status, listening_port
from serving.engine.replica_gate import ReplicaGate
from serving.engine.slot_rule import SlotRule
from serving.engine.token_rate import TokenRate
from serving.environment import RUN_MARK
from serving.flow.publisher import Publisher, RecordStore
from serving.flow.record import (
    EngineLoad,
    ReplicaFacts,
    ReplicaState,
    endpoints_of,
    record_json,
)
from serving.hardware.accelerator import Accelerator
from serving.hardware.core_claim import claim_block, usable_cores
from serving.hardware.cores import thread_binding, threads_per_replica
from serving.models.model_folder import tokenizer_folder
from serving.ready_model import with_engine_folder
from serving.settings import ServingSettings


class Replica:
    """Deployed by `serving.server`; one instance is one engine on one port."""

    async def __init__(  # type: ignore[misc]  # Ray Serve awaits constructors
        self, settings: ServingSettings, accelerator: Accelerator
    ) -> None:
        from ray import serve

        self._settings = settings = with_engine_folder(settings)
        # Before vLLM binds its threads.
        cores = usable_cores()
        self._draining = False
        self._port: int | None = None
        self._started_at = time.monotonic()
        self._start_s: dict[str, float] = {}
        context = serve.get_replica_context()
        self._facts = ReplicaFacts(
            model=settings.served_name,
            replica_id=context.replica_id.unique_id,
            context_tokens_max=settings.context_tokens_max or 0,
            endpoints=(),
            tokenizer=tokenizer_folder(settings.model),
            adapters=tuple(settings.lora_modules),
        )
        self._slots = SlotRule(slot_range(settings, accelerator))
        self._token_rate = TokenRate()
        self._watch: EngineWatch | None = None
        self._store = RecordStore(
            settings.flow_url.get_secret_value(),
            model=self._facts.model,
            replica_id=self._facts.replica_id,
        )
        self._publisher = Publisher(self._store, self._record)
        self._publisher.start()
        if accelerator == "cpu":
            _set_cpu_environment(settings, cores)
        # Imports vLLM, which reads its environment: only now.
        from serving.engine import ray_internals

        self._mark("import vLLM")
        ray_internals.keep_replica_grpc_on(settings.replica_host)
        self._server = await ray_internals.start_engine(
            llm_config_arguments(settings, accelerator, len(cores))
        )
        self._engine = ray_internals.engine_client(self._server)
        self._mark("start engine")

    async def __serve_build_asgi_app__(self) -> ReplicaGate:
        """Called by Ray Serve once the engine runs; the port opens right after."""
        from serving.engine import ray_internals

        api = await ray_internals.build_api(self._server)
        # Tokenizers without the attribute (Mistral's) bring their own format.
        template = getattr(self._engine.get_tokenizer(), "chat_template", "own")
        endpoints = endpoints_of(
            await self._engine.get_supported_tasks(), has_chat_template=template is not None
        )
        self._mark("build API")
        ray_internals.drop_closed_log_handlers()
        await get_first_answer(api, self._facts.model, endpoints)
        self._mark("first answer")
        self._facts = replace(
            self._facts,
            context_tokens_max=self._engine.model_config.max_model_len,
            endpoints=endpoints,
            template_tokens=_template_tokens(self._engine.get_tokenizer()),
        )
        self._watch = EngineWatch(
            self._slots,
            HangWatch(self._settings.engine_hang_s_max),
            unfinished=partial(ray_internals.unfinished_requests, self._engine),
            kill=partial(ray_internals.kill_engine, self._engine),
            clock=time.monotonic,
        )
        self._publisher.publish_soon()
        self._requests = CountedRequests(api)
        return ReplicaGate(
            self._requests, secret=self._settings.engine_secret.get_secret_value(), control=self
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
            "in_flight": self._requests.unfinished,
        }

    async def drain(self, *, abort: bool, within_s: float) -> int:
        """Publish "draining"; end all requests now, or await them for `within_s` seconds first.

        Returns how many were cut.
        """
        self._draining = True
        self._publisher.publish_soon()
        if not abort:
            await self._requests.all_ended(within_s=within_s)
        left = self._requests.unfinished
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
        load = read_engine_load()
        tokens_per_s = self._token_rate.look(load.generation_tokens, now=time.monotonic())
        if self._watch is not None:
            demand = self._store.demand
            self._watch.look(load, line_waits=demand is not None and demand.waiting > 0)
        state, url = self._state_and_url()
        if state is None:
            return None
        return record_json(
            self._facts,
            url=url,
            state=state,
            slots=self._slots.slots,
            load=load if url else EngineLoad(),
            generation_tokens_per_s=tokens_per_s,
            published_at_ms=time.time_ns() // 1_000_000,
        )

    def _state_and_url(self) -> tuple[ReplicaState | None, str]:
        if not self._facts.endpoints:
            return "starting", ""
        host = self._settings.replica_host
        if self._port is None:
            self._port = listening_port(self._settings.replica_ports)
        if self._port is None:
            return "starting", ""
        status = health_status(host, self._port)
        url = f"http://{address_for_others(host)}:{self._port}"
        is_killed = self._watch is not None and self._watch.is_killed
        if self._draining or is_killed or status == 503:
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


def _set_cpu_environment(settings: ServingSettings, cores: tuple[int, ...]) -> None:
    """What differs between replicas, or holds on CPU alone; the engine's processes inherit it."""
    replicas = settings.cores_shared_by
    threads = threads_per_replica(cores=len(cores), replicas=replicas, threads=settings.cpu_threads)
    run_folder = Path(os.environ.get(RUN_MARK) or tempfile.gettempdir())
    workers = settings.tensor_parallel
    # Ray would leave one thread to an actor of one CPU: 40% fewer tokens/s on two cores.
    os.environ["OMP_NUM_THREADS"] = str(max(1, threads // workers))
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = thread_binding(
        cores=cores,
        replicas=replicas,
        block=claim_block(run_folder, replicas),
        threads=threads,
        workers=workers,
        binding=settings.cpu_binding,
    )
    # vLLM 0.29 cannot load on CPU what it compiled ahead of time ('function' object has no
    # attribute 'finalize_loading') and compiles anew at every start: 55 s on two cores. Without
    # it, inductor's own cache works.
    os.environ["VLLM_USE_AOT_COMPILE"] = "0"
