"""One streamed chat at a time over geventhttpclient, hanging up when told to.

The one module that imports geventhttpclient: locust's own FastHttpUser reads answers whole.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import gevent
from geventhttpclient import HTTPClient
from geventhttpclient.response import (
    HTTPConnectionClosed,
    HTTPParseError,
    HTTPSocketPoolResponse,
)

from loadtests.clients.chat_reading import ChatReading, error_of

CONNECT_S_MAX = 10.0
# Longer than the longest wait in line (300 s) and the gap of a heartbeat.
SILENCE_S_MAX = 330.0


@dataclass(slots=True)
class ChatAnswer:
    """What came of one request. `failure` says what broke, empty when nothing did."""

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    reading: ChatReading = field(default_factory=ChatReading)
    end_s: float = 0.0
    failure: str = ""
    hung_up: bool = False
    body: bytes = b""

    @property
    def is_whole(self) -> bool:
        """Whether it is an answer to its end."""
        return self.reading.is_done and self.reading.error is None and not self.failure

    @property
    def reason(self) -> str:
        """The code of the error that ended it, before or after its status."""
        error = self.reading.error if self.reading.error is not None else error_of(self.body)
        return str(error.get("code") or error.get("type") or "")


class ChatConnection:
    """A connection that is kept between chats and closed by a hang-up."""

    def __init__(self, base_url: str, api_key: str) -> None:
        self._base_url = base_url
        self._headers = {
            "Authorization": f"Bearer {api_key}",
            "Content-Type": "application/json",
            "Accept": "text/event-stream",
        }
        self._client: HTTPClient | None = None

    def chat(
        self,
        body: bytes,
        answer: ChatAnswer,
        *,
        patience_s: float | None = None,
        path: str = "/v1/chat/completions",
    ) -> None:
        """Send one chat and read it to its end into `answer`, which holds so far what came.

        With `patience_s` the caller hangs up when so long no token has come; tokens end its
        impatience. Never raises for what the other side does; killed, it hangs up.
        """
        started_s = time.monotonic()
        impatience = gevent.Timeout(patience_s, exception=_Impatient)
        response: HTTPSocketPoolResponse | None = None
        is_whole = False
        try:
            if patience_s is not None:
                impatience.start()
            client = self._client or self._connect()
            response = client.request("POST", path, body=body, headers=self._headers)
            answer.status = response.status_code
            answer.headers = {name.lower(): str(value) for name, value in response.items()}
            if answer.headers.get("content-type", "").startswith("text/event-stream"):
                self._read_events(response, answer, started_s, impatience)
            else:
                answer.body = response.read()
            is_whole = True
        except _Impatient:
            answer.hung_up = True
        except gevent.GreenletExit:
            answer.hung_up = True
            raise
        except (OSError, HTTPParseError, HTTPConnectionClosed) as error:
            answer.failure = f"{type(error).__name__}: {error}"[:200]
        finally:
            impatience.close()
            answer.end_s = time.monotonic() - started_s
            if not is_whole:
                self.close(response)

    def close(self, response: HTTPSocketPoolResponse | None = None) -> None:
        """Close the connection, in the middle of an answer too."""
        if response is not None:
            # Release hands the socket to the pool, and the pool closes what it has.
            response.release()
        if self._client is not None:
            self._client.close()
            self._client = None

    def _connect(self) -> HTTPClient:
        self._client = HTTPClient.from_url(
            self._base_url,
            connection_timeout=CONNECT_S_MAX,
            network_timeout=SILENCE_S_MAX,
            concurrency=1,
        )
        return self._client

    def _read_events(
        self,
        response: HTTPSocketPoolResponse,
        answer: ChatAnswer,
        started_s: float,
        impatience: gevent.Timeout,
    ) -> None:
        reading = answer.reading
        while line := response.readline(b"\n"):
            reading.take_line(line, time.monotonic() - started_s)
            if reading.tokens:
                impatience.cancel()
        # What stands after the last line end, and the chunk that ends the body.
        response.read()
        if not reading.is_done and reading.error is None:
            answer.failure = "the stream ended without [DONE]"


class _Impatient(Exception):
    """The caller has waited long enough."""
