"""Finding the engine's own reason among what Ray and vLLM wrote while a replica failed. Pure.

Ray reports the last exception of the replica's process. When vLLM's engine dies in a process of
its own, that says only "see root cause above", and the cause stands in the worker's log.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# "ValueError: No available memory ...", also "vllm.exceptions.SomeError: ...", however indented.
_EXCEPTION = re.compile(
    r"((?:[A-Za-z_][\w.]*\.)?[A-Z]\w*(?:Error|Exception|Interrupt|Exit|Missing)\b: \S.*)"
)
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_NOT_THE_CAUSE = ("See root cause", "WorkerProc initialization failed", "ActorDiedError")
REASON_CHARACTERS_MAX = 600


def reason_in(text: str) -> str | None:
    """The last line of `text` that names an exception and its message, if that is a cause."""
    reason = None
    for line in _COLOURS.sub("", text).splitlines():
        match = _EXCEPTION.search(line)
        if match and not any(phrase in line for phrase in _NOT_THE_CAUSE):
            reason = match.group(1).strip()
    return reason[:REASON_CHARACTERS_MAX] if reason else None


def first_reason_in(text: str) -> str | None:
    """The first such line: processes that fail because another one failed write after it."""
    for line in _COLOURS.sub("", text).splitlines():
        if reason := reason_in(line):
            return reason
    return None


def start_failure_reason(ray_message: str, worker_logs: Iterable[str]) -> str:
    """One line for the operator, from Ray's message about the deployment and the workers' logs."""
    if "root cause" in ray_message:
        for log in worker_logs:
            if reason := first_reason_in(log):
                return reason
    if reason := reason_in(ray_message):
        return reason
    return ray_message.strip()[-REASON_CHARACTERS_MAX:]
