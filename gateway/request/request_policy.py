"""What a request may ask for, and what of it the engine gets. Pure.

The engine never sees the caller's bytes: its body is written anew from the fields that stand in
its endpoint's allow-list, with the gateway's own answer cap, usage request and cache salt.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

import orjson

from gateway.endpoints import Endpoint
from gateway.errors import InvalidRequest
from gateway.request.body_fields import Field, check_body, out_of_bounds
from gateway.request.body_parse import parse_object
from gateway.request.chat_fields import CHAT, COMPLETIONS, EMBEDDINGS
from gateway.request.chat_form import ChatForm, chat_form
from gateway.request.messages_fields import MESSAGES
from gateway.request.prompt_texts import prompt_texts
from gateway.request.responses_fields import RESPONSES

FIELDS: Final[Mapping[str, Mapping[str, Field]]] = {
    "chat/completions": CHAT,
    "completions": COMPLETIONS,
    "responses": RESPONSES,
    "messages": MESSAGES,
    "embeddings": EMBEDDINGS,
}
REQUIRED: Final[Mapping[str, tuple[str, ...]]] = {
    "chat/completions": ("messages",),
    "completions": ("prompt",),
    "responses": ("input",),
    "messages": ("messages", "max_tokens"),
    "embeddings": ("input",),
}
# The names of an answer's cap; the first is the one that the engine gets.
_CAPS: Final[Mapping[str, tuple[str, ...]]] = {
    "chat/completions": ("max_completion_tokens", "max_tokens"),
    "completions": ("max_tokens",),
    "responses": ("max_output_tokens",),
    "messages": ("max_tokens",),
    "embeddings": (),
}
# OpenAI's and vLLM's default of the old endpoint.
_COMPLETION_TOKENS = 16
# The endpoints whose streams tell their usage only when asked.
_ASKED_FOR_USAGE = ("chat/completions", "completions")

# A parse and a check of this many bytes take a millisecond; larger bodies go to a thread.
THREAD_FROM_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class PolicyBounds:
    """What settings bound, whatever a plan allows."""

    choices_max: int = 8
    embedding_inputs_max: int = 2048


@dataclass(frozen=True, slots=True)
class RequestView:
    """A request that may be sent.

    choices: answers that are made, n times prompts; 0 for embeddings.
    output_cap: tokens of one answer as the caller capped it; None if it did not.
    texts, message_count, token_ids, media: what the prompt is made of (see
        gateway.request.prompt_texts).
    chat_form: the conversation for the model's template, where there are tools, calls or results.
    beginning: how many of the texts every turn of the conversation begins with.
    wants_usage: the caller asked for the usage of its stream.
    wants_running_usage: it asked for it in each event.
    """

    model: str
    stream: bool
    choices: int
    output_cap: int | None
    texts: tuple[str, ...]
    beginning: int
    message_count: int
    token_ids: int
    media: int
    chat_form: ChatForm | None
    wants_usage: bool
    wants_running_usage: bool
    _endpoint: str
    _document: Mapping[str, Any]

    def for_model(self, model: str) -> "RequestView":
        """The same request to another model: the one that the name it asks for stands for."""
        return self if model == self.model else replace(self, model=model)

    @property
    def can_run_usage(self) -> bool:
        """Whether vLLM can say in each event what the whole answer has cost: of one choice."""
        return self.stream and self.choices == 1 and self._endpoint in _ASKED_FOR_USAGE

    def body_for_engine(
        self,
        *,
        output_cap: int | None = None,
        cache_salt: str | None = None,
        running_usage: bool = False,
    ) -> bytes:
        """The engine's body.

        output_cap: tokens of one answer at most; None leaves the caller's own.
        cache_salt: keeps the engine's prefix cache apart; vLLM takes it on all five endpoints.
        running_usage: ask for the usage in each event of a stream, where `can_run_usage`.
        """
        body = dict(self._document)
        names = _CAPS[self._endpoint]
        cap = self.output_cap if output_cap is None else output_cap
        for name in names:
            body.pop(name, None)
        if names and cap is not None:
            body[names[0]] = cap
            if body.get("min_tokens", 0) > cap:
                body["min_tokens"] = cap
        body["model"] = self.model
        if cache_salt is not None:
            body["cache_salt"] = cache_salt
        if self._endpoint == "responses":
            body["store"] = False  # vLLM would keep it in memory
        if self.stream and self._endpoint in _ASKED_FOR_USAGE:
            asked: dict[str, Any] = body.get("stream_options", {}) if self.wants_usage else {}
            if running_usage and self.can_run_usage:
                asked = {**asked, "continuous_usage_stats": True}
            body["stream_options"] = {**asked, "include_usage": True}
        return orjson.dumps(body)


def view_request(
    endpoint: Endpoint, body: bytes, bounds: PolicyBounds | None = None
) -> RequestView:
    """Reads and judges a body.

    Raises:
        InvalidRequest: `invalid_json`, `too_many_values`, `missing_model`, `missing_parameter`,
            `invalid_type`, `out_of_bounds` or `unsupported_parameter`; `param` names the field.
    """
    bounds = bounds or PolicyBounds()
    given = parse_object(body)
    model = given.get("model")
    if not isinstance(model, str) or not model:
        raise InvalidRequest(
            "`model` must name a model. GET /v1/models lists them.",
            code="missing_model" if model is None else "invalid_type",
            param="model",
        )
    stream = _stream(endpoint, given)
    name = endpoint.name
    document = check_body(FIELDS[name], given, REQUIRED[name])
    prompt = prompt_texts(name, document)
    choices = _choices(name, document, prompt.prompts, bounds)
    options = document.get("stream_options", {})
    wants_usage = bool(options.get("include_usage"))
    caps = (document[cap] for cap in _CAPS[name] if cap in document)
    return RequestView(
        model=model,
        stream=stream,
        choices=choices,
        output_cap=next(caps, _COMPLETION_TOKENS if name == "completions" else None),
        texts=tuple(prompt.texts),
        beginning=prompt.beginning,
        message_count=prompt.message_count,
        token_ids=prompt.token_ids,
        media=prompt.media,
        chat_form=chat_form(name, document) if prompt.has_tools else None,
        wants_usage=wants_usage,
        wants_running_usage=wants_usage and bool(options.get("continuous_usage_stats")),
        _endpoint=name,
        _document=document,
    )


# An HMAC takes 10 µs of a chat's 300; an account asks again and again. About 4 MB when full.
@lru_cache(maxsize=16_384)
def cache_salt(secret: bytes, account_id: str) -> str:
    """The account's salt for the engine's prefix cache: 43 characters, the same everywhere.

    Without it, how soon an answer begins would tell whether somebody else has sent the same
    beginning of a prompt.
    """
    digest = hmac.digest(secret, b"cache-salt\0" + account_id.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _stream(endpoint: Endpoint, given: Mapping[str, Any]) -> bool:
    stream = given.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise InvalidRequest("`stream` must be true or false.", code="invalid_type", param="stream")
    if stream and not endpoint.streams:
        raise InvalidRequest(
            f"{endpoint.path} does not stream.", code="unsupported_parameter", param="stream"
        )
    if not stream and given.get("stream_options") and endpoint.name in _ASKED_FOR_USAGE:
        raise InvalidRequest(
            "`stream_options` are for streams. Send `stream: true` with them.",
            code="unsupported_parameter",
            param="stream_options",
        )
    return bool(stream)


def _choices(endpoint: str, document: Mapping[str, Any], prompts: int, bounds: PolicyBounds) -> int:
    """Answers that are made. Each is a sequence of its own in the engine, all of them in one slot.

    Raises:
        InvalidRequest: more than the bounds allow.
    """
    if endpoint == "embeddings":
        if prompts > bounds.embedding_inputs_max:
            out_of_bounds("input", f"a list of at most {bounds.embedding_inputs_max} inputs")
        return 0
    choices = prompts * int(document.get("n", 1))
    if choices > bounds.choices_max:
        param = "n" if "n" in document else "prompt"
        out_of_bounds(param, f"such that n times prompts is at most {bounds.choices_max}")
    if document.get("echo") and "logprobs" in document:
        raise InvalidRequest(
            "`echo` with `logprobs` would need the logits of the whole prompt. Send one of them.",
            code="unsupported_parameter",
            param="echo",
        )
    return choices
