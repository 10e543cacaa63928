"""What one streamed chat tells while it comes in, line by line. Pure: the clock is an argument.

Besides OpenAI's events it reads the gateway's comments to waiting callers:
`: queue position=12 eta=8s`, or `eta=unknown`.
"""

import json
import re
from typing import Any

_PLACE = re.compile(rb"^: queue position=(\d+)(?: eta=(\d+)s)?")


class ChatReading:
    """The times and counts of one answer; times are what the clock said, None: not yet."""

    __slots__ = (
        "completion_tokens",
        "error",
        "eta_first_s",
        "first_place_at_s",
        "first_token_at_s",
        "gap_s_max",
        "is_done",
        "last_token_at_s",
        "place_first",
        "place_last",
        "places",
        "prompt_tokens",
        "tokens",
    )

    def __init__(self) -> None:
        self.place_first: int | None = None
        self.place_last: int | None = None
        self.places = 0
        self.first_place_at_s: float | None = None
        self.eta_first_s: int | None = None
        self.first_token_at_s: float | None = None
        self.last_token_at_s: float | None = None
        self.gap_s_max = 0.0
        self.tokens = 0
        self.prompt_tokens: int | None = None
        self.completion_tokens: int | None = None
        self.error: dict[str, Any] | None = None
        self.is_done = False

    @property
    def itl_s(self) -> float | None:
        """The mean gap between tokens."""
        if self.first_token_at_s is None or self.last_token_at_s is None or self.tokens < 2:
            return None
        return (self.last_token_at_s - self.first_token_at_s) / (self.tokens - 1)

    def take_line(self, line: bytes, now_s: float) -> None:
        """One line of the stream, with or without its end."""
        if line.startswith(b"data: "):
            self._take_data(line[6:].strip(), now_s)
        elif line.startswith(b": queue"):
            self._take_place(line, now_s)

    def _take_place(self, line: bytes, now_s: float) -> None:
        told = _PLACE.match(line)
        if told is None:
            return
        self.place_last = int(told[1])
        self.places += 1
        if self.place_first is None:
            self.place_first, self.first_place_at_s = self.place_last, now_s
            self.eta_first_s = int(told[2]) if told[2] else None

    def _take_data(self, data: bytes, now_s: float) -> None:
        if data == b"[DONE]":
            self.is_done = True
        elif data.startswith(b'{"error"'):
            self.error = error_of(data)
        # Tokens come by the thousand: their events are told by their bytes, unparsed.
        elif b'"content":"' in data and b'"content":""' not in data:
            self._take_token(now_s)
        elif b'"usage":{' in data:
            usage = json.loads(data)["usage"]
            self.prompt_tokens = int(usage["prompt_tokens"])
            self.completion_tokens = int(usage["completion_tokens"])

    def _take_token(self, now_s: float) -> None:
        self.tokens += 1
        if self.last_token_at_s is None:
            self.first_token_at_s = now_s
        else:
            self.gap_s_max = max(self.gap_s_max, now_s - self.last_token_at_s)
        self.last_token_at_s = now_s


def error_of(data: bytes) -> dict[str, Any]:
    """The error in a body or an event; empty when it is in no known shape."""
    try:
        error = json.loads(data)["error"]
    except (ValueError, LookupError, TypeError):
        return {}
    return error if isinstance(error, dict) else {}
