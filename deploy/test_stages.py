"""Run the checks and tests stage by stage: python -m deploy.test_stages STAGE ...

Stops at the first stage that fails, and says which. Each headline tells what the stages before it
took, and nothing follows the last one, so that the run ends with pytest's own summary.
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Final

_PYTEST: Final = (sys.executable, "-m", "pytest")
_LINE_CHARS = 78
# What needs minutes or an accelerator has a stage or a machine of its own.
_USUAL: Final = "not long and not gpu"

STAGES: Final[dict[str, tuple[Sequence[str], ...]]] = {
    "check": (
        ("ruff", "check", "."),
        ("ruff", "format", "--check", "."),
        ("mypy",),
        ("lint-imports",),
        ("floodgate", "settings", "--check", ".env.example"),
    ),
    "unit": ((*_PYTEST, "tests/unit", "-q", "-m", _USUAL),),
    # Two at a time, file by file: most of these tests wait for processes to start or to end.
    "integration": (
        (*_PYTEST, "tests/integration", "-q", "-m", _USUAL, "-n", "2", "--dist", "loadfile"),
    ),
    # One run, so that both suites share one running Floodgate: each start takes about a minute.
    "engine": ((*_PYTEST, "tests/contract", "tests/e2e", "-q", "-m", _USUAL),),
    "long": ((*_PYTEST, "tests", "-q", "-m", "long and not gpu"),),
}


def main(names: Sequence[str]) -> int:
    """0 when all stages pass, else the status of the command that failed."""
    if unknown := [name for name in names if name not in STAGES]:
        print(f"There is no stage {unknown[0]!r}; there are {', '.join(STAGES)}.", file=sys.stderr)
        return 2
    took: list[str] = []
    for name in names:
        _headline(name, took)
        stage_begun_at = time.monotonic()
        for command in STAGES[name]:
            status = _run(command)
            if status != 0:
                print(f"\nFAILED in stage {name!r}: {' '.join(command)} (status {status})")
                return status
        took.append(f"{name} {time.monotonic() - stage_begun_at:.0f} s")
    return 0


def _headline(name: str, took: Sequence[str]) -> None:
    done = f" ({', '.join(took)})" if took else ""
    print(f"\n== {name}{done} ".ljust(_LINE_CHARS, "="), flush=True)


def _run(command: Sequence[str]) -> int:
    program = shutil.which(command[0])
    if program is None:
        print(f"{command[0]} is not installed in this environment.", file=sys.stderr)
        return 127
    return subprocess.run([program, *command[1:]], stdin=subprocess.DEVNULL, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
