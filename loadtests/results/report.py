"""Result files and tables: everything a bench says, to people and to later readers."""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from loadtests.percentiles import median
from loadtests.probes.machine import Machine, load_average, read_machine

# What of a run is told as it ends.
_NAMES_OF_A_RUN = ("kind", "target", "workload", "concurrency", "replicas", "state", "stream")
_RESULTS = Path("build/bench")


def add_results_option(parser: argparse.ArgumentParser) -> None:
    """`--results`, for every program that leaves a result file."""
    parser.add_argument(
        "--results",
        type=Path,
        default=_RESULTS,
        help=f"folder for result files and profiles (default: {_RESULTS})",
    )


@dataclass(frozen=True)
class Table:
    """A title, a head and rows of text."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{len(row)} cells under {len(self.columns)} columns: {row}")

    def to_markdown(self) -> str:
        """The table as Markdown, under its title in bold."""
        lines = [f"**{self.title}**", "", _markdown_row(self.columns)]
        lines.append(_markdown_row(["---"] * len(self.columns)))
        lines += [_markdown_row(row) for row in self.rows]
        if self.notes:
            lines += ["", *(f"- {note}" for note in self.notes)]
        return "\n".join(lines)

    def print(self, console: Console) -> None:
        """The table for a terminal."""
        table = RichTable(title=self.title, title_justify="left")
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="left" if number == 0 else "right")
        for row in self.rows:
            table.add_row(*row)
        console.print(table)
        for note in self.notes:
            console.print(f"  {note}", highlight=False)


@dataclass
class Recorder:
    """Collects the runs of one bench and keeps its result file up to date.

    The file is rewritten after each run, so that a bench that fails late loses nothing.
    """

    bench: str
    folder: Path
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    machine: Machine = field(default_factory=read_machine)
    facts: dict[str, Any] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)

    @property
    def stem(self) -> str:
        """What every file of this bench run is named after."""
        return f"{self.bench}-{self.started_at:%Y%m%dT%H%M%SZ}"

    @property
    def path(self) -> Path:
        """The result file."""
        return self.folder / f"{self.stem}.json"

    def add(self, **run: Any) -> None:
        """Append one run with the load average now, write the file, and tell how far it is."""
        self.runs.append({**run, "load_average_after": load_average()})
        self.write()
        what = " ".join(str(run[name]) for name in _NAMES_OF_A_RUN if name in run)
        elapsed_s = (datetime.now(UTC) - self.started_at).total_seconds()
        print(
            f"{self.bench}: {elapsed_s:4.0f} s, run {len(self.runs)} done: {what}",
            file=sys.stderr,
            flush=True,
        )

    def fact(self, name: str, value: Any) -> None:
        """Set something that holds for the whole bench, and write the file."""
        self.facts[name] = value
        self.write()

    def write(self) -> None:
        """Write the result file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {
            "bench": self.bench,
            "started_at": self.started_at.isoformat(timespec="seconds"),
            "command": command_line(),
            "machine": asdict(self.machine),
            **self.facts,
            "runs": self.runs,
        }
        self.path.write_text(json.dumps(content, indent=1) + "\n")

    def caption(self) -> str:
        """Date, machine, command and result file: what each figure stands under."""
        return (
            f"{self.started_at:%Y-%m-%d}; {self.machine.in_words()}; "
            f"`{command_line()}`; result file `{self.path.name}`."
        )


def command_line() -> str:
    """The command that started this process, as one would type it."""
    return shlex.join(["python", "-m", main_module(), *sys.argv[1:]])


def main_module() -> str:
    """The module that this process was started with, such as `loadtests.bench`."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name if spec is not None else "loadtests.bench"


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Median and range of several runs: `5,012 (4,950 to 5,100)`."""
    if not values:
        return "not measured"
    texts = [f"{value:,.{digits}f}" for value in (median(values), min(values), max(values))]
    return f"{texts[0]} ({texts[1]} to {texts[2]})" if len(values) > 1 else texts[0]


def verdict(value: float, *, at_least: float | None = None, at_most: float | None = None) -> str:
    """`met` or `missed`, against a bound on one side."""
    is_met = (at_least is None or value >= at_least) and (at_most is None or value <= at_most)
    return "met" if is_met else "missed"


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
