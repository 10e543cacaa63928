"""Small blocking HTTP calls around a measurement: is it up, does it answer what it should."""

import http.client
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from loadtests.errors import MeasurementError, ProcessFailedError
from loadtests.process import Process

POLL_S = 0.1
ANSWER_S_MAX = 120.0


@dataclass(frozen=True)
class Answer:
    """Status and whole body of one response."""

    status: int
    body: bytes

    def json(self) -> Any:
        """The body as JSON; raises MeasurementError when it is none."""
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise MeasurementError(f"not JSON under {self.status}: {self.body[:300]!r}") from error


def call(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    timeout_s: float = ANSWER_S_MAX,
) -> Answer:
    """One request on a connection of its own. Raises OSError when nothing answers."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=timeout_s)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request(method, path or "/", body=body, headers=dict(headers or {}))
        response = connection.getresponse()
        return Answer(response.status, response.read())
    except http.client.HTTPException as error:
        raise OSError(f"{url}: {error!r}") from error
    finally:
        connection.close()


def wait_until_ok(
    url: str, process: Process, deadline_s: float, headers: Mapping[str, str] | None = None
) -> float:
    """Poll until the URL answers 200, and return the seconds that took.

    Raises:
        ProcessFailedError: the process ended, or the deadline passed.
    """
    started = time.monotonic()
    last = "no answer"
    while time.monotonic() - started < deadline_s:
        process.require_running()
        try:
            answer = call("GET", url, headers=headers, timeout_s=5.0)
        except OSError as error:
            last = repr(error)
        else:
            if answer.status == 200:
                return time.monotonic() - started
            last = f"{answer.status} {answer.body[:200]!r}"
        time.sleep(POLL_S)
    raise ProcessFailedError(
        f"{process.name} did not answer 200 at {url} within {deadline_s:.0f} s (last: {last}); "
        f"the end of {process.log_path}:\n{process.log_tail()}"
    )
