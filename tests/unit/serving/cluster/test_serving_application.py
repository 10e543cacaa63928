"""What Ray Serve is given of a model, so that it knows which replicas are still the right ones."""

import pytest

from serving.cluster.application import application
from serving.settings import ServingSettings

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray's own, at its import


def _version(settings: ServingSettings, **terms: object) -> str:
    changed = settings.model_copy(update=terms)
    version: str = application(changed, "cpu")._bound_deployment.version
    return version


def test_the_version_is_of_what_a_replica_is_started_with_and_of_nothing_else(
    settings: ServingSettings,
) -> None:
    settings = settings.model_copy(update={"machine_replicas_max": 4})
    version = _version(settings)
    assert version == _version(settings, replicas=2, replicas_max=4, scale_up_wait_s=3.0)
    assert version == _version(settings, engine_secret="another"), "of each run its own"
    assert version != _version(settings, model="/models/next")
    assert version != _version(settings, machine_replicas_max=5)


def test_one_replica_more_may_run_while_a_version_goes(settings: ServingSettings) -> None:
    deployment = application(settings, "cpu")._bound_deployment
    assert deployment._deployment_config.max_surge_percent == 1


def test_of_one_that_is_kept_the_number_of_replicas_stays(settings: ServingSettings) -> None:
    def initial_replicas(*, is_kept: bool) -> int | None:
        bound = application(settings, "cpu", is_kept=is_kept)._bound_deployment
        found: int | None = bound._deployment_config.autoscaling_config.initial_replicas
        return found

    assert initial_replicas(is_kept=False) == 1
    assert initial_replicas(is_kept=True) is None
