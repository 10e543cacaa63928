"""What an answer cost, in the engine's own count. Pure."""

from collections.abc import Mapping
from typing import Any, NamedTuple

# OpenAI's chat, completions and embeddings say prompt and completion; Responses and Anthropic's
# Messages say input and output.
_PROMPT_NAMES = ("prompt_tokens", "input_tokens")
_OUTPUT_NAMES = ("completion_tokens", "output_tokens")
# Anthropic counts tokens that its cache wrote or read beside the input, not within it.
_BESIDE_INPUT = ("cache_creation_input_tokens", "cache_read_input_tokens")


class Usage(NamedTuple):
    """Tokens of one request: all prompts, all choices.

    `exact` says that the engine counted; otherwise the prompt is an estimate, and the output the
    number of events that were passed on.
    """

    prompt_tokens: int
    output_tokens: int
    exact: bool


def read_usage(document: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Prompt and output tokens of a `usage` object; None where it does not say."""
    prompt = _first(document, _PROMPT_NAMES)
    if prompt is not None and "input_tokens_details" not in document:
        prompt += sum(_first(document, (name,)) or 0 for name in _BESIDE_INPUT)
    return prompt, _first(document, _OUTPUT_NAMES)


def _first(document: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    for name in names:
        value = document.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    return None
