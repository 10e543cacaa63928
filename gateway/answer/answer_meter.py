"""Finds what an answer cost in the bytes that pass, and hides what the caller did not ask for.

The engine is always asked for its usage; the event that carries it is taken out again where only
the gateway wanted it. A piece that holds no usage costs two searches and no copy.
"""

import json
import re
from typing import Any

import orjson

from gateway.answer.running_usage import RunningUsage
from gateway.answer.sse import end_of_event, event_data, is_between_events, start_of_event
from gateway.answer.usage import Usage, read_usage
from gateway.endpoints import Endpoint

# What an event with usage is known by. Inside a text the quotes would be escaped; what merely
# looks like the mark costs one more look and nothing else.
_MARK = b'"usage":'

# Lines of one event, and events without output before the first that has some: the role in chat;
# created, in_progress, item and part in Responses; the start of message and block in Messages.
_LINES = {"responses": 3, "messages": 3}
_EVENTS_BEFORE_OUTPUT = {"chat/completions": 1, "responses": 4, "messages": 2}

# An event whose choices have begun is not the one with usage, which has none.
_CHOICE = re.compile(rb'"choices":\s*\[\s*[^\s\]]')
# vLLM's event with usage has some 300 bytes; a longer beginning is not held back.
_HELD_BYTES_MAX = 16 * 1024
# Bytes of one event that are kept until its end: the last one of a Responses stream repeats the
# whole answer.
_EVENT_BYTES_MAX = 4 * 1024 * 1024
# Of a larger answer that does not stream only the end is looked at: reading 1 MB of JSON takes
# 5 ms, and usage follows what the model said.
_WHOLE_BYTES_MAX = 256 * 1024
_END_BYTES = 8 * 1024


class AnswerMeter:
    """One successful answer on its way to one caller. Answers that are errors have no usage.

    Args:
        stream: the answer is an event stream.
        hide_usage: take the event out that carries nothing but usage (chat and completions).
        hide_running_usage: take out of each other event what the answer has cost so far.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        stream: bool,
        hide_usage: bool,
        hide_running_usage: bool = False,
    ) -> None:
        self._name = endpoint.name
        self._stream = stream
        self._hide = hide_usage and endpoint.name in ("chat/completions", "completions")
        self._running = RunningUsage() if stream and hide_running_usage else None
        self._open = b""  # of a stream, the event that has begun; of JSON, what is kept
        self._passed = 0  # how much of the open event the caller has
        self._cut = False  # JSON: its beginning was let go
        self._newlines = 0
        self._prompt_tokens: int | None = None
        self._output_tokens: int | None = None
        self._exact = False

    def feed(self, piece: bytes) -> bytes:
        """What goes to the caller now. It may be empty: a beginning of a hidden event waits."""
        if not self._stream:
            self._keep(piece)
            return piece
        if self._running is not None:
            piece = self._running.feed(piece)
            if not piece:
                return b""
        return self._feed(piece)

    def _feed(self, piece: bytes) -> bytes:
        data = self._open + piece if self._open else piece
        at = _last_mark(data, len(data))
        passed = piece
        if at >= 0 or self._open or not is_between_events(piece):
            passed = self._look_into(data, piece, at)
        if not self._exact:  # else nobody will ask how many events there were
            self._newlines += piece.count(b"\n")
        return passed

    def finish(self) -> bytes:
        """What is still to go to the caller, once the engine has ended the answer."""
        if not self._stream:
            return b""
        waited = b"" if self._running is None else self._feed(self._running.rest())
        rest, self._open = self._open, b""
        # An event without its blank line; clients drop it or not.
        hidden = _last_mark(rest, len(rest)) >= 0 and self._take(rest)
        return waited if hidden else waited + rest[self._passed :]

    def usage(self, prompt_tokens_estimate: int) -> Usage:
        """The engine's count, or the estimate and the events that were passed on.

        Of a stream that broke off, the count that came with the last event, where it was told.
        """
        if not self._stream:
            self._read_whole()
        if self._running is not None and not self._exact:
            self._note(*self._running.tokens())
        prompt = self._prompt_tokens
        if prompt is None:
            prompt = prompt_tokens_estimate
        if self._exact:
            return Usage(prompt, self._output_tokens or 0, self._prompt_tokens is not None)
        return Usage(prompt, max(self._output_tokens or 0, self._events_passed()), False)

    def _look_into(self, data: bytes, piece: bytes, at: int) -> bytes:
        """`data` is the piece behind what was open; `at`, where a usage is told last, or -1."""
        passed = self._passed
        out: list[bytes] = []
        for start, end in _events_with_usage(data, at):
            if self._take(data[start:end]) and start >= passed:
                out.append(data[passed:start])
                passed = end
        begun = start_of_event(data, len(data))
        self._open = data[begun:] if len(data) - begun <= _EVENT_BYTES_MAX else b"\0"
        if self._hide and begun >= passed and _may_be_usage(self._open):
            out.append(data[passed:begun])
            self._passed = 0
        else:
            out.append(data[passed:])
            self._passed = len(self._open)
        return b"".join(out) if self._hide else piece

    def _take(self, event: bytes) -> bool:
        """Notes an event's usage. Returns whether the event is to be hidden."""
        document = _object(event_data(event))
        usage = _usage_in(document)
        if usage is None:
            return False
        self._note(*read_usage(usage))
        choices = document.get("choices")
        if choices is None:  # Messages begin with a usage that knows the prompt alone
            self._exact = document.get("type") != "message_start"
            return False
        # Usage beside a choice is the last when the choice is; otherwise it goes on.
        self._exact = all(c.get("finish_reason") for c in choices if isinstance(c, dict))
        return self._hide and not choices

    def _note(self, prompt: int | None, output: int | None) -> None:
        self._prompt_tokens = self._prompt_tokens if prompt is None else prompt
        self._output_tokens = self._output_tokens if output is None else output

    def _events_passed(self) -> int:
        events = self._newlines // _LINES.get(self._name, 2)
        return max(0, events - _EVENTS_BEFORE_OUTPUT.get(self._name, 0))

    def _keep(self, piece: bytes) -> None:
        self._open = self._open + piece if self._open else piece
        if len(self._open) > _WHOLE_BYTES_MAX:
            self._open = self._open[-_END_BYTES:]
            self._cut = True

    def _read_whole(self) -> None:
        if self._cut:
            at = self._open.rfind(_MARK)
            usage = _first_object(self._open[at + len(_MARK) :]) if at >= 0 else None
        else:
            usage = _usage_in(_object(self._open))
        if usage is not None:
            self._note(*read_usage(usage))
            self._exact = True


