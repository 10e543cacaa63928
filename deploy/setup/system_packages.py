"""Programs and libraries that pip cannot bring: found, or installed with apt where that is allowed.

A need is looked for by what it offers, not by a package's name: a redis-server built by hand, or
a Node from elsewhere, serves as well.
"""

import ctypes
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy import machine
from deploy.errors import SetupFailed
from deploy.setup.progress import Progress, run_logged

# apt-get of an unattended upgrade may hold the lock for minutes.
_APT_LOCK_S_MAX: Final = 300


@dataclass(frozen=True)
class Need:
    """Something that must be on the machine. `package` is what Debian and Ubuntu call it.

    `without` says what happens where it cannot be had; empty: nothing works.
    """

    name: str
    package: str
    found: Callable[[], bool]
    without: str = ""


def missing(needs: Sequence[Need]) -> list[Need]:
    """Those that are not there."""
    return [need for need in needs if not need.found()]


def install(needs: Sequence[Need], progress: Progress) -> None:
    """Installs the packages of `needs` with apt; goes on without those that can be done without.

    Raises:
        SetupFailed: no apt, no right to use it, or it failed; the message names the command.
    """
    try:
        _install(needs, progress)
    except SetupFailed as failed:
        left = missing(needs)
        if any(not need.without for need in left):
            raise
        progress.notice(f"{failed.message} Going on without: {left[0].without}.")
        progress.notice(failed.remedy)


def _install(needs: Sequence[Need], progress: Progress) -> None:
    names = sorted({need.package for need in needs})
    what = ", ".join(need.name for need in needs)
    by_hand = f"apt-get update && apt-get install --no-install-recommends {' '.join(names)}"
    if shutil.which("apt-get") is None:
        raise SetupFailed(
            f"This machine lacks {what}.",
            f"Install what your system calls {', '.join(names)}, then run the same command again.",
        )
    prefix = _apt_prefix()
    if prefix is None:
        raise SetupFailed(
            f"This machine lacks {what}, and installing it takes rights that this user lacks.",
            f"Run: sudo sh -c '{by_hand}', then the same command again.",
        )
    lock = ["-o", f"DPkg::Lock::Timeout={_APT_LOCK_S_MAX}"]
    with progress.step(f"system packages: {' '.join(names)}"):
        # Old lists name versions that the mirrors have dropped.
        updated = run_logged([*prefix, "apt-get", *lock, "update"], progress)
        command = [*prefix, "apt-get", *lock, "install", "-y", "--no-install-recommends", *names]
        if run_logged(command, progress) != 0 or missing(needs):
            cause = "" if updated == 0 else " (the package lists could not be fetched either)"
            raise SetupFailed(
                f"apt-get could not install {' '.join(names)}{cause}: {progress.last_words()}",
                f"The whole output is in {progress.log_path}. By hand: {by_hand}",
            )


def _apt_prefix() -> list[str] | None:
    """What to put before apt-get; None where this user may not run it."""
    quiet = ["env", "DEBIAN_FRONTEND=noninteractive"]
    if machine.is_root():
        return quiet
    if shutil.which("sudo") is None:
        return None
    allowed = subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False)
    return ["sudo", "-n", *quiet] if allowed.returncode == 0 else None


def _program(name: str) -> Callable[[], bool]:
    # Debian keeps servers in /usr/sbin, which is not on every user's PATH.
    return lambda: shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin") is not None


def _library(name: str) -> Callable[[], bool]:
    def found() -> bool:
        try:
            ctypes.CDLL(name)
        except OSError:
            return False
        return True

    return found


def _can_make_environments() -> bool:
    """Debian and Ubuntu split ensurepip, which `python -m venv` needs, from python3."""
    spec = importlib.util.find_spec("ensurepip")
    return spec is not None and spec.origin is not None and Path(spec.origin).exists()


_PYTHON: Final = f"python{sys.version_info.major}.{sys.version_info.minor}"
VENV_NEED: Final = Need("Python's venv module", f"{_PYTHON}-venv", _can_make_environments)

# Measured: one step of 32 answers that are sampled takes 32 ms of sampling instead of 14 ms.
_UNCOMPILED: Final = "sampled answers come about a fifth slower at 32 at a time"

NEEDS: Final = {
    "redis-server": Need("redis-server", "redis-server", _program("redis-server")),
    # vLLM's CPU kernels are linked against it.
    "libnuma": Need("libnuma", "libnuma1", _library("libnuma.so.1")),
    # torch.compile builds vLLM's sampler, on a GPU also kernels, while the engine starts.
    "compiler": Need("a C++ compiler", "g++", _program("g++"), _UNCOMPILED),
    "headers": Need("Python's headers", f"{_PYTHON}-dev", machine.has_python_headers, _UNCOMPILED),
    "node": Need("Node.js", "nodejs", _program("node")),
    "npm": Need("npm", "npm", _program("npm")),
    "nginx": Need("nginx", "nginx-light", _program("nginx")),
    "wrk": Need("wrk", "wrk", _program("wrk")),
}
