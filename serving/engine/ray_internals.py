"""All that a replica takes from inside Ray, in one place: Ray 2.60 may move it in 2.61.

A unit test names each of them, so that an upgrade fails there and not at the first request.
Importing this module imports vLLM: 6 s.
"""

from __future__ import annotations

import logging
from logging.handlers import MemoryHandler
from typing import Any

from ray._common.tls_utils import add_port_to_grpc_server
from ray.llm._internal.common.callbacks.base import CallbackBase, CallbackConfig
from ray.serve._private import replica as ray_replica
from ray.serve.llm import LLMConfig, LLMServer
from vllm.entrypoints.openai.models.protocol import LoRAModulePath
from vllm.plugins import load_general_plugins

from serving.processes import kill_family


class SkipNodeInitialization(CallbackBase):  # type: ignore[misc]  # Ray ships no types
    """Keeps Ray from starting a task that imports vLLM once more (8 to 11 s) to fetch nothing.

    vLLM itself fetches a model that is named by its hub name.
    """

    async def on_before_node_init(self) -> None:
        """Called by Ray just before it would start the task."""
        self.ctx.run_init_node = False


class _Server(LLMServer):  # type: ignore[misc]
    """Ray's server, less the telemetry actor that it starts even where usage stats are off.

    That actor imports vLLM too: 350 MB, and 4 s of both cores just when the engine is ready.
    """

    async def _start_engine(self) -> None:
        await self.engine.start()


async def start_engine(llm_config_arguments: dict[str, Any]) -> Any:
    """A started ray.serve.llm.LLMServer. Raises what vLLM raises."""
    modules = llm_config_arguments["engine_kwargs"].get("lora_modules")
    if modules:
        # Ray hands it on as vLLM's command line would have parsed it.
        modules[:] = [LoRAModulePath(**module) for module in modules]
    # For a GPU Ray has vLLM's configuration made in another process, and vLLM loads its plugins
    # where that happens: here MOSS's parser of calls would not be known.
    load_general_plugins()
    llm_config = LLMConfig(
        **llm_config_arguments,
        callback_config=CallbackConfig(callback_class=SkipNodeInitialization),
    )
    server = _Server.sync_init(llm_config)
    await server.start()
    return server


async def build_api(server: Any) -> Any:
    """vLLM's whole HTTP API as a FastAPI application."""
    return await server.__serve_build_asgi_app__()


def engine_client(server: Any) -> Any:
    """vLLM's AsyncLLM inside a started server."""
    return server.engine._engine_client


def unfinished_requests(engine: Any) -> int:
    """Requests that an AsyncLLM has taken and not ended, as it counts them itself."""
    return int(engine.output_processor.get_num_unfinished_requests())


def kill_engine(engine: Any) -> None:
    """End an AsyncLLM's engine processes at once, with the workers they have started.

    vLLM notices, fails what runs and is dead from then on.
    """
    for process in engine.engine_core.resources.engine_manager.processes:
        kill_family(process.pid)


def drop_closed_log_handlers() -> None:
    """Take away what vLLM's logging set-up has closed of Serve's logger in this replica.

    A new controller asks each replica where its log is, and takes one that fails to tell (the
    closed handler has no target any more) for broken: it would stop all of them.
    """
    logger = logging.getLogger("ray.serve")
    for handler in list(logger.handlers):
        if isinstance(handler, MemoryHandler) and handler.target is None:
            logger.removeHandler(handler)


def keep_replica_grpc_on(host: str) -> None:
    """Bind this replica's gRPC port, which Ray puts on every interface, to `host` alone.

    To be called in the replica before Ray opens the port, which is after the constructor. TLS
    keeps strangers out of it either way; this way they do not even connect.
    """

    def add_port(server: Any, address: str) -> int:
        port = address.rpartition(":")[2]
        return int(add_port_to_grpc_server(server, f"{host}:{port}"))

    ray_replica.add_port_to_grpc_server = add_port


def close_at_once() -> None:
    """Have Ray close this replica's port as soon as nothing runs, once it stops the replica.

    For one that has said by itself that it drains; any other stays open until gateways have heard
    of it (`serving.environment`).
    """
    ray_replica.RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S = 0.0
