"""How many tokens a prompt has, counted with the model's own tokenizer before anything is charged.

The one module that imports tokenizers. The count is at least what the engine makes of the request,
so that nobody gets more than was reserved: the texts by themselves, and for each message and each
conversation a bound of what the chat template puts around them. Where there is no tokenizer the
UTF-8 bytes are counted: no tokenizer makes more tokens than there are bytes. What a template adds
to tool definitions, and images, are not in the count; the settlement corrects it.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import structlog
from tokenizers import Tokenizer

from gateway.limits.known_counts import KnownCounts
from gateway.limits.reservation import TokenAsk

log = structlog.get_logger(__name__)

# Measured on SmolLM2 over 4,000 conversations: at most 5 a message and 26 for the whole, its
# default system prompt included, and 0.3 a message where a text begins or ends with blanks.
# Llama 3 and Qwen 2.5 take as many. A template with a longer default instruction (MOSS: some
# 1,000) says so in its replica's record.
_MESSAGE_TOKENS = 8
_CONVERSATION_TOKENS = 40
# A text by itself may get a token for its beginning.
_TEXT_TOKENS = 1
# SmolLM2's tokenizer takes about 0.8 ms for 1,000 characters: from 3 ms on the loop goes on
# without it.
_LOOP_CHARS_MAX = 4_000
# UTF-8 bytes a token, at least, in whatever language a tokenizer was trained on.
_BYTES_PER_TOKEN = 3


class Countable(Protocol):
    """What of a request costs tokens; gateway.request.request_policy.RequestView."""

    @property
    def model(self) -> str: ...

    @property
    def texts(self) -> Sequence[str]:
        """Everything that becomes prompt; tool definitions and other structure as their JSON."""

    @property
    def message_count(self) -> int:
        """Messages of a conversation; 0 where the texts go to the model as they are."""

    @property
    def token_ids(self) -> int:
        """Tokens that the caller sent as such."""

    @property
    def choices(self) -> int: ...

    @property
    def output_cap(self) -> int | None: ...


class TokenCounter:
    """Counts with the tokenizer of each model. `folder_of` names its folder, "" where unknown."""

    def __init__(self, folder_of: Callable[[str], str]) -> None:
        self._folder_of = folder_of
        self._by_folder: dict[str, asyncio.Task[_TextCounter | None]] = {}

    async def count(self, request: Countable) -> int:
        """Tokens of the prompt: exact or above."""
        return (await self.ask(request, None)).prompt_tokens

    async def ask(
        self, request: Countable, context_tokens_max: int | None, *, template_tokens: int = 0
    ) -> TokenAsk:
        """What the request may use at most.

        `template_tokens` is what the model's chat template puts around one empty message.
        """
        tokenizer = await self._tokenizer(request.model)
        texts = request.texts
        around = _TEXT_TOKENS * len(texts) + request.token_ids
        if request.message_count:
            conversation = max(_CONVERSATION_TOKENS, template_tokens)
            around += conversation + _MESSAGE_TOKENS * request.message_count
        if tokenizer is None:
            counts = [len(text.encode("utf-8", "surrogatepass")) for text in texts]
        else:
            counts = await tokenizer.counts(texts)
        # Texts that are no conversation are prompts of their own, each with the whole context.
        filled = sum(counts) if request.message_count else max(counts, default=0)
        if tokenizer is None:
            filled //= _BYTES_PER_TOKEN
        return TokenAsk(
            model=request.model,
            prompt_tokens=sum(counts) + around,
            choices=request.choices,
            output_cap=request.output_cap,
            context_tokens_max=context_tokens_max,
            context_tokens_filled=filled + around,
        )

    async def _tokenizer(self, model: str) -> "_TextCounter | None":
        folder = self._folder_of(model)
        if not folder:
            return None
        loading = self._by_folder.get(folder)
        if loading is None:  # one load, however many requests wait for it
            loading = asyncio.create_task(asyncio.to_thread(_load, folder), name="load-tokenizer")
            self._by_folder[folder] = loading
        return loading.result() if loading.done() else await asyncio.shield(loading)


class _TextCounter:
    """One tokenizer, and what it has counted lately."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._known = KnownCounts()

    async def counts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text by itself."""
        counts = [self._known.get(text) for text in texts]
        new = [text for text, count in zip(texts, counts, strict=True) if count is None]
        long = sum(map(len, new)) > _LOOP_CHARS_MAX
        found = await asyncio.to_thread(self._count_batch, new) if long else self._count(new)
        for text, count in zip(new, found, strict=True):
            self._known.put(text, count)
        rest = iter(found)
        return [next(rest) if count is None else count for count in counts]

    def _count(self, texts: Sequence[str]) -> list[int]:
        encode = self._tokenizer.encode
        return [len(encode(_valid(text), add_special_tokens=False).ids) for text in texts]

    def _count_batch(self, texts: Sequence[str]) -> list[int]:
        """In a thread: a batch is counted without the interpreter's lock."""
        valid = [_valid(text) for text in texts]
        encodings = self._tokenizer.encode_batch_fast(valid, add_special_tokens=False)
        return [len(encoding.ids) for encoding in encodings]


def _load(folder: str) -> _TextCounter | None:
    """About a second for 50,000 tokens. None, told once, where it cannot be loaded."""
    path = Path(folder) / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing more exact
        log.warning("tokenizer_unusable", file=str(path), error=str(error), counted="bytes")
        return None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return _TextCounter(tokenizer)


def _valid(text: str) -> str:
    """Without lone surrogates, which JSON may hold and no tokenizer takes."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
