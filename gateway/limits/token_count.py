"""How many tokens a prompt has, counted with the model's own tokenizer before anything is charged.

The count is at least what the engine makes of the request, so that nobody gets more than was
reserved: the texts by themselves, and for each message and each conversation a bound of what the
chat template puts around them. Where there are tools, calls or results the template itself is
rendered. Where there is no tokenizer the UTF-8 bytes are counted: no tokenizer makes more tokens
than there are bytes. Images, sounds and films cost what a setting says, within the context.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from gateway.limits.model_tokenizer import ModelTokenizer
from gateway.limits.reservation import TokenAsk
from gateway.request.chat_form import ChatForm

# Measured on SmolLM2 over 4,000 conversations: at most 5 a message and 26 for the whole, its
# default system prompt included, and 0.3 a message where a text begins or ends with blanks.
# Llama 3 and Qwen 2.5 take as many. A template with a longer default instruction (MOSS: some
# 1,000) says so in its replica's record.
_MESSAGE_TOKENS = 8
_CONVERSATION_TOKENS = 40
# What a template that cannot be rendered here says around tools: Qwen 2.5 takes 150 and 20 for
# each, MOSS 40 for each answer.
_TOOLS_TOKENS = 300
_TOOL_TOKENS = 40
# A text by itself may get a token for its beginning.
_TEXT_TOKENS = 1
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
    def media(self) -> int:
        """Images, sounds and films."""

    @property
    def chat_form(self) -> ChatForm | None:
        """What the template gets, where there are tools, calls or results."""

    @property
    def choices(self) -> int: ...

    @property
    def output_cap(self) -> int | None: ...


class TokenCounter:
    """Counts with the tokenizer of each model.

    `folder_of` names its folder, "" where unknown. `media_tokens` is for one image.
    """

    def __init__(self, folder_of: Callable[[str], str], *, media_tokens: int = 0) -> None:
        self._folder_of = folder_of
        self._media_tokens = media_tokens
        self._by_folder: dict[str, asyncio.Task[ModelTokenizer | None]] = {}

    async def count(self, request: Countable) -> int:
        """Tokens of the prompt: exact or above."""
        return (await self.ask(request, None)).prompt_tokens

    async def ask(
        self,
        request: Countable,
        context_tokens_max: int | None,
        *,
        template_tokens: int = 0,
        output_tokens_default: int | None = None,
    ) -> TokenAsk:
        """What the request may use at most.

        `template_tokens` is what the model's chat template puts around one empty message,
        `output_tokens_default` its largest answer where the caller names none.
        """
        tokenizer = await self._tokenizer(request.model)
        form = request.chat_form
        rendered = None if form is None or tokenizer is None else await tokenizer.rendered(form)
        if rendered is None:
            prompt, filled = await _around_texts(request, tokenizer, template_tokens)
        else:
            # Texts that the engine strips and the template's dates may differ by some.
            prompt = filled = rendered + _TEXT_TOKENS * request.message_count
        if request.media:
            media = request.media * self._media_tokens
            if context_tokens_max:
                # More than the context is refused by the engine. Half of it is left for the
                # answer, which would else be cut to one token where images are small.
                filled += min(media, max(0, context_tokens_max - filled) // 2)
                media = min(media, context_tokens_max)
            prompt += media
        return TokenAsk(
            model=request.model,
            prompt_tokens=prompt,
            choices=request.choices,
            output_cap=request.output_cap,
            context_tokens_max=context_tokens_max,
            context_tokens_filled=filled,
            output_tokens_default=output_tokens_default,
        )

    async def _tokenizer(self, model: str) -> ModelTokenizer | None:
        folder = self._folder_of(model)
        if not folder:
            return None
        loading = self._by_folder.get(folder)
        if loading is None:  # one load, however many requests wait for it
            loading = asyncio.create_task(
                asyncio.to_thread(ModelTokenizer.load, folder), name="load-tokenizer"
            )
            self._by_folder[folder] = loading
        return loading.result() if loading.done() else await asyncio.shield(loading)


async def _around_texts(
    request: Countable, tokenizer: ModelTokenizer | None, template_tokens: int
) -> tuple[int, int]:
    """Tokens of the texts and of what stands around them: of all, and of what fills a context."""
    texts = request.texts
    around = _TEXT_TOKENS * len(texts) + request.token_ids
    if request.message_count:
        conversation = max(_CONVERSATION_TOKENS, template_tokens)
        around += conversation + _MESSAGE_TOKENS * request.message_count
    if form := request.chat_form:
        entries = len(form.tools or ()) + len(form.messages)
        around += _TOOLS_TOKENS + _TOOL_TOKENS * entries
    if tokenizer is None:
        counts = [len(text.encode("utf-8", "surrogatepass")) for text in texts]
    else:
        counts = await tokenizer.counts(texts)
    # Texts that are no conversation are prompts of their own, each with the whole context.
    filled = sum(counts) if request.message_count else max(counts, default=0)
    if tokenizer is None:
        filled //= _BYTES_PER_TOKEN
    return sum(counts) + around, filled + around
