"""Passes the engine's answer on, byte for byte, as it comes.

Each piece that the engine sends goes out before the next is awaited; the meter on its way reads
no event but the one with the usage. Once the status is out, a fault can only be told inside the
stream: an event-stream ends with an error event, and any other body is cut short, since a
well-formed error under status 200 would be taken for success.
"""

import asyncio
from typing import NoReturn

from starlette.types import Send

from gateway.answer.answer_meter import AnswerMeter
from gateway.answer.answer_times import AnswerTimes
from gateway.answer.engine_refusals import TOLD_CHARS_MAX, engine_failed, refusal
from gateway.answer.fault_events import FaultEvents
from gateway.answer.place_comment import place_comment
from gateway.answer.usage import Usage
from gateway.connection.responses import send_whole
from gateway.endpoints import Endpoint
from gateway.engines.upstream import EngineAnswer
from gateway.error_shapes import error_event
from gateway.errors import ApiError, EngineBroken
from gateway.line.ticket import Place
from gateway.request.request_body import ClientWatch

# Answers up to this size are read whole and sent in one piece; a chat answer has 1 to 20 KB.
_WHOLE_BYTES_MAX = 256 * 1024
_EVENT_STREAM = "text/event-stream"
_JSON = "application/json"
_PREFILL_COMMENT = b": prefill\n\n"


class Relay:
    """One answer on its way to one caller."""

    def __init__(
        self,
        send: Send,
        watch: ClientWatch,
        *,
        headers: tuple[tuple[bytes, bytes], ...],
        endpoint: Endpoint,
        stream: bool,
        hide_usage: bool,
        hide_running_usage: bool,
        request_id: str,
        times: AnswerTimes,
    ) -> None:
        self._send = send
        self._watch = watch
        self._headers = headers
        self._endpoint = endpoint
        self._hide_usage = hide_usage
        self._hide_running_usage = hide_running_usage
        self._meter: AnswerMeter | None = None
        self._request_id = request_id
        self._times = times
        self._started = False
        self._has_passed = False
        self._prefill: asyncio.Task[None] | None = None
        self._is_event_stream = stream
        self.asked_for_stream = stream

    @property
    def started(self) -> bool:
        """Whether status and headers are out, so that a fault can no longer be a status."""
        return self._started

    @property
    def has_passed(self) -> bool:
        """Whether the caller has a byte of an engine's answer; notices do not count."""
        return self._has_passed

    @property
    def client_is_gone(self) -> bool:
        """Whether nobody is left to answer."""
        return self._watch.client_is_gone

    def usage(self, prompt_tokens_estimate: int) -> Usage:
        """What was spent; the prompt alone where the caller hung up before an answer began."""
        if self._meter is None:
            return Usage(prompt_tokens_estimate, 0, exact=False)
        return self._meter.usage(prompt_tokens_estimate)

    async def tell_place(self, place: Place) -> None:
        """Tells a waiting caller where it stands; the status goes out with the first telling.

        A stream gets a comment line, which clients of server-sent events leave aside; JSON may
        begin with any white space.
        """
        if not self._started:
            kind = _EVENT_STREAM if self.asked_for_stream else _JSON
            await self._start(200, kind, at_once=True)
        await self._notice(place_comment(place))

    def tell_of_prefill(self, *, every_s: float) -> None:
        """Goes on with notices until the engine's first byte, for a caller who has had some.

        Who has had none is owed its true status, and another replica's should this one fail.
        """
        if self._started:
            self._prefill = asyncio.create_task(self._tell_of_prefill(every_s), name="prefill")

    def end_prefill(self) -> None:
        """Nothing is sent beside the answer from now on."""
        if self._prefill is not None:
            self._prefill.cancel()
            self._prefill = None

    async def _tell_of_prefill(self, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            await self._notice(_PREFILL_COMMENT)

    async def _notice(self, comment: bytes) -> None:
        notice = comment if self.asked_for_stream else b" "
        await self._send({"type": "http.response.body", "body": notice, "more_body": True})

    async def pass_on(self, answer: EngineAnswer) -> None:
        """The whole of an answer.

        Raises:
            EngineFailed: the engine answered with a fault of its own (5xx, or an event before any
                output), or it would not let the gateway in.
            EngineBusy: it has too much to do (429), which is no limit of the caller's.
            EngineRefused: it refused the request.
            EngineBroken: the answer broke off, or the engine told of a fault within it.
        """
        if answer.status != 200:
            raise await refusal(answer, self._headers)
        length = answer.content_length
        if not self._started and length is not None and length <= _WHOLE_BYTES_MAX:
            await self._whole(answer)
            return
        await self._stream(answer)

    async def _whole(self, answer: EngineAnswer) -> None:
        body = await answer.whole()
        self._meter_of(stream=False).feed(body)
        self._started = self._has_passed = True
        self._watch.disarm()
        await send_whole(self._send, answer.status, body, self._headers)

    async def _stream(self, answer: EngineAnswer) -> None:
        if not self._started:
            self._is_event_stream = answer.content_type.startswith(_EVENT_STREAM)
        meter = self._meter_of(stream=self._is_event_stream)
        faults = FaultEvents(self._endpoint.name) if self._is_event_stream else None
        last, is_over = b"", False
        while not is_over and (piece := await answer.read()):
            is_over = answer.at_end
            if faults is not None:
                piece = faults.feed(piece)
                is_over = is_over or faults.told is not None
                if not piece:
                    continue
                self._times.piece()
            passed = meter.feed(piece)
            if is_over:
                last = passed
            elif passed:
                await self._pass(answer, passed)
        if faults is not None:
            if faults.told is not None:
                await self._end_at_fault(answer, last, faults.told)
            last += meter.feed(rest) if (rest := faults.rest()) else b""
        if not self._has_passed:
            await self._begin(answer)
        self._watch.disarm()
        await self._send({"type": "http.response.body", "body": last + meter.finish()})

    async def _pass(self, answer: EngineAnswer, body: bytes) -> None:
        if not self._has_passed:
            await self._begin(answer)
        await self._send({"type": "http.response.body", "body": body, "more_body": True})

    async def _end_at_fault(self, answer: EngineAnswer, before: bytes, told: str) -> NoReturn:
        """The engine told of a fault; what it said before goes to the caller.

        Raises:
            EngineFailed, EngineBroken: see pass_on.
        """
        if before:
            await self._pass(answer, before)
        if not self._has_passed:
            raise engine_failed(answer.status, told.encode())
        raise EngineBroken(f"the engine told of a fault: {told[:TOLD_CHARS_MAX]}")

    async def _begin(self, answer: EngineAnswer) -> None:
        """Not before the engine's first byte: until then another replica may answer instead."""
        self.end_prefill()
        self._has_passed = True
        if not self._started:
            await self._start(answer.status, answer.content_type)

    def _meter_of(self, *, stream: bool) -> AnswerMeter:
        self._meter = AnswerMeter(
            self._endpoint,
            stream=stream,
            hide_usage=self._hide_usage,
            hide_running_usage=self._hide_running_usage,
        )
        return self._meter

    async def _start(self, status: int, content_type: str, *, at_once: bool = False) -> None:
        """`at_once`: proxies are to pass on each byte of this body as it comes, as of a stream."""
        headers = [(b"content-type", content_type.encode("latin-1")), *self._headers]
        if self._is_event_stream:
            headers.append((b"cache-control", b"no-cache"))
        if self._is_event_stream or at_once:
            headers.append((b"x-accel-buffering", b"no"))
        self._started = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

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
