"""Write gpu.txt from pip's resolution report: python constraints/write_gpu_lock.py REPORT.

The report names what an x86-64 machine with Python 3.11 installs; README.md says how to get one.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def main(report: Path) -> int:
    installs = json.loads(report.read_text())["install"]
    resolved = {_canonical(i["metadata"]["name"]): i["metadata"]["version"] for i in installs}
    base = _lock("base")
    if differing := [name for name in base if resolved.get(name, base[name]) != base[name]]:
        sys.exit(f"resolved against another base.txt: {', '.join(differing)}")
    # What dev.txt and load.txt leave to the lock before them.
    for name in _lock("cpu"):
        if name not in resolved:
            print(f"only in cpu.txt: {name}")
    names = sorted(resolved.keys() - base.keys())
    lines = [_line(name, resolved[name]) for name in names]
    head = (
        f"# Written by write_gpu_lock.py: {len(lines)} packages. Complete: install with --no-deps."
    )
    (FOLDER / "gpu.txt").write_text("\n".join([head, *lines, ""]))
    print(f"gpu.txt: {len(lines)} packages")
    return 0


def _lock(name: str) -> dict[str, str]:
    lines = (FOLDER / f"{name}.txt").read_text().splitlines()
    pins = (line.split(" ;")[0].partition("==") for line in lines if "==" in line)
    return {package: version for package, _, version in pins}


def _line(name: str, version: str) -> str:
    # `==` would take a CPU build, 2.13.0+cpu, where one lies at hand.
    return f"{name}==={version}" if name == "torch" else f"{name}=={version}"


def _canonical(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
