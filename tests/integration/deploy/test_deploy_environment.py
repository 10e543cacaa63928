"""Filling a real virtual environment from locks, with packages made on the spot: no network."""

import hashlib
import shutil
import zipfile
from pathlib import Path

import pytest

from deploy.errors import SetupFailed
from deploy.setup.environment import Environment
from deploy.setup.progress import Progress

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

PYPROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "checkout"
version = "1"
"""


def write_wheel(folder: Path, name: str, version: str) -> None:
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"VERSION = '{version}'\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in {**files, f"{info}/RECORD": record}.items():
            wheel.writestr(path, text)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with locks `base` and `dev`, and an index that is a folder."""
    root = tmp_path / "checkout"
    (root / "constraints").mkdir(parents=True)
    (root / "wheels").mkdir()
    (root / "constraints" / "base.txt").write_text("one==1\n")
    (root / "constraints" / "dev.txt").write_text("two==1\n")
    (root / "pyproject.toml").write_text(PYPROJECT)
    (root / "backend.py").write_text(BACKEND)
    write_wheel(root / "wheels", "one", "1")
    for name, value in {
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(root / "wheels"),
    }.items():
        monkeypatch.setenv(name, value)
    return root


BACKEND = """\
import zipfile

def build_editable(folder, config_settings=None, metadata_directory=None):
    name = "checkout-1-py3-none-any.whl"
    files = {
        "checkout-1.dist-info/METADATA": "Metadata-Version: 2.1\\nName: checkout\\nVersion: 1\\n",
        "checkout-1.dist-info/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\n"
        "Tag: py3-none-any\\n",
        "checkout-1.dist-info/RECORD": "",
    }
    with zipfile.ZipFile(f"{folder}/{name}", "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
    return name

build_wheel = build_editable
"""


def digest_of_tree(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(f"{path} {path.stat().st_mtime_ns}".encode())
    return digest.hexdigest()


def test_set_up_goes_on_where_it_stopped(checkout: Path, tmp_path: Path) -> None:
    environment = Environment(checkout, tmp_path / "venv")
    progress = Progress(environment.log_path)
    locks = ("base", "dev")

    with pytest.raises(SetupFailed, match=r"dev\.txt"):
        environment.install(locks, progress)
    assert list(environment.parts_missing(locks)) == ["dev", "project"]

    write_wheel(checkout / "wheels", "two", "1")
    shutil.move(checkout / "wheels" / "one-1-py3-none-any.whl", tmp_path)  # not asked for again
    environment.install(locks, progress)
    assert environment.parts_missing(locks) == {}

    before = digest_of_tree(environment.venv / "lib")
    environment.install(locks, progress)
    assert digest_of_tree(environment.venv / "lib") == before

    (checkout / "constraints" / "dev.txt").write_text("two==2\n")
    write_wheel(checkout / "wheels", "two", "2")
    assert list(environment.parts_missing(locks)) == ["dev"]
    environment.install(locks, progress)
    (installed,) = environment.venv.glob("lib/python*/site-packages/two.py")
    assert installed.read_text() == "VERSION = '2'\n"


def test_environment_without_pip_is_made_again(checkout: Path, tmp_path: Path) -> None:
    environment = Environment(checkout, tmp_path / "venv")
    progress = Progress(environment.log_path)
    environment.install(("base",), progress)
    (pip,) = environment.venv.glob("lib/python*/site-packages/pip")
    shutil.rmtree(pip)
    (checkout / "constraints" / "base.txt").write_text("one==1\n\n")
    environment.install(("base",), progress)
    assert environment.parts_missing(("base",)) == {}
