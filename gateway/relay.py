"""Passes the engine's answer on, byte for byte, as it comes.

Each piece that the engine sends goes out before the next is awaited; the meter on its way reads
no event but the one with the usage. Once the status is out, a fault can only be told inside the
stream: an event-stream ends with an error event, and any other body is cut short, since a
well-formed error under status 200 would be taken for success.
"""

from collections.abc import Iterable

import structlog
from starlette.types import Send

from gateway.answer_meter import AnswerMeter
from gateway.endpoints import Endpoint
from gateway.error_shapes import error_event
from gateway.errors import ApiError, EngineBroken, EngineFailed
from gateway.metrics import ENGINE_FAULTS
from gateway.request_body import ClientWatch
from gateway.responses import send_whole
from gateway.upstream import EngineAnswer
from gateway.usage import Usage

log = structlog.get_logger(__name__)

# Answers up to this size are read whole and sent in one piece; a chat answer has 1 to 20 KB.
_WHOLE_BYTES_MAX = 256 * 1024


class Relay:
    """One answer on its way to one caller."""

    def __init__(
        self,
        send: Send,
        watch: ClientWatch,
        *,
        headers: Iterable[tuple[bytes, bytes]],
        endpoint: Endpoint,
        hide_usage: bool,
        request_id: str,
    ) -> None:
        self._send = send
        self._watch = watch
        self._headers = tuple(headers)
        self._endpoint = endpoint
        self._hide_usage = hide_usage
        self._meter: AnswerMeter | None = None
        self._request_id = request_id
        self._started = False
        self._is_event_stream = False

    @property
    def started(self) -> bool:
        """Whether status and headers are out, so that a fault can no longer be a status."""
        return self._started

    def usage(self, prompt_tokens_estimate: int) -> Usage:
        """What was spent; nothing where no answer began, or the answer was an error."""
        if self._meter is None:
            return Usage(0, 0, exact=True)
        return self._meter.usage(prompt_tokens_estimate)

    async def pass_on(self, answer: EngineAnswer) -> None:
        """The whole of an answer.

        Raises:
            EngineFailed: the engine answered with a fault of its own (5xx).
            EngineBroken: the answer broke off.
        """
        if answer.status >= 500:
            ENGINE_FAULTS.labels("status").inc()
            log.error("engine_fault", status=answer.status, body=(await answer.whole())[:500])
            raise EngineFailed("The engine failed to answer this request.")
        self._is_event_stream = answer.content_type.startswith("text/event-stream")
        if answer.status == 200:
            self._meter = AnswerMeter(
                self._endpoint, stream=self._is_event_stream, hide_usage=self._hide_usage
            )
        length = answer.content_length
        if length is not None and not self._is_event_stream and length <= _WHOLE_BYTES_MAX:
            body = await answer.whole()
            if self._meter is not None:
                self._meter.feed(body)
            self._started = True
            self._watch.disarm()
            await send_whole(self._send, answer.status, body, self._headers)
            return
        await self._stream(answer)

    async def _stream(self, answer: EngineAnswer) -> None:
        await self._start(answer)
        meter = self._meter
        async for chunk in answer.chunks():
            if meter is not None and not (chunk := meter.feed(chunk)):
                continue
            await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        self._watch.disarm()
        rest = b"" if meter is None else meter.finish()
        await self._send({"type": "http.response.body", "body": rest})

    async def _start(self, answer: EngineAnswer) -> None:
        headers = [(b"content-type", answer.content_type.encode("latin-1")), *self._headers]
        if self._is_event_stream:
            headers += [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
        self._started = True
        await self._send(
            {"type": "http.response.start", "status": answer.status, "headers": headers}
        )

    async def end_with(self, error: ApiError) -> None:
        """Tells a fault after the status is out.

        Raises:
            EngineBroken: the body is not an event stream; the connection must be cut.
        """
        if not self._is_event_stream:
            raise EngineBroken(error.message)
        self._watch.disarm()
        event = error_event(error, self._endpoint.shape, self._request_id)
        await self._send({"type": "http.response.body", "body": event})
