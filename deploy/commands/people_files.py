"""Files of people: CSV and JSON lines, read and written a row at a time."""

import csv
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from deploy.errors import Refused
from waitlist.operators.transfers import ImportRow

_SUFFIXES = (".csv", ".jsonl")
# Spreadsheets run what begins with one of these; a quote before it marks it as text.
_MARKED = ("=", "+", "-", "@", "\t", "'")


def file_digest(path: Path) -> str:
    """SHA-256 of a file: the name under which its import is known. Raises Refused."""
    _check_suffix(path)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}.") from error


@contextmanager
def read_rows(path: Path) -> Iterator[Iterator[ImportRow]]:
    """The rows of a file, each with its line; those that are none say so. Raises Refused."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            yield _csv_rows(file) if path.suffix == ".csv" else _json_rows(file)
        except UnicodeDecodeError as error:
            raise Refused(f"{path} is not UTF-8: {error.reason}.") from error


@contextmanager
def read_people(path: Path) -> Iterator[Iterator[dict[str, str]]]:
    """The rows of a file. Raises Refused at a row that is none."""

    def whole(rows: Iterator[ImportRow]) -> Iterator[dict[str, str]]:
        for row in rows:
            if row.problem:
                raise Refused(f"Line {row.line} cannot be used: {row.problem}")
            yield row.fields

    with read_rows(path) as rows:
        yield whole(rows)


class PeopleWriter:
    """Writes rows into a new file, or goes on with one that was begun.

    `written` are the ids that it has already; a torn last line is taken away. Readable by its
    user alone.
    """

    def __init__(self, path: Path, fields: Sequence[str], *, resume: bool) -> None:
        _check_suffix(path)
        self._path = path
        self._fields = fields
        self._resume = resume
        self.written: set[str] = set()
        self.rows = 0

    def __enter__(self) -> Self:
        begun = self._resume and self._path.exists()
        if begun:
            self._take_torn_line_away()
            with read_people(self._path) as rows:
                self.written = {row["entry_id"] for row in rows}
        self.rows = len(self.written)
        flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if begun else os.O_EXCL)
        try:
            descriptor = os.open(self._path, flags, 0o600)
        except OSError as error:
            remedy = "Name another file, or go on with --resume." if not begun else ""
            raise Refused(f"{self._path} cannot be written: {error.strerror}.", remedy) from error
        self._file: IO[str] = os.fdopen(descriptor, "a", encoding="utf-8", newline="")
        self._csv = csv.DictWriter(self._file, self._fields, lineterminator="\n")
        if self._path.suffix == ".csv" and self._path.stat().st_size == 0:
            self._csv.writeheader()
        return self

    def write(self, row: dict[str, str]) -> None:
        if self._path.suffix == ".csv":
            self._csv.writerow({name: _harmless(text) for name, text in row.items()})
        else:
            self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
        self.rows += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def _take_torn_line_away(self) -> None:
        """No field holds a line break, so the last line break ends the last whole row."""
        with self._path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            step = 65_536
            end = size
            while end > 0:
                begin = max(0, end - step)
                file.seek(begin)
                found = file.read(end - begin).rfind(b"\n")
                if found >= 0:
                    file.truncate(begin + found + 1)
                    return
                end = begin
            file.truncate(0)


class RejectWriter:
    """Rows that were not taken, a JSON object a line: `line`, `reason`, `row`.

    Readable by its user alone; a file that is there is gone on with.
    """

    def __init__(self, path: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        try:
            self._file = os.open(path, flags, 0o600)
        except OSError as error:
            raise Refused(f"{path} cannot be written: {error.strerror}.") from error

    def write(self, row: ImportRow) -> None:
        """One write for each, so that a kill leaves no half line."""
        text = json.dumps(
            {"line": row.line, "reason": row.problem, "row": row.fields}, ensure_ascii=False
        )
        os.write(self._file, f"{text}\n".encode(errors="replace"))


def _harmless(text: str) -> str:
    """What a spreadsheet would run as a formula is marked as text, and so is the mark."""
    return f"'{text}" if text.startswith(_MARKED) else text


def _unmarked(text: str) -> str:
    """As it was before `_harmless`."""
    return text[1:] if text.startswith("'") and text[1:].startswith(_MARKED) else text


def _csv_rows(file: IO[str]) -> Iterator[ImportRow]:
    reader = csv.DictReader(file)
    if reader.fieldnames is None:
        return
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield ImportRow(reader.line_num, {}, f"It is no CSV: {error}.")
            continue
        problem = ""
        if None in row or None in row.values():
            problem = "It has another number of fields than the heading."
        fields = {
            name: _unmarked(text)
            for name, text in row.items()
            if isinstance(name, str) and isinstance(text, str)
        }
        yield ImportRow(reader.line_num, fields, problem)


def _json_rows(file: IO[str]) -> Iterator[ImportRow]:
    for number, line in enumerate(file, start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            yield ImportRow(number, {}, "It is not JSON.")
            continue
        if not isinstance(row, dict):
            yield ImportRow(number, {}, "It is no JSON object.")
            continue
        fields = {str(name): "" if value is None else str(value) for name, value in row.items()}
        yield ImportRow(number, fields)


def _check_suffix(path: Path) -> None:
    if path.suffix not in _SUFFIXES:
        raise Refused(f"{path} is neither .csv nor .jsonl.")
