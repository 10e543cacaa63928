"""What a Ray cluster of several nodes is given: a config for `serve deploy`, and an environment.

On one machine `floodgate serving` does both by itself. In a cluster nodes are started by others
(KubeRay, `ray start`), so they are told the same in writing. Secrets are in the environment
alone: Ray shows the config to everybody who sees its dashboard.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

from serving.cluster.application import application_name
from serving.environment import node_environment
from serving.errors import SettingsConflict
from serving.models.models_file import OF_A_MODEL
from serving.settings import ServingSettings

# What the config file says, or what is of the machine where the file was written.
_NOT_OF_A_NODE = OF_A_MODEL | {"model_name", "models_file", "flow_url"}


def cluster_config(
    settings: ServingSettings, models: Sequence[ServingSettings], *, proxy_port: int
) -> dict[str, Any]:
    """The config for `serve deploy`, to be written as YAML.

    `proxy_port`: of Ray's own proxy on the head node, which Ray insists on. Raises
    SettingsConflict for settings that hold on one machine only.
    """
    if _is_loopback(settings.replica_host):
        raise SettingsConflict(
            f"FLOODGATE_REPLICA_HOST is {settings.replica_host}: gateways on other machines could "
            "not reach the replicas. Set it to 0.0.0.0, and a network policy that lets nobody but "
            "the gateways reach them."
        )
    for each in models:
        if each.accelerator == "auto":
            raise SettingsConflict(
                f"{each.served_name}: set FLOODGATE_ACCELERATOR to cpu or gpu. The node that "
                "deploys need not have what replicas run on."
            )
    return {
        "proxy_location": "HeadOnly",
        "http_options": {"host": settings.replica_host, "port": proxy_port},
        "logging_config": {"log_level": "WARNING", "enable_access_log": False},
        "applications": [
            {
                "name": application_name(each.served_name),
                # Each replica has a port of its own, on which every path is the model's.
                "route_prefix": None,
                "import_path": "serving.cluster.application:build",
                "args": _terms(each),
            }
            for each in models
        ],
    }


def cluster_environment(
    settings: ServingSettings, models: Sequence[ServingSettings]
) -> dict[str, str]:
    """The variables that every node must be started with; the settings among them as set."""
    shown = settings.model_dump(exclude=set(_NOT_OF_A_NODE), exclude_defaults=True)
    shown["engine_secret"] = settings.engine_secret.get_secret_value()
    return {
        **{f"FLOODGATE_{name.upper()}": str(value) for name, value in shown.items()},
        **node_environment(settings, models),
        # Whoever reaches Ray's ports and has no token gets nothing; the token is the operator's.
        "RAY_AUTH_MODE": "token",
    }


def _terms(settings: ServingSettings) -> dict[str, Any]:
    """Settings of a model that are not the defaults, as plain values."""
    terms = settings.model_dump(mode="json", include=set(OF_A_MODEL), exclude_defaults=True)
    return {"model_name": settings.served_name, **terms}


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
