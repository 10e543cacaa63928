"""The file on which `floodgate serving` tells its launcher how far it is: one JSON object a line.

{"phase": "  12.1 s  started Ray"} for a step, {"error": "…"} for the reason of its end.
"""

import json
from collections.abc import Iterator
from pathlib import Path


class PhaseWriter:
    """Serving's side."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def phase(self, text: str) -> None:
        self._write({"phase": text})

    def error(self, message: str) -> None:
        self._write({"error": message})

    def _write(self, line: dict[str, str]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


class PhaseReader:
    """The launcher's side: what was written since it last looked."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._path = path
        self._offset_bytes = 0
        self.error = ""

    def read(self) -> Iterator[str]:
        """New steps; an error is kept in `error`."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset_bytes)
                text = file.read()
        except FileNotFoundError:
            return
        complete = text.rfind(b"\n") + 1
        self._offset_bytes += complete
        for line in text[:complete].splitlines():
            entry = json.loads(line)
            if "phase" in entry:
                yield str(entry["phase"]).strip()
            self.error = str(entry.get("error", self.error))
