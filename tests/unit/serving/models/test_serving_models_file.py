"""Several models in one file: what each gets, and what is told of a mistake."""

from pathlib import Path

import pytest

from serving.errors import SettingsConflict
from serving.models.models_file import ModelsFile, read_models
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
        ("# none\na: {", "yaml:2: expected"),
        ("a: {model: x}\nb: /models/b", "yaml:2: 'b': `model` must name"),
        ("a: {replicas: 1}", "yaml:1: 'a': `model` must name"),
        ("a:\n  model: x\n  flow_url: redis://x", "yaml:3: 'a': flow_url cannot be set"),
        ("a: {model: x, replica: 1}", "yaml:1: 'a': replica cannot be set"),
        ("a:\n  model: x\n  replicas: many", "yaml:3: 'a': replicas:"),
        ("a:\n  model: x\n  engine_args:\n    - b", "yaml:3: 'a': engine_args:"),
        ("\na: {model: x, replicas: 5, replicas_max: 2}", "yaml:2: 'a': .*in this order: 5, 5, 2"),
        ("a: {model: x}\nb: {model: x}\na: {model: y}", "yaml:3: 'a' stands here a second time"),
        ("a:\n  model: !!python/name:os.system ''", "yaml:2: could not determine a constructor"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_its_model(
    settings: ServingSettings, tmp_path: Path, text: str, words: str
) -> None:
    with pytest.raises(SettingsConflict, match=words):
        _read(settings, tmp_path, text)


def test_a_file_that_is_not_there(settings: ServingSettings, tmp_path: Path) -> None:
    with pytest.raises(SettingsConflict, match="No such file"):
        read_models(settings.model_copy(update={"models_file": tmp_path / "none.yaml"}))


def _names(models: tuple[ServingSettings, ...] | None) -> list[str] | None:
    return None if models is None else [each.served_name for each in models]


def test_a_file_is_read_again_only_when_it_was_written(
    settings: ServingSettings, tmp_path: Path
) -> None:
    path = tmp_path / "models.yaml"
    path.write_text("a: {model: x}")
    file = ModelsFile(settings.model_copy(update={"models_file": path}))
    assert _names(file.read()) == ["a"]
    assert file.read_change() is None
    path.write_text("a: {model: x}\nb: {model: y}")
    assert _names(file.read_change()) == ["a", "b"]
    assert file.read_change() is None
    other = tmp_path / "other.yaml"
    other.write_text("a: {model: x}\nc: {model: y}")
    other.rename(path)
    assert _names(file.read_change()) == ["a", "c"]


def test_a_mistake_is_told_once_and_so_is_a_file_that_is_gone(
    settings: ServingSettings, tmp_path: Path
) -> None:
    path = tmp_path / "models.yaml"
    path.write_text("a: {model: x}")
    file = ModelsFile(settings.model_copy(update={"models_file": path}))
    file.read()
    path.write_text("a: {")
    with pytest.raises(SettingsConflict):
        file.read_change()
    assert file.read_change() is None
    path.unlink()
    with pytest.raises(SettingsConflict, match="No such file"):
        file.read_change()
    assert file.read_change() is None
    path.write_text("a: {model: x}")
    assert _names(file.read_change()) == ["a"]


def test_without_a_file_nothing_ever_changes(settings: ServingSettings) -> None:
    file = ModelsFile(settings)
    assert file.read() == (settings,)
    assert file.read_change() is None
