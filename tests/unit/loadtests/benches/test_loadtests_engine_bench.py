"""Engine bench: how much is measured on a GPU, and bare vLLM's flags beside a replica's."""

import pytest

from loadtests.benches.bare_vllm import CPU_STEP_FLAGS, gpu_flags
from loadtests.benches.engine_plan import Answers, EnginePlan
from loadtests.errors import MeasurementError
from serving.engine.engine_config import CPU_STEP_TOKENS, CPU_STEP_TOKENS_OF_A_PROMPT


@pytest.mark.parametrize(
    ("slots", "levels"), [(256, [1, 8, 32, 128, 256]), (64, [1, 8, 32, 64]), (8, [1, 8])]
)
def test_a_gpu_is_measured_up_to_all_its_slots_and_with_as_many_again_in_line(
    slots: int, levels: list[int]
) -> None:
    plan = EnginePlan().for_gpu(slots)
    assert [level for level, _ in plan.chats] == levels
    assert plan.standing[0] == 2 * slots
    assert all(count >= level for level, count in (*plan.chats, plan.standing))


def test_a_quick_run_sends_fewer_chats_at_the_same_levels() -> None:
    whole, quick = EnginePlan().for_gpu(64), EnginePlan().quick().for_gpu(64)
    assert [level for level, _ in quick.chats] == [level for level, _ in whole.chats]
    assert sum(count for _, count in quick.chats) < sum(count for _, count in whole.chats)
    assert quick.rounds == 1


def test_mixed_answers_are_as_long_on_average_and_the_same_for_both_targets() -> None:
    plan = EnginePlan()
    assert plan.answer_lengths(Answers.ALIKE, 3, seed=1) == [64, 64, 64]
    lengths = plan.answer_lengths(Answers.MIXED, 1000, seed=1)
    assert lengths == plan.answer_lengths(Answers.MIXED, 1000, seed=1)
    assert (min(lengths), max(lengths)) == (32, 96)
    assert abs(sum(lengths) / 1000 - 64) < 3


def test_bare_vllm_gets_the_replica_s_slots_and_what_the_operator_has_set() -> None:
    flags = gpu_flags(
        64,
        {
            "FLOODGATE_GPU_MEMORY_UTILIZATION": "0.8",
            "FLOODGATE_KV_CACHE_GIB": "1.5",
            "FLOODGATE_ENGINE_ARGS": '{"load_format": "dummy", "max_num_seqs": 128}',
        },
        is_eager=True,
    )
    assert flags == [
        *("--max-num-seqs", "64", "--gpu-memory-utilization", "0.8"),
        *("--kv-cache-memory-bytes", "1610612736"),
        *("--enforce-eager", "--load-format", "dummy"),
    ]


def test_without_settings_bare_vllm_takes_the_share_of_memory_that_a_replica_takes() -> None:
    flags = gpu_flags(256, {}, is_eager=False)
    assert flags == ["--max-num-seqs", "256", "--gpu-memory-utilization", "0.9"]


@pytest.mark.parametrize("value", ["true", "[1]", '{"a": 1}', "null"])
def test_an_engine_argument_that_is_no_single_word_is_refused(value: str) -> None:
    with pytest.raises(MeasurementError, match="speculative"):
        gpu_flags(1, {"FLOODGATE_ENGINE_ARGS": f'{{"speculative": {value}}}'}, is_eager=False)


def test_bare_vllm_takes_steps_as_long_as_a_replicas() -> None:
    steps = (
        "--max-num-batched-tokens",
        str(CPU_STEP_TOKENS),
        "--long-prefill-token-threshold",
        str(CPU_STEP_TOKENS_OF_A_PROMPT),
    )
    assert steps == CPU_STEP_FLAGS
