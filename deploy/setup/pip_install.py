"""Installing a lock with the environment's pip, and saying clearly why that failed.

The locks are complete, so pip resolves nothing (--no-deps) and builds nothing (wheels only).
"""

import re
import shutil
from pathlib import Path
from typing import Final

from deploy.errors import SetupFailed
from deploy.setup.progress import Progress, run_logged

# CPU builds of torch are not on the ordinary index; asked for torch alone, and only as the second.
TORCH_CPU_INDEX: Final = "https://download.pytorch.org/whl/cpu"
_TORCH = re.compile(r"^torch==\S+\+cpu", re.MULTILINE)
_NETWORK_TROUBLE = re.compile(
    r"NewConnectionError|NameResolutionError|Temporary failure in name resolution"
    r"|Network is unreachable|ConnectTimeout|ReadTimeout|timed out|ConnectionResetError"
    r"|Connection refused|ProxyError|SSLError|IncompleteRead|Connection broken"
)


def install_lock(venv: Path, lock: Path, progress: Progress) -> None:
    """Installs all packages of a lock.

    Raises:
        SetupFailed: with pip's own last words.
    """
    torch = _TORCH.search(lock.read_text(encoding="utf-8"))
    if torch is not None:
        _install_torch(venv, torch.group(), progress)
    with progress.step(f"Python packages: {lock.name}"):
        if _pip(venv, ["install", "--only-binary", ":all:", "-r", str(lock)], progress) != 0:
            raise _failure(f"The packages of {lock.name} could not be installed", progress)


def install_project(venv: Path, root: Path, progress: Progress) -> None:
    """Installs the checkout itself by reference, with its `floodgate` command."""
    with progress.step("Floodgate itself"):
        if _pip(venv, ["install", "--no-build-isolation", "-e", str(root)], progress) != 0:
            raise _failure("The checkout could not be installed", progress)


def drop_half_installed(venv: Path) -> int:
    """Forgets packages whose installation was cut short, so that pip installs them again.

    pip writes INSTALLER after a package's last file. Returns how many there were.
    """
    dropped = 0
    for folder in venv.glob("lib/python*/site-packages/*.dist-info"):
        if not (folder / "INSTALLER").exists():
            shutil.rmtree(folder)
            dropped += 1
    return dropped


def _install_torch(venv: Path, requirement: str, progress: Progress) -> None:
    with progress.step(f"Python packages: {requirement}"):
        command = ["install", "--only-binary", ":all:", requirement]
        if _pip(venv, command, progress) == 0:
            return
        if _pip(venv, [*command, "--index-url", TORCH_CPU_INDEX], progress) != 0:
            raise _failure(
                f"{requirement} was found neither where pip looks nor at {TORCH_CPU_INDEX}",
                progress,
            )


def _pip(venv: Path, arguments: list[str], progress: Progress) -> int:
    command = [str(venv / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    command += ["--no-input", "--retries", "3", *arguments]
    command += ["--no-deps", "--progress-bar", "off"]
    return run_logged(command, progress)


def _failure(what: str, progress: Progress) -> SetupFailed:
    tail = progress.tail()
    log = f"The whole output is in {progress.log_path}."
    if _NETWORK_TROUBLE.search(tail):
        return SetupFailed(
            f"{what}: the network does not answer.",
            "Check the connection (and pip's proxy and index settings), then run the same command "
            f"again: it goes on where it stopped. {log}",
        )
    if "No space left on device" in tail:
        return SetupFailed(f"{what}: the disk is full.", f"Free some space, then try again. {log}")
    errors = [line for line in tail.splitlines() if line.startswith("ERROR:")]
    return SetupFailed(f"{what}: {errors[-1] if errors else progress.last_words()}", log)
