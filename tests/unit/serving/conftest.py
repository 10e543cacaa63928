"""Settings as the launcher would make them, and the source of the installed Ray and vLLM."""

import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from serving.settings import ServingSettings

# How long an example takes says nothing on a machine that runs other things too.
hypothesis_settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("untimed")


@pytest.fixture
def settings(tmp_path: Path) -> ServingSettings:
    return ServingSettings(
        flow_url="redis://127.0.0.1:6379/0",
        engine_secret="0123456789abcdef",
        model="/models/smollm2",
        home=tmp_path,
    )


def _package_folder(name: str) -> Path:
    """Where a package lies, without importing it: that takes seconds."""
    spec = find_spec(name)
    assert spec is not None, f"{name} is not installed"
    assert spec.origin is not None
    return Path(spec.origin).parent


@pytest.fixture
def ray_folder() -> Path:
    return _package_folder("ray")


@pytest.fixture
def vllm_source() -> str:
    return (_package_folder("vllm") / "v1" / "metrics" / "loggers.py").read_text()


@pytest.fixture
def write_torch_file() -> Callable[[Path, str, bytes], None]:
    """Writes the zip archive that a torch file is, with one entry."""

    def write(path: Path, entry: str, content: bytes) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(entry, content)

    return write
