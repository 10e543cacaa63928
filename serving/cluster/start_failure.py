"""Finding the engine's own reason among what Ray and vLLM wrote while a replica failed. Pure.

Ray reports the last exception of the replica's process. When vLLM's engine dies in a process of
its own, that says only "see root cause above", and the cause stands in the worker's log.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

# "ValueError: No available memory ...", also "vllm.exceptions.SomeError: ...", however indented.
_EXCEPTION = re.compile(
    r"((?:[A-Za-z_][\w.]*\.)?[A-Z]\w*(?:Error|Exception|Interrupt|Exit|Missing)\b: \S.*)"
)
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
# The last one is Serve's, whose exception has the replica's whole traceback for a message.
_NOT_THE_CAUSE = (
    "See root cause",
    "WorkerProc initialization failed",
    "ActorDiedError",
    "Error: Traceback (most recent call last)",
)
_PROCESS = re.compile(r"\bpid=(\d+)")
REASON_CHARACTERS_MAX = 600


def reasons_in(text: str) -> list[str]:
    """Each line that names an exception and its message, with the indented lines below it."""
    reasons: list[str] = []
    continues = False
    for line in _COLOURS.sub("", text).splitlines():
        match = _EXCEPTION.search(line)
        if match:
            reasons.append(match.group(1).strip())
        elif continues and line.startswith("  ") and "further information" not in line:
            # pydantic says what is wrong only there
            reasons[-1] += f" {line.strip()}"
        continues = match is not None
    return [
        reason[:REASON_CHARACTERS_MAX]
        for reason in reasons
        if not any(phrase in reason for phrase in _NOT_THE_CAUSE)
    ]


def failed_first(logs: Iterable[Path], ray_message: str) -> list[Path]:
    """Workers' logs, named worker-<id>-<job>-<pid>, those of processes that Ray names first."""
    failed = set(_PROCESS.findall(ray_message))
    return sorted(logs, key=lambda path: (path.stem.rpartition("-")[2] not in failed, path.name))


def start_failure_reason(ray_message: str, worker_logs: Iterable[str]) -> str:
    """One line for the operator, from Ray's message about the deployment and the workers' logs."""
    if "root cause" in ray_message:
        for log in worker_logs:
            # Processes that fail because another one failed write after it.
            if reasons := reasons_in(log):
                return reasons[0]
    if reasons := reasons_in(ray_message):
        return reasons[-1]
    return ray_message.strip()[-REASON_CHARACTERS_MAX:]
