"""Several models in one file: what each gets, and what is told of a mistake."""

from pathlib import Path

import pytest

from serving.errors import SettingsConflict
from serving.models.models_file import read_models
from serving.settings import ServingSettings


def _read(settings: ServingSettings, folder: Path, text: str) -> tuple[ServingSettings, ...]:
    path = folder / "models.yaml"
    path.write_text(text)
    return read_models(settings.model_copy(update={"models_file": path, "replica_slots": 16}))


def test_without_a_file_there_is_the_one_model(settings: ServingSettings) -> None:
    assert read_models(settings) == (settings,)


def test_each_model_has_its_own_and_the_rest_of_all(
    settings: ServingSettings, tmp_path: Path
) -> None:
    small, large = _read(
        settings,
        tmp_path,
        """
        small: {model: /models/small, replicas_max: 3}
        org/large: {model: /models/large, replicas: 0, replicas_max: 1, replica_slots: 4,
                    engine_args: {dtype: float16}}
        """,
    )
    assert (small.served_name, small.model) == ("small", "/models/small")
    assert (small.least_replicas, small.replicas, small.most_replicas) == (1, 1, 3)
    assert (large.served_name, large.replicas, large.most_replicas) == ("org/large", 0, 1)
    assert (small.replica_slots, large.replica_slots) == (16, 4)
    assert large.engine_args == {"dtype": "float16"}
    assert small.cores_shared_by == large.cores_shared_by == 4
    assert small.engine_secret == settings.engine_secret


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "there must be models"),
        ("[a]", "there must be models"),
        ("a: {", "expected"),
        ("a: /models/a", "`model` must name"),
        ("a: {replicas: 1}", "`model` must name"),
        ("a: {model: x, flow_url: redis://elsewhere}", "flow_url cannot be set for one model"),
        ("a: {model: x, replica: 1}", "replica cannot be set"),
        ("a: {model: x, replicas: many}", "'a': replicas:"),
        ("a: {model: x, replicas: 5, replicas_max: 2}", "in this order: 5, 5, 2"),
    ],
)
def test_a_mistake_is_told_with_its_model(
    settings: ServingSettings, tmp_path: Path, text: str, words: str
) -> None:
    with pytest.raises(SettingsConflict, match=words):
        _read(settings, tmp_path, text)


def test_a_file_that_is_not_there(settings: ServingSettings, tmp_path: Path) -> None:
    with pytest.raises(SettingsConflict, match="No such file"):
        read_models(settings.model_copy(update={"models_file": tmp_path / "none.yaml"}))
