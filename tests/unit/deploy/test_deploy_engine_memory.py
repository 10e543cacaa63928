"""What the replicas need is known before they start."""

from pathlib import Path
from typing import Any

import pytest

from deploy.errors import MachineTooSmall
from deploy.launcher import run_plan
from deploy.launcher.run_plan import check_engine_memory
from deploy.machine import GIB
from serving.settings import ServingSettings


@pytest.fixture
def needed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes that are asked for."""
    asked: list[int] = []
    monkeypatch.setattr(run_plan, "check_memory", lambda needed, _what: asked.append(needed))
    return asked


def settings(model: Path | str, **fields: Any) -> ServingSettings:
    return ServingSettings(
        flow_url="redis://127.0.0.1:6379/0",
        engine_secret="0123456789abcdef",
        model=str(model),
        **fields,
    )


def sparse(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)


@pytest.mark.parametrize("suffix", ["bin", "safetensors"])
def test_weights_count_twice_on_a_processor_and_a_file_a_rank_on_gpus(
    tmp_path: Path, needed: list[int], suffix: str
) -> None:
    for number in (1, 2, 3):
        sparse(tmp_path / f"{number}.{suffix}", number * GIB)
    check_engine_memory([settings("owner/model", kv_cache_gib=4)], on_gpu=False)
    check_engine_memory([settings(tmp_path, kv_cache_gib=4)], on_gpu=False)
    check_engine_memory([settings("owner/model")], on_gpu=True)
    check_engine_memory([settings(tmp_path, tensor_parallel=2)], on_gpu=True)
    assert needed[1] - needed[0] == 12 * GIB
    assert needed[3] - needed[2] == 6 * GIB


def test_too_little_memory_is_told(tmp_path: Path) -> None:
    sparse(tmp_path / "model.safetensors", 2**43)
    with pytest.raises(MachineTooSmall, match=tmp_path.name):
        check_engine_memory([settings(tmp_path)], on_gpu=False)
