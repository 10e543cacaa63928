"""The environment that Ray and vLLM are started in."""

from pathlib import Path

import pytest

from serving.environment import RUN_MARK, run_environment
from serving.settings import ServingSettings
from serving.tls import Certificates


def _environment(settings: ServingSettings) -> dict[str, str]:
    folder = Path("/tmp/floodgate-x")
    return run_environment(
        settings,
        [settings],
        run_folder=folder,
        certificates=Certificates(folder / "a", folder / "c", folder / "k"),
        token="t" * 64,
    )


def test_nobody_else_may_speak_to_ray(settings: ServingSettings) -> None:
    environment = _environment(settings)
    assert environment["RAY_USE_TLS"] == "1"
    assert environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
    assert environment["RAY_AUTH_MODE"] == "token"
    assert environment["VLLM_HOST_IP"] == "127.0.0.1"


def test_marks_every_process_of_the_run(settings: ServingSettings) -> None:
    assert _environment(settings)[RUN_MARK] == "/tmp/floodgate-x"


def test_the_compile_cache_lives_under_home(settings: ServingSettings) -> None:
    environment = _environment(settings)
    for name in ("VLLM_CACHE_ROOT", "TORCHINDUCTOR_CACHE_DIR"):
        assert Path(environment[name]).is_relative_to(settings.home)


@pytest.mark.parametrize(("model", "offline"), [("/models/x", True), ("owner/x", False)])
def test_a_folder_needs_no_hub(settings: ServingSettings, model: str, offline: bool) -> None:
    environment = _environment(settings.model_copy(update={"model": model}))
    assert ("HF_HUB_OFFLINE" in environment) is offline


def test_vllms_own_binding_is_never_used(settings: ServingSettings) -> None:
    assert _environment(settings)["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"


def test_the_engine_secret_is_not_in_it(settings: ServingSettings) -> None:
    assert settings.engine_secret.get_secret_value() not in _environment(settings).values()
