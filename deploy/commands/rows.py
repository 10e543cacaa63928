"""Records on the terminal: lines for people, JSON for programs."""

import json
import time
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]


def print_record(record: Mapping[str, Any], *, as_json: bool) -> None:
    """One record, a field a line."""
    if as_json:
        typer.echo(json.dumps(record, default=_text, ensure_ascii=False))
        return
    width = max(map(len, record), default=0)
    for name, value in record.items():
        typer.echo(f"{name:<{width}}  {_cell(value)}")


def print_rows(rows: Iterable[Mapping[str, Any]], *, as_json: bool, heading: bool = False) -> None:
    """Rows as they come, columns by tabs: a table would have to hold all before its first line."""
    for number, row in enumerate(rows):
        if as_json:
            typer.echo(json.dumps(row, default=_text, ensure_ascii=False))
            continue
        if heading and number == 0:
            typer.echo("\t".join(row))
        typer.echo("\t".join(map(_cell, row.values())))


def _cell(value: Any) -> str:
    if value is None or value == "" or value == {}:
        return "-"
    return _text(value)


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    return value.isoformat() if isinstance(value, date) else str(value)


class OnceASecond:
    """Tells on the terminal how far something is, at most once a second."""

    def __init__(self) -> None:
        self._told_at_s = time.monotonic()

    def tell(self, text: str) -> None:
        now_s = time.monotonic()
        if now_s - self._told_at_s >= 1.0:
            self._told_at_s = now_s
            typer.echo(text, err=True)
