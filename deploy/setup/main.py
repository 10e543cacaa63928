"""The set-up, step by step, and then the command that it was for."""

import os
import sys
import time
from pathlib import Path
from typing import Final

from deploy import machine
from deploy.errors import DeployError, SetupFailed
from deploy.setup import system_packages
from deploy.setup.environment import Environment
from deploy.setup.profiles import Profile, find_profile
from deploy.setup.progress import Progress

ROOT: Final = Path(__file__).resolve().parents[2]
_USAGE: Final = "usage: python3 deploy/bootstrap.py [gateway|serve|test|bench] [-- COMMAND ...]"
# Measured on x86-64: 2.9 GB installed for CPU, and up to half of it again in pip's cache. The
# CUDA libraries of the GPU build take about 12 GB.
_DISK_BYTES: Final = {"base": machine.GIB // 2, "cpu": 5 * machine.GIB, "gpu": 20 * machine.GIB}
_MEMORY_BYTES: Final = 2 * machine.GIB
# Tells the launcher when the whole start began, on the machine's monotonic clock.
STARTED_AT: Final = "FLOODGATE_STARTED_AT_MONOTONIC_S"


def main(arguments: list[str]) -> int:
    """Prepares the profile and becomes the command; the exit status where that fails."""
    os.environ.setdefault(STARTED_AT, f"{time.monotonic():.3f}")
    own, _, command = _split(arguments)
    if len(own) > 1 or own[:1] in (["-h"], ["--help"]):
        sys.stderr.write(_USAGE + "\n")
        return 2
    environment = Environment.of_checkout(ROOT)
    try:
        prepare(environment, find_profile(own[0] if own else "serve"))
    except DeployError as error:
        sys.stderr.write(f"\nfloodgate: {error.message}\n")
        if error.remedy:
            sys.stderr.write(f"  {error.remedy}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("\nfloodgate: interrupted. The next try goes on from here.\n")
        return 130
    if command:
        _become(command, environment)
    return 0


def prepare(environment: Environment, profile: Profile) -> None:
    """Installs whatever of the profile is not there yet.

    Raises:
        DeployError: what is missing and what to do about it.
    """
    missing = system_packages.missing(profile.needs)
    parts = environment.parts_missing(profile.locks)
    if not missing and not parts:
        return
    machine.check_platform()
    sys.stderr.write(f"Setting up ({profile.name}); details in {environment.log_path}\n")
    locks = [name for name in parts if name in _DISK_BYTES]
    if locks:
        machine.check_memory(_MEMORY_BYTES, "The set-up")
        needed = sum(_DISK_BYTES[name] for name in locks)
        machine.check_disk(environment.venv, needed, "The Python environment")
    try:
        progress = Progress(environment.log_path)
    except OSError as error:
        raise SetupFailed(
            f"{environment.venv} cannot be written: {error.strerror}.",
            "Set FLOODGATE_VENV to a folder of yours.",
        ) from error
    if parts and not environment.venv.joinpath("bin", "python").exists():
        missing += system_packages.missing([system_packages.VENV_NEED])
    if missing:
        system_packages.install(missing, progress)
    if parts:
        environment.install(profile.locks, progress)


def _split(arguments: list[str]) -> tuple[list[str], str, list[str]]:
    if "--" not in arguments:
        return arguments, "", []
    at = arguments.index("--")
    return arguments[:at], "--", arguments[at + 1 :]


def _become(command: list[str], environment: Environment) -> None:
    """Runs the command in this process's place, as if the environment were activated."""
    environ = dict(os.environ, VIRTUAL_ENV=str(environment.venv))
    environ["PATH"] = f"{environment.venv / 'bin'}:{environ.get('PATH', os.defpath)}"
    environ.pop("PYTHONHOME", None)
    sys.stderr.flush()
    try:
        os.execvpe(command[0], command, environ)  # noqa: S606 - the caller's command
    except FileNotFoundError:
        sys.stderr.write(f"floodgate: there is no command {command[0]!r}.\n")
        sys.exit(127)
