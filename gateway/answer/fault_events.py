"""Finds what an engine tells of its own death inside a stream whose status is 200. Pure.

vLLM's HTTP server outlives its engine, and tells those whose status is out by an event. In chat and
completions it is `data: {"error": {…, "code": 500}}` and then `[DONE]`; in Messages, which read the
chat's events, an `event: error`. (Responses break off.) What the engine tells of the request, with
a code of 4xx, is for the caller and passes.
"""

import re
from typing import Any

import orjson

from gateway.answer.sse import end_of_event, event_data, is_between_events, start_of_event

# How such an event begins. Inside a text the quotes would be escaped, and no line begins there.
_OPENAI, _NAMED = b'data: {"error"', b"event: error"
_MARKS = {"chat/completions": _OPENAI, "completions": _OPENAI}
# The events that come before the engine has done anything, so that another one may still answer.
_PREAMBLE = (b"event: response.created\n", b"event: response.in_progress\n")
# The first of them repeat the request's tools and instructions.
_HELD_BYTES_MAX = 256 * 1024
# Where there is no code, as in Messages and with servers that are not vLLM.
_FAULT_TYPES = ("server_error", "internal_error", "api_error", "overloaded_error")
# Messages quote the event of the chat that they could not read, and with it the code.
_QUOTED_REFUSAL = re.compile(r"'code': 4\d\d\b")


class FaultEvents:
    """One stream on its way to its meter."""

    def __init__(self, endpoint: str) -> None:
        self._mark = _MARKS.get(endpoint, _NAMED)
        self._held = b""
        self._has_output = endpoint != "responses"
        # What the engine said of its fault, once it has.
        self.told: str | None = None

    def feed(self, piece: bytes) -> bytes:
        """What may pass by now: nothing from a fault on.

        The beginning of an event that may tell of one waits, and so do events before any output.
        """
        if (
            self._has_output
            and not self._held
            and self._mark not in piece
            and is_between_events(piece)
        ):
            return piece  # as nearly all are
        data, self._held = self._held + piece, b""
        passes = self._until_fault(data)
        if not self._has_output:
            self._has_output = _has_output(data[:passes]) or passes > _HELD_BYTES_MAX
            if not self._has_output:
                passes = 0
        if self.told is None:
            self._held = data[passes:]
        return data[:passes]

    def rest(self) -> bytes:
        """What still waits, once the engine has ended the answer."""
        rest, self._held = self._held, b""
        return rest

    def _until_fault(self, data: bytes) -> int:
        """How much of the data may pass. Notes a fault behind it."""
        at = data.find(self._mark)
        while at >= 0:
            start, end = start_of_event(data, at), end_of_event(data, at)
            if end < 0:
                is_long = len(data) - start > _HELD_BYTES_MAX
                return len(data) if is_long or data[at - 1 : at] not in (b"", b"\n") else start
            self.told = _fault_in(data[start:end])
            if self.told is not None:
                return start
            at = data.find(self._mark, end)
        begun = start_of_event(data, len(data))
        if self._mark.startswith(data[begun:]):
            return begun
        return len(data) - data.endswith(b"\n")  # which may be the half of a blank line


def _has_output(data: bytes) -> bool:
    """Whether there is more in it than what comes before any output."""
    at = 0
    while data.startswith(_PREAMBLE, at):
        at = end_of_event(data, at)
        if at < 0:
            return False
    return at < len(data)


def _fault_in(event: bytes) -> str | None:
    """What the engine says of a fault of its own; None where the event tells of none."""
    try:
        document = orjson.loads(event_data(event))
    except orjson.JSONDecodeError:
        return None
    if not isinstance(document, dict):
        return None
    error = document.get("error", document)  # Responses' own form has no object of its own for it
    if not isinstance(error, dict) or not _is_engines(error):
        return None
    return str(error.get("message"))


def _is_engines(error: dict[str, Any]) -> bool:
    code = error.get("code")
    if isinstance(code, int):
        return code >= 500
    if error.get("type") not in _FAULT_TYPES and code not in _FAULT_TYPES:
        return False
    return not _QUOTED_REFUSAL.search(str(error.get("message")))
