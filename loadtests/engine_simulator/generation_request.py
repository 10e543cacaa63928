"""What a caller asks for, in the little that timing depends on. Pure.

There is no tokenizer: a prompt has one token per `BYTES_PER_TOKEN` bytes of text, and one per
number where token ids are sent.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

# English text in the tokenizers of today's chat models: 3.5 to 4.5 bytes a token.
BYTES_PER_TOKEN = 4
# What a chat template adds to each message, as in ChatML.
TOKENS_PER_MESSAGE = 5


class RequestRefused(Exception):
    """The request cannot be run; the message goes to the caller under 400."""


class StreamOptions(BaseModel):
    """What a stream tells besides its text."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    include_usage: bool = False
    continuous_usage_stats: bool = False


class Body(BaseModel):
    """The fields of chat/completions and completions that are read here."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model: str = ""
    cache_salt: str = ""
    messages: list[dict[str, Any]] = []
    prompt: str | list[str] | list[int] | list[list[int]] = ""
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    n: int = Field(1, ge=1, le=128)
    ignore_eos: bool = False
    stream: bool = False
    stream_options: StreamOptions | None = None


class GenerationRequest:
    """A request as the engine runs it: prompts in tokens, `choices` answers to each."""

    __slots__ = ("choices", "ignores_eos", "is_chat", "options", "output_cap", "prompts", "stream",
                 "texts")  # fmt: skip

    def __init__(self, body: Body, *, is_chat: bool) -> None:
        self.is_chat = is_chat
        self.prompts = _chat_prompt(body) if is_chat else _text_prompts(body)
        # For the prefix cache, which is kept apart by salt; dropped once it has looked at them.
        self.texts = [(body.cache_salt + text).encode() for text in _cached_texts(body, is_chat)]
        self.choices = body.n
        self.output_cap = body.max_completion_tokens or body.max_tokens
        self.ignores_eos = body.ignore_eos
        self.stream = body.stream
        self.options = body.stream_options or StreamOptions()


def read_request(content: bytes, *, is_chat: bool) -> GenerationRequest:
    """The request of a JSON body.

    Raises:
        RequestRefused: it is none that vLLM would take either.
    """
    try:
        return GenerationRequest(Body.model_validate_json(content), is_chat=is_chat)
    except ValidationError as error:
        raise RequestRefused(str(error.errors()[0]["msg"])) from error


def _chat_prompt(body: Body) -> list[int]:
    if not body.messages:
        raise RequestRefused("messages must not be empty")
    tokens = 0
    for message in body.messages:
        tokens += TOKENS_PER_MESSAGE + _tokens_of(_content(message))
    return [tokens]


def _content(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content)
    return str(content)


def _cached_texts(body: Body, is_chat: bool) -> list[str]:
    """Prompts as texts; those of token ids are left out."""
    if is_chat:
        return ["".join(f"\0{one.get('role')}\0{_content(one)}" for one in body.messages)]
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    return [prompt for prompt in prompts if isinstance(prompt, str)]


def _text_prompts(body: Body) -> list[int]:
    prompt = body.prompt
    if isinstance(prompt, str):
        return [_tokens_of(prompt)]
    if prompt and isinstance(prompt[0], int):
        return [len(prompt)]
    if not prompt:
        raise RequestRefused("prompt must not be empty")
    return [max(1, len(one)) if isinstance(one, list) else _tokens_of(str(one)) for one in prompt]


def _tokens_of(text: str) -> int:
    return max(1, len(text.encode()) // BYTES_PER_TOKEN)
