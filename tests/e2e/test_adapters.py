"""LoRA adapters of a real vLLM, made here: random ones, in the layout that PEFT writes."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest
from safetensors.numpy import save_file

from tests.plans_file import write_plans
from tests.running_floodgate import MODEL, RunningFloodgate

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(400)]

# SmolLM2-135M: layers, and outputs of its projections, which take 576 inputs.
LAYERS, INPUTS = 30, 576
OUTPUTS = {"q_proj": 576, "v_proj": 192}


def write_adapter(folder: Path, *, rank: int, scale: float) -> Path:
    """An adapter that adds noise; with scale 0 it adds nothing."""
    folder.mkdir()
    source = numpy.random.default_rng(rank)
    tensors = {}
    for layer in range(LAYERS):
        for name, outputs in OUTPUTS.items():
            prefix = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            down = source.normal(0, INPUTS**-0.5, (rank, INPUTS))
            up = source.normal(0, 1, (outputs, rank)) * scale
            tensors[f"{prefix}.lora_A.weight"] = down.astype(numpy.float32)
            tensors[f"{prefix}.lora_B.weight"] = up.astype(numpy.float32)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": MODEL,
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": list(OUTPUTS),
        "bias": "none",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFloodgate]:
    folder = tmp_path_factory.mktemp("adapters")
    modules = {
        "poet": str(write_adapter(folder / "noise", rank=12, scale=0.5)),
        "blank": str(write_adapter(folder / "nothing", rank=4, scale=0)),
    }
    found = RunningFloodgate(
        folder / "home",
        kv_cache_gib=1,
        plans_file=write_plans(folder),
        lora_modules=json.dumps(modules),
    )
    with found.started():
        yield found


async def test_adapters_answer_under_their_names_beside_an_unchanged_base(
    running: RunningFloodgate,
) -> None:
    body = {
        "messages": [{"role": "user", "content": "Name three rivers."}],
        "max_tokens": 24,
        "temperature": 0,
        "ignore_eos": True,
    }
    async with running.client() as client:
        cards = (await client.get("/v1/models")).json()["data"]
        assert [card["id"] for card in cards] == ["blank", "poet", MODEL]
        names = [MODEL, "poet", "blank", MODEL]
        # At the same time: one batch holds the base and both adapters.
        answers = await asyncio.gather(
            *(client.post("/v1/chat/completions", json={"model": n, **body}) for n in names)
        )
        assert [answer.status_code for answer in answers] == [200] * 4
        assert [answer.json()["model"] for answer in answers] == names
        base, poet, blank, again = (a.json()["choices"][0]["message"]["content"] for a in answers)
        assert base == again == blank
        assert poet != base
        while True:
            days = (await client.get("/keys/usage?days=2")).json()["days"]
            if sum(day["requests"] for day in days) == len(names):
                break
            await asyncio.sleep(0.1)
        assert {model for day in days for model in day["models"]} == set(names)
