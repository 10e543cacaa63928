"""deploy/moss.env names settings that exist, with values that they take."""

from pathlib import Path

import pytest
from dotenv import dotenv_values

from deploy.settings import LaunchSettings
from gateway.settings import GatewaySettings
from serving.engine_config import engine_arguments
from serving.settings import ServingSettings

MOSS_ENV = Path(__file__).parents[3] / "deploy" / "moss.env"


def test_its_settings_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {name: value for name, value in dotenv_values(MOSS_ENV).items() if value}
    fields = {
        f"FLOODGATE_{field.upper()}"
        for kind in (LaunchSettings, ServingSettings, GatewaySettings)
        for field in kind.model_fields
    }
    assert values.keys() <= fields
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    settings = ServingSettings(
        flow_url="redis://127.0.0.1:6379/0", engine_secret="0123456789abcdef"
    )
    arguments = engine_arguments(settings, "gpu")
    assert arguments["max_model_len"] == 2048
    assert arguments["tool_call_parser"] == "moss"
    assert settings.accelerator == "gpu"
