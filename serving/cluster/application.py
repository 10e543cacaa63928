"""A model as an application of Ray Serve, for one machine and for a cluster alike."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from serving.engine.engine_config import deployment_options
from serving.errors import SettingsConflict
from serving.hardware.accelerator import Accelerator
from serving.hardware.core_claim import usable_cores
from serving.models.model_changes import replica_terms
from serving.settings import ServingSettings

if TYPE_CHECKING:
    from ray.serve import Application


def application_name(model: str) -> str:
    """The name of the application of the model that clients know by this name."""
    return f"floodgate--{model.replace('/', '--')}"


def application(
    settings: ServingSettings, accelerator: Accelerator, *, is_kept: bool = False
) -> Application:
    """What Ray Serve deploys. Its replicas look the model over where they run.

    Of an application that `is_kept` already, the number of replicas stays what it is.
    """
    from ray import serve

    from serving.engine.replica import Replica

    options = deployment_options(settings, accelerator, len(usable_cores()))
    # Deployed anew, one more replica at a time is started, rounded up, and one goes when it is
    # up; Ray's own way stops one first. All at once would want everybody's memory twice.
    options["max_surge_percent"] = 1
    if is_kept:
        options["autoscaling_config"]["initial_replicas"] = None
    deployment = serve.deployment(serve.ingress()(Replica), **options).options(
        # Ray takes every deployment for a new version and starts its replicas anew, also where
        # their number alone is to change, or a failed one is taken back.
        version=_version(settings, accelerator),
        _internal=True,
    )
    return deployment.bind(settings, accelerator)


def _version(settings: ServingSettings, accelerator: Accelerator) -> str:
    terms = json.dumps([accelerator, replica_terms(settings)], sort_keys=True)
    return hashlib.sha256(terms.encode()).hexdigest()[:16]


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
