"""One answer on its way: tokens in, OpenAI's JSON or events out, as vLLM words them."""

import time
from collections.abc import Callable
from collections.abc import Sequence as AbstractSequence

import orjson

from loadtests.engine_simulator.batch import Sequence
from loadtests.engine_simulator.generation_request import GenerationRequest
from loadtests.engine_simulator.http_connection import HttpConnection

WORDS = tuple(
    f" {word}" for word in ("river", "stone", "lamp", "garden", "winter", "copper", "signal", "bay")
)
_DONE = b"data: [DONE]\n\n"


class Answer:
    """The sequences of one request and the connection that waits for them."""

    def __init__(
        self,
        request: GenerationRequest,
        connection: HttpConnection,
        *,
        request_id: str,
        model: str,
        sequences: AbstractSequence[Sequence],
        cut_after_tokens: int | None,
        on_end: Callable[["Answer"], None],
    ) -> None:
        self.sequences = sequences
        self._request = request
        self._connection = connection
        self._cut_after_tokens = cut_after_tokens
        self._on_end = on_end
        self._unfinished = len(sequences)
        self._tokens = 0
        self.is_complete = False
        kind = "chat.completion" if request.is_chat else "text_completion"
        prefix = "chatcmpl" if request.is_chat else "cmpl"
        self._head = {
            "id": f"{prefix}-{request_id}",
            "object": f"{kind}.chunk" if request.is_chat and request.stream else kind,
            "created": int(time.time()),
            "model": model,
        }
        # Everything of an event that comes before its choices, made once.
        self._event_head = b"data: " + orjson.dumps(self._head)[:-1] + b',"choices":['

    @property
    def tokens(self) -> int:
        """Tokens generated so far, over all choices."""
        return self._tokens

    def begin(self) -> None:
        """Status and headers of a stream go out at once, as vLLM's do."""
        if self._request.stream:
            self._connection.begin_stream()

    def on_tokens(self, tokens: AbstractSequence[tuple[Sequence, int]]) -> None:
        """Pass on what the engine generated in this turn."""
        self._tokens += len(tokens)
        self._unfinished -= sum(number == one.output_tokens for one, number in tokens)
        if self._request.stream:
            self._stream(tokens)
        elif self._unfinished == 0:
            self._finish()
            self._connection.send_json(200, self._whole())

    def _stream(self, tokens: AbstractSequence[tuple[Sequence, int]]) -> None:
        events = b"".join([self._event(one, number) for one, number in tokens])
        if self._cut_after_tokens is not None and self._tokens >= self._cut_after_tokens:
            self._connection.send_events(events)
            self._connection.abort()
            return
        if self._unfinished:
            self._connection.send_events(events)
            return
        self._finish()
        if self._request.options.include_usage:
            events += self._event_head + b'],"usage":' + orjson.dumps(self._usage()) + b"}\n\n"
        self._connection.end_stream(events + _DONE)

    def _finish(self) -> None:
        self.is_complete = True
        self._on_end(self)

    def _event(self, sequence: Sequence, number: int) -> bytes:
        is_last = number == sequence.output_tokens
        finish = b'"%b"' % self._finish_reason(sequence) if is_last else b"null"
        word = WORDS[number % len(WORDS)].encode()
        text = b'"delta":{"content":"%b"}' if self._request.is_chat else b'"text":"%b"'
        usage = b""
        if self._request.options.continuous_usage_stats:
            usage = b',"usage":' + orjson.dumps(self._usage())
        event = self._event_head + (
            b'{"index":%d,%b,"logprobs":null,"finish_reason":%b}]%b}\n\n'
            % (sequence.index, text % word, finish, usage)
        )
        if number == 1 and self._request.is_chat:
            # vLLM opens each choice with an event of its own, beside the first token.
            opening = b'{"index":%d,"delta":{"role":"assistant","content":""}}]}\n\n'
            event = self._event_head + opening % sequence.index + event
        return event

    def _finish_reason(self, sequence: Sequence) -> bytes:
        cap = self._request.output_cap
        return b"length" if cap is not None and sequence.output_tokens >= cap else b"stop"

    def _whole(self) -> dict[str, object]:
        choices = []
        for one in self.sequences:
            text = "".join(WORDS[number % len(WORDS)] for number in range(1, one.output_tokens + 1))
            content: dict[str, object] = (
                {"message": {"role": "assistant", "content": text}}
                if self._request.is_chat
                else {"text": text}
            )
            reason = self._finish_reason(one).decode()
            choices.append(
                {"index": one.index, **content, "logprobs": None, "finish_reason": reason}
            )
        return {**self._head, "choices": choices, "usage": self._usage()}

    def _usage(self) -> dict[str, int]:
        prompt_tokens = sum(self._request.prompts)
        return {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": self._tokens,
            "total_tokens": prompt_tokens + self._tokens,
        }
