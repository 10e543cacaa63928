"""From settings to what vLLM and Ray Serve are started with; one place for CPU and GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from serving.engine.slot_rule import SlotRange
from serving.hardware.accelerator import Accelerator
from serving.hardware.cores import threads_per_replica
from serving.models.lora_adapters import adapter_arguments
from serving.models.model_folder import is_local
from serving.settings import ServingSettings

# Slots are vLLM's max_num_seqs: what one step batches. 32 streams on two cores still get 8 tokens
# a second each, about as fast as one reads.
CPU_SLOTS_DEFAULT = 32
GPU_SLOTS_DEFAULT = 256

# Of 32 slots two, of 256 sixteen: see slot_rule. Under sixteen nothing stands by.
SLOTS_FOR_ONE_ON_STANDBY = 16

# SmolLM2-135M takes 23 KiB a token: 2 GiB hold 32 slots of 2,900 tokens.
CPU_KV_CACHE_GIB_DEFAULT = 2.0

# Tokens of one step, and of one prompt in it. A step cannot be left: on vLLM's 2048 tokens a core
# works 4 to 8 s, in which nobody gets a token, and a long prompt fills each step, so that no other
# is begun. Prompts are read 3 % more slowly (509 tokens/s for 525 on two cores).
CPU_STEP_TOKENS = 256
CPU_STEP_TOKENS_OF_A_PROMPT = 128

# vLLM checks this share against the memory that is free when it starts, even where the KV cache
# has a fixed size: its 0.92 fails beside anything else that runs.
CPU_MEMORY_SHARE = 0.05

GIB = 2**30


def model_source(model: str) -> str:
    """A folder's path with the home folder written out, or the hub name as it is."""
    return str(Path(model).expanduser()) if is_local(model) else model


