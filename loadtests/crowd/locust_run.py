"""One headless locust run as a process of a bench, and its chat log."""

import sys
from collections.abc import Sequence
from pathlib import Path

from loadtests.accounts import Account, write_accounts
from loadtests.crowd.chat_record import ChatRecord, read_records
from loadtests.errors import ProcessFailedError
from loadtests.process import Process

LOCUSTFILE = Path(__file__).parents[1] / "locustfile.py"
# What a run takes beside its own time: start, the last chats, the end.
EXTRA_S_MAX = 120.0


def run_locust(
    host: str,
    accounts: Sequence[Account],
    folder: Path,
    *,
    scenario: str,
    run_s: float,
    options: Sequence[str],
) -> list[ChatRecord]:
    """Run a scenario of `run_s` seconds to its end; the records of all its chats.

    Raises:
        ProcessFailedError: locust failed or did not end.
    """
    folder.mkdir(parents=True, exist_ok=True)
    keys, chats = folder / "keys.jsonl", folder / f"{scenario}.jsonl"
    write_accounts(keys, accounts)
    argv = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless"]
    argv += ["--host", host, "--only-summary", "--exit-code-on-error", "0"]
    argv += ["--scenario", scenario, "--keys-file", str(keys), "--chats-file", str(chats)]
    process = Process("locust", [*argv, *options], log_path=folder / f"locust-{scenario}.log")
    with process:
        status = process.wait_for_end(run_s + EXTRA_S_MAX)
    if status != 0:
        raise ProcessFailedError(f"locust ended with {status}:\n{process.log_tail()}")
    return read_records(chats)
