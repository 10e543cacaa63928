"""Takes out of each event of a stream what vLLM says that the answer has cost so far. Pure.

vLLM tells it beside the choices where it is asked to (`continuous_usage_stats`). An event may hold
more than one token: vLLM puts those together that came while its own loop was busy. So only it
knows what a stream had cost when it broke off. The caller did not ask, and never sees it.
"""

import re

import orjson

from gateway.answer.sse import is_between_events
from gateway.answer.usage import read_usage

# Behind choices that are not empty; the last event, with usage and no choices, is somebody else's.
# Inside a text the quotes would be escaped.
_BEGINNING = b'],"usage":{'
_USAGE = re.compile(rb'(?<!\[)\],"usage":(\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\})')
# A longer beginning of an event is not held back; one with logprobs has some KB.
_HELD_BYTES_MAX = 64 * 1024


class RunningUsage:
    """One stream on its way to its meter."""

    def __init__(self) -> None:
        self._open = b""
        self._told = b""

    def feed(self, piece: bytes) -> bytes:
        """The whole events that have come, without the usage; the beginning of another waits."""
        data = self._open + piece if self._open else piece
        if is_between_events(data):
            self._open = b""
        else:
            end = max(data.rfind(b"\n\n") + 2, data.rfind(b"\n\r\n") + 3)
            if end < 3:  # neither was found
                end = 0
            if len(data) - end > _HELD_BYTES_MAX:
                end = len(data)
            data, self._open = data[:end], data[end:]
        return self._without_usage(data)

    def _without_usage(self, events: bytes) -> bytes:
        at = events.find(_BEGINNING)
        if at < 0:
            return events
        # One event with a flat usage is what nearly always comes: cut out it takes a microsecond,
        # searched for with the expression six.
        usage_at, end = at + len(_BEGINNING) - 1, events.find(b"}", at) + 1
        is_flat = end > 0 and events.find(b"{", usage_at + 1, end) < 0
        if is_flat and events[at - 1 : at] != b"[" and events.find(_BEGINNING, end) < 0:
            self._told = events[usage_at:end]
            return events[: at + 1] + events[end:]
        told = _USAGE.findall(events)
        if not told:
            return events
        self._told = told[-1]
        return _USAGE.sub(b"]", events)

    def rest(self) -> bytes:
        """What still waits, once the engine has ended the answer."""
        rest, self._open = self._open, b""
        return rest

    def tokens(self) -> tuple[int | None, int | None]:
        """Prompt and output as they were told last; None where nothing was."""
        if not self._told:
            return None, None
        try:
            return read_usage(orjson.loads(self._told))
        except orjson.JSONDecodeError:
            return None, None
