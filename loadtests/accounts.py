"""Accounts for a load test, and the file of their keys.

It has one JSON object a line: {"account": "a1", "plan": "free", "api_key": "fg-..."}.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from loadtests.errors import BenchError


@dataclass(frozen=True, slots=True)
class Account:
    """One account and its key."""

    account: str
    plan: str
    api_key: str


def read_accounts(path: Path) -> list[Account]:
    """The accounts of a keys file.

    Raises:
        BenchError: it cannot be read, a line is malformed, or there is none.
    """
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise BenchError(f"{path}: {error.strerror}") from error
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found.append(Account(**json.loads(line)))
        except (ValueError, TypeError) as error:
            raise BenchError(f"{path}:{number}: {error}") from error
    if not found:
        raise BenchError(f"{path}: no accounts")
    return found


def write_accounts(path: Path, accounts: Sequence[Account]) -> None:
    """A keys file that only its owner can read."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.writelines(json.dumps(asdict(account)) + "\n" for account in accounts)
