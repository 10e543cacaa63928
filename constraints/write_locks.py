"""Write the lock files of this folder from the environment that runs this script.

    python constraints/write_locks.py

Each lock holds what its extra of pyproject.toml needs, with everything that this needs in turn,
less what an earlier lock holds. The walk is made for every supported Python and processor, since a
requirement may hold for one of them only. Needs `packaging` and an environment that works.
"""

from __future__ import annotations

import importlib.metadata
import itertools
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

FOLDER = Path(__file__).resolve().parent
# Order matters: a package stands in the first lock that needs it.
LOCKS = {"base": None, "cpu": "cpu", "dev": "dev", "load": "load"}
ALSO = {
    # What `pip install --no-build-isolation` builds this project with.
    "base": ["setuptools"],
    # ray.serve.llm imports it, though only the extra ray[llm] of GPU machines names it.
    "cpu": ["pyarrow"],
}
PYTHONS = ("3.11.2", "3.12.3", "3.13.5")
MACHINES = ("x86_64", "aarch64")
LEFT_OUT = {
    # Those of the ordinary index are built for CUDA: beside CPU torch they break `import vllm`.
    "torchvision",
    "torchaudio",
    "torchcodec",
    # 1 GB that only GPU kernels use; xgrammar asks for it on every x86 machine.
    "triton",
}


def main() -> int:
    project = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text())["project"]
    locked: set[str] = set()
    for lock, extra in LOCKS.items():
        wanted = project["optional-dependencies"][extra] if extra else project["dependencies"]
        roots = [*map(Requirement, wanted), *map(Requirement, ALSO.get(lock, ()))]
        machines_of: dict[str, set[str]] = {}
        for python, machine in itertools.product(PYTHONS, MACHINES):
            for name in _closure(roots, python, machine):
                machines_of.setdefault(name, set()).add(machine)
        new = sorted(machines_of.keys() - locked)
        lines = [_line(name, machines_of[name]) for name in new]
        head = (
            f"# Written by write_locks.py. Complete: install with --no-deps. {len(lines)} packages."
        )
        (FOLDER / f"{lock}.txt").write_text("\n".join([head, *lines, ""]))
        locked.update(new)
        print(f"{lock}.txt: {len(lines)} packages")
    return 0


def _closure(roots: list[Requirement], python: str, machine: str) -> Iterator[str]:
    """Names of all packages that the roots need on this Python and machine."""
    environment = {
        "python_version": ".".join(python.split(".")[:2]),
        "python_full_version": python,
        "platform_machine": machine,
        "platform_system": "Linux",
        "sys_platform": "linux",
    }
    seen: set[tuple[str, str]] = set()
    queue = list(roots)
    while queue:
        requirement = queue.pop()
        name = canonicalize_name(requirement.name)
        if name in LEFT_OUT:
            continue
        for extra in ("", *requirement.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            yield name
            for text in importlib.metadata.requires(name) or ():
                needed = Requirement(text)
                if not needed.marker or needed.marker.evaluate({**environment, "extra": extra}):
                    queue.append(needed)


def _line(name: str, machines: set[str]) -> str:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        sys.exit(f"{name} is needed and not installed here: pip install --no-deps {name}")
    marker = "" if machines == set(MACHINES) else f' ; platform_machine == "{machines.pop()}"'
    return f"{name}=={version}{marker}"


if __name__ == "__main__":
    sys.exit(main())
