"""One model's tokenizer, and the chat template beside it.

The one module that imports tokenizers.
"""

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path

import structlog
from tokenizers import Tokenizer

from gateway.limits.chat_template import ChatTemplate
from gateway.limits.known_counts import KnownCounts
from gateway.request.chat_form import ChatForm

log = structlog.get_logger(__name__)

# SmolLM2's tokenizer takes about 0.8 ms for 1,000 characters: from 3 ms on the loop goes on
# without it.
_LOOP_CHARS_MAX = 4_000
# A template takes some 20 µs for a message or a tool.
_LOOP_ENTRIES_MAX = 64


class ModelTokenizer:
    """Counts texts and conversations, and keeps what it has counted lately."""

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate | None = None) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self._known = KnownCounts()
        self._marks: re.Pattern[str] | None = None

    @classmethod
    def load(cls, folder: str) -> "ModelTokenizer | None":
        """About a second for 50,000 tokens. None, told once, where it cannot be loaded."""
        path = Path(folder) / "tokenizer.json"
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises nothing more exact
            log.warning("tokenizer_unusable", file=str(path), error=str(error), counted="bytes")
            return None
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return cls(tokenizer, ChatTemplate.load(Path(folder)))

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

    async def rendered(self, form: ChatForm) -> int | None:
        """Tokens of what the template makes of a conversation; None where it makes nothing of it.

        Between the tokenizer's own marks (`<|im_end|>`) texts are tokenized each by itself: those
        that every turn of the conversation repeats have been counted before.
        """
        template = self._template
        if template is None:
            return None
        if len(form.messages) + len(form.tools or ()) > _LOOP_ENTRIES_MAX:
            prompt = await asyncio.to_thread(template.render, form)
        else:
            prompt = template.render(form)
        if prompt is None:
            return None
        pieces = self._between_marks(prompt)
        return len(pieces) - 1 + sum(await self.counts([piece for piece in pieces if piece]))

    def _between_marks(self, prompt: str) -> list[str]:
        if self._marks is None:
            added = {token.content for token in self._tokenizer.get_added_tokens_decoder().values()}
            longest_first = sorted(filter(None, added), key=len, reverse=True)
            self._marks = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        return self._marks.split(prompt)

    def _count(self, texts: Sequence[str]) -> list[int]:
        encode = self._tokenizer.encode
        return [len(encode(_valid(text), add_special_tokens=False).ids) for text in texts]

    def _count_batch(self, texts: Sequence[str]) -> list[int]:
        """In a thread: a batch is counted without the interpreter's lock."""
        valid = [_valid(text) for text in texts]
        encodings = self._tokenizer.encode_batch_fast(valid, add_special_tokens=False)
        return [len(encoding.ids) for encoding in encodings]


def _valid(text: str) -> str:
    """Without lone surrogates, which JSON may hold and no tokenizer takes."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
