"""Remembering what an environment holds, so that a second start costs nothing."""

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_FILE = "floodgate-stamp.json"


@dataclass(frozen=True)
class Stamp:
    """`parts` maps what was installed to the digest of the file that said so."""

    python: str
    parts: Mapping[str, str]

    def with_part(self, name: str, digest: str) -> "Stamp":
        return Stamp(self.python, {**self.parts, name: digest})


def this_python() -> str:
    """Version and place of the interpreter that environments are made from."""
    return f"{sys.version.split()[0]} {sys.base_prefix}"


def read_stamp(venv: Path) -> Stamp | None:
    """What was noted, or None where nothing was, or nothing readable."""
    try:
        noted = json.loads((venv / _FILE).read_text(encoding="utf-8"))
        return Stamp(str(noted["python"]), {str(k): str(v) for k, v in noted["parts"].items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write_stamp(venv: Path, stamp: Stamp) -> None:
    """Notes at once or not at all."""
    new = venv / f"{_FILE}.new"
    new.write_text(json.dumps({"python": stamp.python, "parts": dict(stamp.parts)}, indent=1))
    new.replace(venv / _FILE)


def file_digest(path: Path, *also: str) -> str:
    """Digest of a file's bytes and of `also`."""
    digest = hashlib.sha256(path.read_bytes())
    for text in also:
        digest.update(b"\0" + text.encode())
    return digest.hexdigest()
