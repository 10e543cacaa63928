"""`floodgate up --model FOLDER` on a MOSS folder as it was published."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.moss_checkpoint import SMALL, write_checkpoint, write_tokenizer
from tests.running_floodgate import RunningFloodgate
from tests.running_floodgate import floodgate as floodgate_command

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]


def test_a_damaged_folder_is_told_before_an_engine_starts(tmp_path: Path) -> None:
    folder = tmp_path / "moss-moon-003-sft"
    folder.mkdir()
    write_tokenizer(folder)
    config = {"architectures": ["MossForCausalLM"], "model_type": "moss"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "pytorch_model.bin").write_text("version https://git-lfs.github.com/spec/v1\n")
    running = RunningFloodgate(tmp_path / "home", model=folder)
    done = subprocess.run(
        [floodgate_command(), "up"],
        env=running.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    assert "git lfs pull" in done.stdout.replace("\n", " ") + done.stderr


@pytest.fixture(scope="module")
def moss(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningFloodgate, Path, Any]]:
    """A Floodgate with MOSS, its published folder and the reference."""
    folder = tmp_path_factory.mktemp("published") / "moss-moon-003-sft-plugin"
    reference = write_checkpoint(folder, "bin", **SMALL)
    running = RunningFloodgate(
        tmp_path_factory.mktemp("floodgate"),
        model=folder,
        tool_call_parser="moss",
        kv_cache_gib=0.5,
        # As the reference; on a processor vLLM would choose bfloat16.
        engine_args=json.dumps({"dtype": "float32"}),
    )
    try:
        running.start()
        yield running, folder, reference
    finally:
        running.stop()


def prompt_and_answer(running: RunningFloodgate, reference: Any) -> tuple[int, str]:
    """Number of prompt tokens and the whole answer that the reference gives to "Hello"."""
    import torch
    from transformers import PreTrainedTokenizerFast

    (prepared,) = (running.home / "prepared").iterdir()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(prepared)
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hello"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    ends = json.loads((prepared / "generation_config.json").read_text())["eos_token_id"]
    with torch.no_grad():
        # The published defaults, sampling aside.
        answered = reference.generate(
            **{name: asked[name] for name in ("input_ids", "attention_mask")},
            do_sample=False,
            repetition_penalty=1.02,
            max_new_tokens=256,
            eos_token_id=ends,
            pad_token_id=ends[0],
        )
    prompt_tokens = asked["input_ids"].shape[1]
    return prompt_tokens, tokenizer.decode(answered[0, prompt_tokens:], skip_special_tokens=True)


@pytest.mark.long
def test_a_chat_is_what_the_reference_says(moss: tuple[RunningFloodgate, Path, Any]) -> None:
    running, folder, reference = moss
    headers = {"authorization": f"Bearer {running.new_key()}"}
    with httpx.Client(base_url=running.url, headers=headers, timeout=120) as client:
        models = client.get("/v1/models").json()
        assert [model["id"] for model in models["data"]] == [folder.name]
        body = {
            "model": folder.name,
            "messages": [{"role": "user", "content": "Hello"}],
            "temperature": 0,
        }
        answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    prompt_tokens, content = prompt_and_answer(running, reference)
    assert answer.json()["usage"]["prompt_tokens"] == prompt_tokens
    assert answer.json()["choices"][0]["message"]["content"] == content


@pytest.mark.long
def test_tools_are_offered_and_not_forced(moss: tuple[RunningFloodgate, Path, Any]) -> None:
    running, folder, _ = moss
    headers = {"authorization": f"Bearer {running.new_key()}"}
    function = {"name": "Search", "parameters": {"properties": {"query": {"type": "string"}}}}
    body: dict[str, Any] = {
        "model": folder.name,
        "messages": [{"role": "user", "content": "Hello"}],
        "tools": [{"type": "function", "function": function}],
        "max_tokens": 1,
    }
    with httpx.Client(base_url=running.url, headers=headers, timeout=120) as client:
        offered = client.post("/v1/chat/completions", json=body)
        none = client.post("/v1/chat/completions", json={**body, "tool_choice": "none"})
        forced = client.post("/v1/chat/completions", json={**body, "tool_choice": "required"})
    assert offered.status_code == none.status_code == 200, offered.text + none.text
    # The switches say more where a plugin is on; nobody who wants no call is shown one.
    assert offered.json()["usage"]["prompt_tokens"] > none.json()["usage"]["prompt_tokens"]
    assert forced.status_code == 400
    assert "MOSS decides itself" in forced.text
