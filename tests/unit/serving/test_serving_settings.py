"""What the environment must hold, and what wrong values get."""

import pytest
from pydantic import ValidationError

from serving.settings import ServingSettings

REQUIRED = {
    "FLOODGATE_FLOW_URL": "redis://127.0.0.1:6379/0",
    "FLOODGATE_ENGINE_SECRET": "0123456789abcdef",
    "FLOODGATE_MODEL": "/models/smollm2",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("name", REQUIRED)
def test_required(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(name)
    with pytest.raises(ValidationError, match=name.removeprefix("FLOODGATE_").lower()):
        ServingSettings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FLOODGATE_ENGINE_SECRET", "short"),
        ("FLOODGATE_MODEL", ""),
        ("FLOODGATE_REPLICAS", "-1"),
        ("FLOODGATE_ACCELERATOR", "tpu"),
        ("FLOODGATE_REPLICA_SLOTS", "-1"),
        ("FLOODGATE_KV_CACHE_GIB", "0"),
        ("FLOODGATE_ENGINE_ARGS", "[1]"),
        ("FLOODGATE_REPLICA_PORT_MIN", "80"),
    ],
)
def test_wrong_values_are_refused(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError, match=name.removeprefix("FLOODGATE_").lower()):
        ServingSettings()


@pytest.mark.parametrize(
    ("model", "name", "served"),
    [
        ("/models/smollm2/", None, "smollm2"),
        ("owner/model-7b", None, "model-7b"),
        ("owner/model-7b", "moss", "moss"),
    ],
)
def test_served_name(
    model: str, name: str | None, served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOODGATE_MODEL", model)
    if name:
        monkeypatch.setenv("FLOODGATE_MODEL_NAME", name)
    assert ServingSettings().served_name == served


def test_no_secret_is_printed() -> None:
    assert REQUIRED["FLOODGATE_ENGINE_SECRET"] not in repr(ServingSettings())


def test_is_frozen() -> None:
    settings = ServingSettings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.replicas = 2  # type: ignore[misc]


def test_every_field_is_described() -> None:
    assert all(field.description for field in ServingSettings.model_fields.values())


def test_replicas_stay_as_they_are_unless_bounds_say_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FLOODGATE_REPLICAS", "3")
    settings = ServingSettings()
    assert (settings.least_replicas, settings.most_replicas) == (3, 3)
    monkeypatch.setenv("FLOODGATE_REPLICAS_MIN", "0")
    monkeypatch.setenv("FLOODGATE_REPLICAS_MAX", "8")
    settings = ServingSettings()
    assert (settings.least_replicas, settings.most_replicas) == (0, 8)
    monkeypatch.setenv("FLOODGATE_REPLICAS_MAX", "2")
    with pytest.raises(ValidationError, match="in this order: 0, 3, 2"):
        ServingSettings()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ENGINE_ARGS": '{"max_num_seqs": "abc"}'}, "max_num_seqs must be a whole number"),
        ({"ENGINE_ARGS": '{"max_num_seqs": true}'}, "max_num_seqs must be a whole number"),
        ({"ENGINE_ARGS": '{"max_num_seqs": null}'}, "max_num_seqs must be a whole number"),
        ({"ENGINE_ARGS": '{"max_num_seqs": 0}'}, "max_num_seqs must be a whole number"),
        ({"REPLICA_SLOTS": "64", "REPLICA_SLOTS_MAX": "8"}, "in this order: empty, 64, 8"),
        ({"REPLICA_SLOTS": "8", "REPLICA_SLOTS_MIN": "16"}, "in this order: 16, 8, empty"),
        ({"REPLICA_SLOTS_MIN": "16", "REPLICA_SLOTS_MAX": "8"}, "in this order: 16, empty, 8"),
        (
            {"REPLICA_SLOTS": "64", "ENGINE_ARGS": '{"max_num_seqs": 8}'},
            "64 slots are more than max_num_seqs in ENGINE_ARGS, 8",
        ),
        (
            {"REPLICA_SLOTS_MAX": "64", "ENGINE_ARGS": '{"max_num_seqs": 8}'},
            "64 slots are more than max_num_seqs in ENGINE_ARGS, 8",
        ),
        (
            {"REPLICA_SLOTS_MIN": "64", "ENGINE_ARGS": '{"max_num_seqs": 8}'},
            "64 slots are more than max_num_seqs in ENGINE_ARGS, 8",
        ),
    ],
)
def test_slots_that_contradict_each_other_are_refused(
    changes: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in changes.items():
        monkeypatch.setenv(f"FLOODGATE_{name}", value)
    with pytest.raises(ValidationError, match=words):
        ServingSettings()


def test_slots_beyond_what_vllm_batches_are_a_choice_that_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FLOODGATE_ENGINE_ARGS", '{"max_num_seqs": 4}')
    monkeypatch.setenv("FLOODGATE_REPLICA_SLOTS", "8")
    with pytest.raises(ValidationError, match="set REPLICA_SLOTS and REPLICA_SLOTS_MIN"):
        ServingSettings()
    monkeypatch.setenv("FLOODGATE_REPLICA_SLOTS_MIN", "8")
    assert ServingSettings().replica_slots == 8
