"""Plans for tests, whose limits are out of the way unless a test names them."""

import json
from pathlib import Path
from typing import Any

from gateway.limits.plans import Plan

_WIDE = {
    "requests_per_minute": 1_000_000,
    "tokens_per_minute": 50_000_000,
    "concurrent_requests": 1_000,
    "waiting_requests": 10_000,
    "weight": 1,
    "output_tokens_max": 32_768,
    "output_tokens_default": 1_024,
}


def plan(name: str = "free", /, **limits: Any) -> Plan:
    return Plan(name=name, **{**_WIDE, **limits})


def write_plans(folder: Path, **limits: Any) -> Path:
    """A file with the one plan `free`. JSON is YAML."""
    folder.mkdir(exist_ok=True)
    path = folder / "plans.yaml"
    replace_file(path, json.dumps({"free": {**_WIDE, **limits}}))
    return path


def replace_file(path: Path, text: str) -> None:
    """As operators are told to: written beside it and renamed, so that no half is ever read."""
    beside = path.with_suffix(".new")
    beside.write_text(text)
    beside.rename(path)
