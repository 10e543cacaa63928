"""What the nodes of a Ray cluster are told."""

import pytest

from serving.cluster.application import build
from serving.cluster.cluster_config import cluster_config, cluster_environment
from serving.errors import SettingsConflict
from serving.settings import ServingSettings

CLUSTER = {"replica_host": "0.0.0.0", "accelerator": "gpu"}


def _with(settings: ServingSettings, **changes: object) -> ServingSettings:
    return ServingSettings(**{**settings.model_dump(exclude_unset=True), **CLUSTER, **changes})


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray's own, at its import
def test_the_config_is_one_that_ray_takes_and_has_what_was_set(settings: ServingSettings) -> None:
    from ray.serve.schema import ServeDeploySchema

    settings = _with(settings, model_name="org/moss", tensor_parallel=4, replicas_max=3)
    config = cluster_config(settings, [settings], proxy_port=8000)
    taken = ServeDeploySchema.model_validate(config)
    (app,) = taken.applications
    assert (app.name, app.route_prefix) == ("floodgate--org--moss", None)
    assert app.args["model_name"] == "org/moss"
    assert (app.args["tensor_parallel"], app.args["replicas_max"]) == (4, 3)


def test_no_secret_is_in_the_config_and_all_are_in_the_environment(
    settings: ServingSettings,
) -> None:
    settings = _with(settings, flow_url="redis://:flowpass@flow:6379/0")
    secrets = ("flowpass", settings.engine_secret.get_secret_value())
    config = str(cluster_config(settings, [settings], proxy_port=8000))
    environment = str(cluster_environment(settings, [settings]))
    for secret in secrets:
        assert secret not in config
        assert secret in environment


def test_the_environment_binds_nothing_to_one_machine(settings: ServingSettings) -> None:
    settings = _with(settings)
    environment = cluster_environment(settings, [settings])
    assert environment["RAY_SERVE_ENABLE_DIRECT_INGRESS"] == "1"
    assert environment["FLOODGATE_REPLICA_HOST"] == "0.0.0.0"
    assert not {"VLLM_HOST_IP", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"} & environment.keys()
    assert "FLOODGATE_TENSOR_PARALLEL" not in environment, "the config says that"


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"replica_host": "127.0.0.1"}, "FLOODGATE_REPLICA_HOST"),
        ({"replica_host": "localhost"}, "FLOODGATE_REPLICA_HOST"),
        ({"accelerator": "auto"}, "FLOODGATE_ACCELERATOR"),
    ],
)
def test_what_holds_on_one_machine_only_is_refused(
    settings: ServingSettings, changes: dict[str, object], word: str
) -> None:
    settings = _with(settings, **changes)
    with pytest.raises(SettingsConflict, match=word):
        cluster_config(settings, [settings], proxy_port=8000)


def test_an_application_of_a_file_must_say_what_it_runs_on(
    settings: ServingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOODGATE_FLOW_URL", settings.flow_url.get_secret_value())
    monkeypatch.setenv("FLOODGATE_ENGINE_SECRET", settings.engine_secret.get_secret_value())
    with pytest.raises(SettingsConflict, match="accelerator"):
        build({"model": "/models/x"})
