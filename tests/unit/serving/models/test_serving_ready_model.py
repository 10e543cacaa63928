"""A model of several whose folder no engine could load, before anything is started."""

import json
from pathlib import Path

import pytest

from serving.errors import ModelUnusable
from serving.phases import Phases
from serving.ready_model import usable_models
from serving.settings import ServingSettings


@pytest.fixture
def good(tmp_path: Path, settings: ServingSettings) -> ServingSettings:
    folder = tmp_path / "good"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    return settings.model_copy(update={"model": str(folder), "model_name": "good"})


def lost(settings: ServingSettings, name: str) -> ServingSettings:
    folder = settings.home / f"nowhere-{name}"
    return settings.model_copy(update={"model": str(folder), "model_name": name})


def test_a_lost_model_is_told_and_stops_no_other(good: ServingSettings) -> None:
    told: list[str] = []
    usable, unusable = usable_models([lost(good, "first"), good], Phases(told.append))
    assert [each.served_name for each in usable] == ["good"]
    assert unusable == ["first"]
    (line,) = told
    assert "first does not start: There is no model folder" in line


def test_without_any_that_could_be_loaded_the_start_fails_with_the_first_ones_reason(
    settings: ServingSettings,
) -> None:
    told: list[str] = []
    with pytest.raises(ModelUnusable, match="nowhere-first"):
        usable_models([lost(settings, "first"), lost(settings, "second")], Phases(told.append))
    assert told == []
