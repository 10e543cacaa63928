"""Settings as the launcher would make them, and the source of the installed Ray and vLLM."""

import json
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


@pytest.fixture
def write_adapter(tmp_path: Path) -> Callable[..., Path]:
    """Writes the folder of a LoRA adapter as PEFT does, with one small tensor; gives the folder."""

    def write(name: str, **config: object) -> Path:
        folder = tmp_path / "adapters" / name
        folder.mkdir(parents=True, exist_ok=True)
        written = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, **config}
        (folder / "adapter_config.json").write_text(json.dumps(written))
        tensor = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
        header = json.dumps({"lora_A.weight": tensor}).encode()
        (folder / "adapter_model.safetensors").write_bytes(
            len(header).to_bytes(8, "little") + header + bytes(4)
        )
        return folder

    return write
