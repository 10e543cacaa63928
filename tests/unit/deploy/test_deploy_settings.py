"""Settings of the launcher, and the file that lists everybody's."""

import os
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from deploy.env_example import env_example
from deploy.errors import Refused
from deploy.settings import LaunchSettings, read_settings
from gateway.settings import GatewaySettings
from loadtests.settings import BenchSettings
from serving.settings import ServingSettings
from waitlist.settings import WaitlistSettings

ROOT = Path(__file__).resolve().parents[3]
KINDS = (LaunchSettings, GatewaySettings, WaitlistSettings, ServingSettings)
GIVEN = {
    "ledger_url": "redis://h:1/0",
    "flow_url": "redis://h:2/0",
    "engine_secret": "0123456789abcdef",
    "model": "owner/model",
}
EXAMPLE = dict(
    line.removeprefix("#").split("=", 1)
    for line in (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    if line.startswith("#FLOODGATE_")
)


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("FLOODGATE_"):
            monkeypatch.delenv(name)


def read_with_what_is_required(kind: type[BaseSettings]) -> BaseSettings:
    fields = kind.model_fields.items()
    required = {n: GIVEN[n] for n, field in fields if field.is_required()}
    if kind is ServingSettings:  # which wants a model or a file of several
        required["model"] = GIVEN["model"]
    return kind(**required)  # type: ignore[arg-type]


def test_env_example_lists_exactly_the_settings() -> None:
    assert (ROOT / ".env.example").read_text(encoding="utf-8") == env_example()


def test_benches_read_no_setting_that_env_example_does_not_list() -> None:
    assert {f"FLOODGATE_{name.upper()}" for name in BenchSettings.model_fields} <= set(EXAMPLE)


def test_every_setting_has_a_meaning_and_stands_once() -> None:
    lines = env_example().splitlines()
    names = [line.partition("=")[0] for line in lines if line.startswith("#FLOODGATE_")]
    assert len(names) == len(set(names)) > 30
    for index, line in enumerate(lines):
        if line.startswith("#FLOODGATE_"):
            assert lines[index - 1].startswith("# ")


def test_cache_is_the_home_unless_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FLOODGATE_HOME", str(tmp_path / "a"))
    assert read_settings(LaunchSettings).folders().models == tmp_path / "a" / "models"
    monkeypatch.setenv("FLOODGATE_CACHE", str(tmp_path / "b"))
    folders = read_settings(LaunchSettings).folders()
    assert (folders.ledger, folders.models) == (tmp_path / "a/ledger", tmp_path / "b/models")


@pytest.mark.parametrize("value", ["0", "65536", "http", "8000.5"])
def test_wrong_value_names_its_variable(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("FLOODGATE_PORT", value)
    with pytest.raises(Refused, match="FLOODGATE_PORT") as refused:
        read_settings(LaunchSettings)
    assert "floodgate settings" in refused.value.remedy


def test_empty_value_is_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOODGATE_PORT", "")
    assert read_settings(LaunchSettings).port == 8000


@pytest.mark.parametrize("name", [name for name, value in EXAMPLE.items() if not value])
@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_line_of_env_example_is_the_default(
    monkeypatch: pytest.MonkeyPatch, kind: type[BaseSettings], name: str
) -> None:
    untouched = read_with_what_is_required(kind)
    monkeypatch.setenv(name, "")
    assert read_with_what_is_required(kind) == untouched


@pytest.mark.parametrize("kind", KINDS)
def test_the_defaults_of_env_example_are_read_back_as_they_are(
    monkeypatch: pytest.MonkeyPatch, kind: type[BaseSettings]
) -> None:
    untouched = read_with_what_is_required(kind)
    for name, value in EXAMPLE.items():
        monkeypatch.setenv(name, value)
    assert read_with_what_is_required(kind) == untouched
