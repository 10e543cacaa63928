"""The .env files to begin with name settings that exist, with values that they take."""

from pathlib import Path
from typing import Any

import pytest
from dotenv import dotenv_values

from deploy.settings import LaunchSettings
from gateway.settings import GatewaySettings
from serving.cluster.cluster_config import cluster_config
from serving.engine.engine_config import engine_arguments, placement_bundles
from serving.settings import ServingSettings

DEPLOY = Path(__file__).parents[3] / "deploy"
GIVEN: dict[str, Any] = {
    "flow_url": "redis://127.0.0.1:6379/0",
    "engine_secret": "0123456789abcdef",
}


def read(name: str, monkeypatch: pytest.MonkeyPatch) -> ServingSettings:
    values = {name: value for name, value in dotenv_values(DEPLOY / name).items() if value}
    fields = {
        f"FLOODGATE_{field.upper()}"
        for kind in (LaunchSettings, ServingSettings, GatewaySettings)
        for field in kind.model_fields
    }
    assert values.keys() <= fields
    for variable, value in values.items():
        monkeypatch.setenv(variable, value)
    return ServingSettings(**GIVEN)


@pytest.mark.parametrize("path", sorted(DEPLOY.glob("*.env")), ids=lambda path: path.stem)
def test_its_settings_are_understood(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(path.name, monkeypatch)
    assert settings.accelerator == "gpu"
    assert len(placement_bundles(settings, "gpu", 64)) == settings.tensor_parallel


def test_moss_has_its_context_and_its_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = engine_arguments(read("moss.env", monkeypatch), "gpu")
    assert arguments["max_model_len"] == 2048
    assert arguments["tool_call_parser"] == "moss"


def test_several_nodes_are_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read("gpu-several-nodes.env", monkeypatch)
    (app,) = cluster_config(settings, [settings], proxy_port=8000)["applications"]
    assert app["args"]["tensor_parallel"] == 8