def slot_range(settings: ServingSettings, accelerator: Accelerator) -> SlotRange:
    """How many requests one replica runs at once; the settings are known not to contradict."""
    start = settings.replica_slots
    if start is None:
        default = GPU_SLOTS_DEFAULT if accelerator == "gpu" else CPU_SLOTS_DEFAULT
        start = settings.engine_args.get("max_num_seqs", default)
        start = min(start, settings.replica_slots_max or start)
        start = max(start, settings.replica_slots_min or start)
    most = settings.replica_slots_max or start
    standby = settings.replica_slots_standby
    if standby is None:
        standby = most // SLOTS_FOR_ONE_ON_STANDBY
    return SlotRange(
        least=settings.replica_slots_min or max(1, start // 4),
        start=start,
        most=most,
        # An engine that batches more would run them, and one that batches fewer has a queue anyway.
        standby=standby if settings.engine_args.get("max_num_seqs", most) == most else 0,
    )


def engine_arguments(settings: ServingSettings, accelerator: Accelerator) -> dict[str, Any]:
    """vLLM's engine arguments. The operator's FLOODGATE_ENGINE_ARGS win over ours."""
    eager = settings.engine_eager
    batched: int = settings.engine_args.get("max_num_seqs", slot_range(settings, accelerator).most)
    arguments: dict[str, Any] = {
        "max_num_seqs": batched,
        "tensor_parallel_size": settings.tensor_parallel,
        "enable_prefix_caching": True,
        "enable_chunked_prefill": True,
        # On two CPU cores compiling gave 0.93 to 1.28 times the tokens/s (medians at 1, 8 and 32
        # streams) for 17 s more of a warm start, and 75 to 100 s more of the first.
        "enforce_eager": accelerator == "cpu" if eager is None else eager,
        # The log line of each request holds its prompt.
        "enable_log_requests": False,
    }
    kv_cache_gib = settings.kv_cache_gib
    if accelerator == "cpu":
        kv_cache_gib = kv_cache_gib or CPU_KV_CACHE_GIB_DEFAULT
        arguments["gpu_memory_utilization"] = CPU_MEMORY_SHARE
        arguments["max_num_batched_tokens"] = max(CPU_STEP_TOKENS, batched)
        arguments["long_prefill_token_threshold"] = min(
            CPU_STEP_TOKENS_OF_A_PROMPT, settings.context_tokens_max or CPU_STEP_TOKENS
        )
    else:
        arguments["gpu_memory_utilization"] = settings.gpu_memory_utilization
    if kv_cache_gib is not None:
        arguments["kv_cache_memory_bytes"] = int(kv_cache_gib * GIB)
    if settings.context_tokens_max is not None:
        arguments["max_model_len"] = settings.context_tokens_max
    if settings.tool_call_parser is not None:
        arguments["tool_call_parser"] = settings.tool_call_parser
        arguments["enable_auto_tool_choice"] = True
        # Who asks for no call must not have the model offered the tools.
        arguments["exclude_tools_when_tool_choice_none"] = True
    return arguments | adapter_arguments(settings.lora_modules) | settings.engine_args


def replica_cpus(settings: ServingSettings, cores: int) -> int:
    """Cores that Ray sets aside for a CPU replica when it places it."""
    return threads_per_replica(
        cores=cores, replicas=settings.cores_shared_by, threads=settings.cpu_threads
    )


def placement_bundles(
    settings: ServingSettings, accelerator: Accelerator, cores: int
) -> list[dict[str, float]]:
    """What Ray has to find for one replica; the first bundle is where the replica itself runs."""
    if accelerator == "gpu":
        # One for each of vLLM's workers; more than a node has are spread over nodes.
        workers = settings.tensor_parallel * settings.engine_args.get("pipeline_parallel_size", 1)
        return [{"CPU": 1.0, "GPU": 1.0}] + [{"GPU": 1.0} for _ in range(workers - 1)]
    return [{"CPU": float(replica_cpus(settings, cores))}]


def autoscaling_config(settings: ServingSettings) -> dict[str, Any]:
    """Ray Serve's bounds around our policy, which keeps its own: an operator's pin may be 0."""
    return {
        "min_replicas": 0,
        "initial_replicas": settings.replicas,
        "max_replicas": settings.most_replicas,
        # The policy waits by itself; Ray's delays would come on top.
        "upscale_delay_s": 0,
        "downscale_delay_s": 0,
        "downscale_to_zero_delay_s": 0,
        "policy": {
            "policy_function": "serving.scaling.scaling_policy:LinePolicy",
            "policy_kwargs": {
                "model": settings.served_name,
                "adapters": list(settings.lora_modules),
                "replicas_min": settings.least_replicas,
                "replicas_max": settings.most_replicas,
                "wait_s_target": settings.scale_up_wait_s,
                "down_after_s": settings.scale_down_after_s,
                "to_zero_after_s": settings.scale_to_zero_after_s,
            },
        },
    }


def deployment_options(
    settings: ServingSettings, accelerator: Accelerator, cores: int
) -> dict[str, Any]:
    """The options of the Ray Serve deployment."""
    return {
        "name": settings.served_name.replace("/", "--"),
        "autoscaling_config": autoscaling_config(settings),
        # Admission counts slots; Ray's own limit must never be the one that refuses.
        "max_ongoing_requests": 1_000_000,
        # One try: the second would fail with the same words a minute later.
        "max_constructor_retry_count": 1,
        "health_check_period_s": 2,
        "health_check_timeout_s": 10,
        # A replica that is scaled away lets its longest answer finish, and end it properly.
        "graceful_shutdown_timeout_s": settings.stream_life_s_max + 10,
        "graceful_shutdown_wait_loop_s": 0.2,
        "placement_group_bundles": placement_bundles(settings, accelerator, cores),
        "placement_group_strategy": "PACK",
        "ray_actor_options": {"num_cpus": 1},
        "logging_config": {"enable_access_log": False, "log_level": "WARNING"},
    }


def llm_config_arguments(
    settings: ServingSettings, accelerator: Accelerator, cores: int
) -> dict[str, Any]:
    """The arguments of ray.serve.llm.LLMConfig, less the callback."""
    return {
        "model_loading_config": {
            "model_id": settings.served_name,
            "model_source": model_source(settings.model),
        },
        "engine_kwargs": engine_arguments(settings, accelerator),
        "accelerator_config": {"kind": accelerator},
        "placement_group_config": {"bundles": placement_bundles(settings, accelerator, cores)},
        # With it on, vLLM's metrics go to Ray's agent instead of the replica's registry.
        "log_engine_metrics": False,
    }