def _last_mark(data: bytes, end: int) -> int:
    """Where a usage is told last before `end`; -1 if nowhere. Some engines say null in each event.

    From the end: that is where it stands, and CPython searches backwards in a third of the time.
    """
    at = data.rfind(_MARK, 0, end)
    while at >= 0 and data.startswith(b"null", at + len(_MARK)):
        at = data.rfind(_MARK, 0, at)
    return at


def _events_with_usage(data: bytes, last: int) -> list[tuple[int, int]]:
    """Start and end of each whole event that tells of one, in order."""
    found = []
    at = last
    while at >= 0:
        start = start_of_event(data, at)
        if (end := end_of_event(data, at)) >= 0:
            found.append((start, end))
        at = _last_mark(data, start)
    return found[::-1]


def _may_be_usage(beginning: bytes) -> bool:
    """Whether these bytes can be the beginning of an event that carries nothing but usage."""
    text = beginning.lstrip(b"\r\n")
    return (
        len(text) <= _HELD_BYTES_MAX
        and text[:5] == b"data:"[: len(text)]
        and not _CHOICE.search(text)
    )


def _usage_in(document: dict[str, Any]) -> dict[str, Any] | None:
    """The usage of an answer, a chunk, or what an event of Responses or Messages wraps."""
    for place in (document, document.get("response"), document.get("message")):
        if isinstance(place, dict) and isinstance(usage := place.get("usage"), dict):
            return usage
    return None


def _object(data: bytes) -> dict[str, Any]:
    """The JSON object, or an empty one where there is none."""
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) else {}


def _first_object(data: bytes) -> dict[str, Any] | None:
    """The JSON object at the beginning of the data, whatever follows it."""
    try:
        document, _ = json.JSONDecoder().raw_decode(data.decode(errors="replace").lstrip())
    except ValueError:
        return None
    return document if isinstance(document, dict) else None
