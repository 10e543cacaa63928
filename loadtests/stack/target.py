"""Something that takes chat requests: the gateway, a peer, or the bare upstream."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from loadtests.clients import canned, http_probe
from loadtests.errors import MeasurementError
from loadtests.process import Process


@dataclass(frozen=True)
class Target:
    """Where to send, with which headers, and which process works for it."""

    name: str
    url: str
    process: Process
    headers: Mapping[str, str] = field(default_factory=dict)
    checks: str = ""
    """What it does to a request besides passing it on, for the table."""
    run_s_min: float = 0.0
    """Shortest run that means something: a slow target answers its connections in waves."""

    @property
    def chat_url(self) -> str:
        """The chat completions endpoint."""
        return f"{self.url}/v1/chat/completions"


def require_right_answers(target: Target, *, stream: bool) -> int:
    """Send one chat and check all of the answer; return the body's size in bytes.

    Raises:
        MeasurementError: the target answers something else than the canned reply.
    """
    answer = http_probe.call(
        "POST",
        target.chat_url,
        headers={"Content-Type": "application/json", **target.headers},
        body=canned.chat_request(stream=stream),
    )
    if answer.status != 200:
        raise MeasurementError(f"{target.name} answered {answer.status}: {answer.body[:500]!r}")
    if stream:
        words = sum(
            1
            for event in events_of(answer.body)
            if b'"content": " word' in event or b'"content":" word' in event
        )
        if words != canned.STREAM_EVENTS - 3 or b"[DONE]" not in answer.body:
            raise MeasurementError(
                f"{target.name} passed on {words} of {canned.STREAM_EVENTS - 3} words: "
                f"{answer.body[-300:]!r}"
            )
        return len(answer.body)
    expected = json.loads(canned.chat_completion())["choices"][0]["message"]["content"]
    content = answer.json()["choices"][0]["message"]["content"]
    if content != expected:
        raise MeasurementError(f"{target.name} answered {content!r}, not {expected!r}")
    return len(answer.body)


def events_of(body: bytes) -> list[bytes]:
    """The events of a server-sent event stream, undecoded."""
    return [event for event in body.split(b"\n\n") if event.startswith(b"data: ")]
