"""Showing a start phase by phase: one line for each with its seconds, a spinner on a terminal."""

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.markup import escape
from rich.status import Status


class Phases:
    """Prints to `console`; plain lines where that is no terminal."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._status: Status | None = None
        self._name = ""
        self._started_at = 0.0

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Shows `name` while the block runs, then `✓ name  1.2 s`."""
        self._name, self._started_at = name, self._clock()
        self._status = self._console.status(self._text(""))
        if not self._console.is_terminal:
            self._print(f"… {name}")
        with self._status:
            try:
                yield
            except BaseException:
                self._print(f"[red]✗[/] {escape(name)}  {self._elapsed_s():.1f} s")
                raise
        self._print(f"[green]✓[/] {escape(name)}  {self._elapsed_s():.1f} s")

    def tick(self, doing: str = "") -> None:
        """Moves the seconds on; `doing` says what is going on inside the phase."""
        if self._status is not None and self._console.is_terminal:
            self._status.update(self._text(doing))

    def note(self, text: str) -> None:
        """A line of its own, below the phase that it belongs to."""
        self._print(f"[dim]    {escape(text)}[/]")

    def warn(self, text: str) -> None:
        """A line about something that went wrong and is being dealt with."""
        self._print(f"[yellow]![/] {escape(text)}")

    def _text(self, doing: str) -> str:
        about = f" [dim]{escape(doing)}[/]" if doing else ""
        return f"{escape(self._name)} {self._elapsed_s():.0f} s{about}"

    def _elapsed_s(self) -> float:
        return self._clock() - self._started_at

    def _print(self, text: str) -> None:
        # Soft wrap: a line that is read by programs must not be broken at the terminal's edge.
        self._console.print(text, soft_wrap=True, highlight=False)
