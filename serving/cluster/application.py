"""A model as an application of Ray Serve, for one machine and for a cluster alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from serving.engine.engine_config import deployment_options
from serving.errors import SettingsConflict
from serving.hardware.accelerator import Accelerator
from serving.hardware.core_claim import usable_cores
from serving.settings import ServingSettings

if TYPE_CHECKING:
    from ray.serve import Application


def application_name(settings: ServingSettings) -> str:
    """The name of the model's application."""
    return f"floodgate--{settings.served_name.replace('/', '--')}"


def application(settings: ServingSettings, accelerator: Accelerator) -> Application:
    """What Ray Serve deploys. Its replicas look the model over where they run."""
    from ray import serve

    from serving.engine.replica import Replica

    deployment = serve.deployment(
        serve.ingress()(Replica),
        **deployment_options(settings, accelerator, len(usable_cores())),
    )
    return deployment.bind(settings, accelerator)


def build(terms: dict[str, Any]) -> Application:
    """The application of a config file, as `floodgate cluster config` writes it.

    Called by Ray Serve on some node of the cluster, which need not be one that replicas run on.
    `terms` are settings of the model; all others come from the node's environment. Raises
    pydantic.ValidationError, and SettingsConflict where the terms leave the accelerator open.
    """
    settings = ServingSettings(**terms)
    if settings.accelerator == "auto":
        raise SettingsConflict("`accelerator` must be cpu or gpu in a cluster.")
    return application(settings, settings.accelerator)
