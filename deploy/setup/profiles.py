"""What each use of the checkout needs: locks of Python packages, and programs of the system."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from deploy import machine
from deploy.errors import SetupFailed
from deploy.setup.system_packages import NEEDS, Need

_SERVE: Final = ("redis-server", "libnuma", "compiler", "headers")


@dataclass(frozen=True)
class Profile:
    """`locks` are names of files in constraints/, in the order of installation."""

    name: str
    locks: tuple[str, ...]
    needs: tuple[Need, ...]


def find_profile(name: str, environ: Mapping[str, str] = os.environ) -> Profile:
    """The profile of that name.

    Raises:
        SetupFailed: there is none.
    """
    engine = choose_engine_lock(environ)
    everything = ("base", engine, "dev", "load")
    profiles = {
        "gateway": (("base",), ("redis-server",)),
        "serve": (("base", engine), _SERVE),
        "test": (everything, (*_SERVE, "node", "npm")),
        "bench": (everything, (*_SERVE, "nginx", "wrk")),
    }
    if name not in profiles:
        raise SetupFailed(f"There is no profile {name!r}.", f"Choose one of {', '.join(profiles)}.")
    locks, needs = profiles[name]
    return Profile(name, locks, tuple(NEEDS[need] for need in needs))


def choose_engine_lock(environ: Mapping[str, str]) -> str:
    """`gpu` where FLOODGATE_ACCELERATOR says so, or where it leaves the choice and one is there."""
    wanted = environ.get("FLOODGATE_ACCELERATOR") or "auto"
    if wanted not in ("auto", "cpu", "gpu"):
        raise SetupFailed(
            f"FLOODGATE_ACCELERATOR is {wanted!r}.", "Set it to auto, cpu or gpu, or leave it out."
        )
    if wanted == "auto":
        return "gpu" if machine.has_gpu() else "cpu"
    return wanted
