"""From settings to vLLM's and Ray Serve's arguments."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serving.engine.engine_config import (
    deployment_options,
    engine_arguments,
    llm_config_arguments,
    placement_bundles,
    slot_range,
)
from serving.engine.slot_rule import SlotRange
from serving.settings import ServingSettings

WriteAdapter = Callable[..., Path]


def _with(settings: ServingSettings, **changes: Any) -> ServingSettings:
    return settings.model_copy(update=changes)


def test_one_config_for_both_kinds_of_hardware(settings: ServingSettings) -> None:
    cpu, gpu = engine_arguments(settings, "cpu"), engine_arguments(settings, "gpu")
    for arguments in (cpu, gpu):
        assert arguments["enable_prefix_caching"]
        assert arguments["enable_chunked_prefill"]
        assert not arguments["enable_log_requests"]
    assert (cpu["max_num_seqs"], gpu["max_num_seqs"]) == (32, 256)
    assert cpu["kv_cache_memory_bytes"] == 2 * 2**30
    assert "kv_cache_memory_bytes" not in gpu
    assert (cpu["gpu_memory_utilization"], gpu["gpu_memory_utilization"]) == (0.05, 0.9)


def test_slots_are_what_vllm_batches(settings: ServingSettings) -> None:
    settings = _with(settings, replica_slots=7)
    assert engine_arguments(settings, "cpu")["max_num_seqs"] == 7
    assert slot_range(settings, "gpu").start == 7


def test_on_cpus_a_step_is_short_and_no_prompt_fills_it(settings: ServingSettings) -> None:
    arguments = engine_arguments(settings, "cpu")
    assert arguments["max_num_batched_tokens"] == 256
    assert arguments["long_prefill_token_threshold"] == 128
    # What vLLM would refuse: fewer tokens than requests, and a part larger than the context.
    arguments = engine_arguments(_with(settings, replica_slots=1000, context_tokens_max=64), "cpu")
    assert arguments["max_num_batched_tokens"] == 1000
    assert arguments["long_prefill_token_threshold"] == 64
    gpu = engine_arguments(settings, "gpu")
    assert not gpu.keys() & {"max_num_batched_tokens", "long_prefill_token_threshold"}
    own = _with(settings, engine_args={"max_num_batched_tokens": 2048})
    assert engine_arguments(own, "cpu")["max_num_batched_tokens"] == 2048


@pytest.mark.parametrize("eager", [True, False])
def test_eager_can_be_set(settings: ServingSettings, eager: bool) -> None:
    settings = _with(settings, engine_eager=eager)
    assert engine_arguments(settings, "cpu")["enforce_eager"] is eager
    assert engine_arguments(settings, "gpu")["enforce_eager"] is eager


def test_optional_arguments_are_left_to_vllm(settings: ServingSettings) -> None:
    arguments = engine_arguments(settings, "cpu")
    assert "max_model_len" not in arguments
    assert "tool_call_parser" not in arguments
    arguments = engine_arguments(
        _with(settings, context_tokens_max=1024, tool_call_parser="hermes"), "cpu"
    )
    assert arguments["max_model_len"] == 1024
    assert arguments["tool_call_parser"] == "hermes"
    assert arguments["enable_auto_tool_choice"]


def test_adapters_are_vllms_own_with_room_for_the_largest(
    settings: ServingSettings, write_adapter: WriteAdapter
) -> None:
    assert "enable_lora" not in engine_arguments(settings, "cpu")
    modules = {"poet": str(write_adapter("a", r=8)), "cook": str(write_adapter("b", r=9))}
    arguments = engine_arguments(_with(settings, lora_modules=modules), "cpu")
    assert arguments["enable_lora"]
    assert (arguments["max_loras"], arguments["max_lora_rank"]) == (2, 16)
    assert arguments["lora_modules"] == [{"name": n, "path": path} for n, path in modules.items()]


def test_no_more_than_eight_adapters_take_part_in_a_batch(
    settings: ServingSettings, write_adapter: WriteAdapter
) -> None:
    modules = {f"adapter{number}": str(write_adapter("a", r=4)) for number in range(9)}
    arguments = engine_arguments(_with(settings, lora_modules=modules), "gpu")
    assert (arguments["max_loras"], arguments["max_cpu_loras"]) == (8, 9)


def test_the_operators_arguments_win(settings: ServingSettings) -> None:
    settings = _with(settings, engine_args={"max_num_seqs": 3, "quantization": "awq"})
    arguments = engine_arguments(settings, "gpu")
    assert arguments["max_num_seqs"] == 3
    assert arguments["quantization"] == "awq"


def test_a_gpu_replica_asks_for_one_gpu_per_rank(settings: ServingSettings) -> None:
    bundles = placement_bundles(_with(settings, tensor_parallel=4), "gpu", 64)
    assert sum(bundle.get("GPU", 0) for bundle in bundles) == 4
    assert bundles[0]["CPU"] == 1


def test_stages_of_a_pipeline_have_gpus_of_their_own(settings: ServingSettings) -> None:
    settings = _with(settings, tensor_parallel=8, engine_args={"pipeline_parallel_size": 2})
    assert sum(bundle["GPU"] for bundle in placement_bundles(settings, "gpu", 64)) == 16


def test_cpu_replicas_fit_on_the_machine_together(settings: ServingSettings) -> None:
    bundles = placement_bundles(_with(settings, replicas=2), "cpu", 8)
    assert bundles == [{"CPU": 4.0}]


def test_a_failing_replica_is_tried_once(settings: ServingSettings) -> None:
    options = deployment_options(settings, "cpu", 2)
    assert options["max_constructor_retry_count"] == 1
    assert options["graceful_shutdown_timeout_s"] > settings.stream_life_s_max


@pytest.mark.parametrize(
    ("changes", "expected", "batched"),
    [
        ({}, SlotRange(8, 32, 32, standby=2), 32),
        ({"replica_slots": 3}, SlotRange(1, 3, 3), 3),
        (
            {"replica_slots": 16, "replica_slots_min": 2, "replica_slots_max": 48},
            SlotRange(2, 16, 48, standby=3),
            48,
        ),
        ({"replica_slots_max": 8}, SlotRange(2, 8, 8), 8),
        ({"replica_slots_max": 48}, SlotRange(8, 32, 48, standby=3), 48),
        ({"replica_slots_min": 40}, SlotRange(40, 40, 40, standby=2), 40),
        ({"engine_args": {"max_num_seqs": 20}}, SlotRange(5, 20, 20, standby=1), 20),
        (
            {"replica_slots_max": 8, "engine_args": {"max_num_seqs": 20}},
            SlotRange(2, 8, 8),
            20,
        ),
        (
            {"replica_slots": 8, "replica_slots_min": 8, "engine_args": {"max_num_seqs": 4}},
            SlotRange(8, 8, 8),
            4,
        ),
    ],
    ids=[
        "nothing is set",
        "a start",
        "all three",
        "a bound below the default",
        "a bound above the default",
        "a least above the default",
        "they follow what vLLM batches",
        "vLLM could batch more",
        "requests are to queue inside vLLM",
    ],
)
def test_slots_are_three_numbers_and_vllm_batches_the_most(
    settings: ServingSettings, changes: dict[str, Any], expected: SlotRange, batched: int
) -> None:
    settings = ServingSettings(**{**settings.model_dump(), **changes})
    assert slot_range(settings, "cpu") == expected
    assert engine_arguments(settings, "cpu")["max_num_seqs"] == batched


def test_a_step_has_room_for_all_that_the_operator_has_vllm_batch(
    settings: ServingSettings,
) -> None:
    """vLLM refuses to start with fewer tokens a step than requests."""
    settings = _with(settings, replica_slots=100, engine_args={"max_num_seqs": 1000})
    assert engine_arguments(settings, "cpu")["max_num_batched_tokens"] == 1000


def test_ray_may_go_where_a_pin_or_the_line_wants(settings: ServingSettings) -> None:
    settings = _with(settings, replicas=2, replicas_min=1, replicas_max=4)
    config = deployment_options(settings, "cpu", 8)["autoscaling_config"]
    bounds = [config[f"{name}_replicas"] for name in ("min", "initial", "max")]
    assert bounds == [0, 2, 4]
    terms = config["policy"]["policy_kwargs"]
    assert terms["replicas_min"] == 1
    assert "redis" not in str(terms), "Ray logs them"
    assert placement_bundles(settings, "cpu", 8) == [{"CPU": 2.0}]


def test_model_source_and_name(settings: ServingSettings) -> None:
    settings = _with(settings, model="~/models/x", model_name="moss")
    loading = llm_config_arguments(settings, "cpu", 2)["model_loading_config"]
    assert loading["model_id"] == "moss"
    assert loading["model_source"].startswith("/")
