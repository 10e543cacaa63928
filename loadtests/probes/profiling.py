"""Where a Python process spends its time: py-spy's samples, and their summary as text."""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from loadtests.errors import MeasurementError, MissingToolError

SAMPLES_PER_S = 400
SUMMARY_ROWS = 30


@dataclass(frozen=True)
class Share:
    """A function's part of all samples."""

    function: str
    percent: float


@contextmanager
def profile(pid: int, duration_s: float, output: Path, core: int) -> Iterator[None]:
    """Sample a process for a while, during the body of a `with`.

    `output` gets collapsed stacks (`frame;frame count`), which speedscope opens as they are.

    Raises:
        MissingToolError: py-spy is not in this environment.
        MeasurementError: py-spy failed, for example because it may not trace the process.
    """
    program = Path(sys.executable).with_name("py-spy")
    if not program.exists():
        raise MissingToolError("py-spy is not installed in this environment: pip install py-spy")
    output.parent.mkdir(parents=True, exist_ok=True)
    argv = ["taskset", "--cpu-list", str(core), str(program), "record", "--pid", str(pid)]
    argv += ["--duration", str(max(1, round(duration_s))), "--rate", str(SAMPLES_PER_S)]
    argv += ["--threads", "--format", "raw", "--output", str(output)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as spy:
        yield
        said, _ = spy.communicate(timeout=duration_s + 60)
    if spy.returncode != 0:
        raise MeasurementError(f"py-spy ended with {spy.returncode}: {said[-500:]}")


def summarise(collapsed: Iterable[str]) -> tuple[list[Share], list[Share]]:
    """The main thread's shares by self time and by inclusive time, largest first.

    A function that recurses counts once in a sample. Other threads wait, which looks like work
    to the sampler where the wait is a plain read.
    """
    own: Counter[str] = Counter()
    inclusive: Counter[str] = Counter()
    total = 0
    for line in collapsed:
        stack, _, count_text = line.rstrip("\n").rpartition(" ")
        if not stack:
            continue
        count = int(count_text)
        thread, *stack_frames = stack.split(";")
        if "MainThread" not in thread or not stack_frames:
            continue
        frames = [without_line_number(frame) for frame in stack_frames]
        total += count
        own[frames[-1]] += count
        for frame in set(frames):
            inclusive[frame] += count
    return _shares(own, total), _shares(inclusive, total)


def without_line_number(frame: str) -> str:
    """`name (file.py:12)` as `name (file.py)`, so that a function's lines add up."""
    name, separator, place = frame.rpartition(" (")
    if not separator:
        return frame
    return f"{name} ({place.rstrip(')').rpartition(':')[0] or place.rstrip(')')})"


def summary_text(collapsed_path: Path) -> str:
    """Both lists as text."""
    with collapsed_path.open() as lines:
        own, inclusive = summarise(lines)
    parts = ["self time"]
    parts += [f"{share.percent:6.1f} %  {share.function}" for share in own[:SUMMARY_ROWS]]
    parts += ["", "with everything called"]
    parts += [
        f"{share.percent:6.1f} %  {share.function}" for share in inclusive[: 2 * SUMMARY_ROWS]
    ]
    return "\n".join(parts) + "\n"


def _shares(counts: Counter[str], total: int) -> list[Share]:
    return [Share(name, 100 * count / total) for name, count in counts.most_common()]
