"""What of a checked body a tokenizer must count, per endpoint. Pure.

Of media only the number is told: what an image costs is the model's own affair. Documents here went
through the fields of their endpoint, so that types need no second look.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

# Where texts stand in a content part, an item or a tool call, whatever its type.
_TEXT_MEMBERS = (
    "text",
    "refusal",
    "thinking",
    "arguments",
    "name",
    "reasoning",
    "reasoning_content",
)
_NESTED_MEMBERS = ("content", "output", "summary", "tool_calls", "function")
_MEDIA = frozenset(
    ("image", "image_url", "input_image", "audio_url", "input_audio", "video_url"),
)
# Members and types by which a message is known to hold more than what was said.
_CALLS = frozenset(("tool_calls", "tool_call_id"))
_CALL_TYPES = frozenset(("tool_use", "tool_result", "function_call", "function_call_output"))


@dataclass(slots=True)
class PromptTexts:
    """Texts in the order of the body; how many of them every turn of the conversation begins with;
    messages that a template puts between marks of its own; token ids that the caller gave; prompts
    that are answered each on its own; images, sounds and films; whether a template has tools, calls
    or results to write."""

    texts: list[str] = field(default_factory=list)
    beginning: int = 0
    message_count: int = 0
    token_ids: int = 0
    prompts: int = 1
    media: int = 0
    has_tools: bool = False


def prompt_texts(endpoint: str, document: Mapping[str, Any]) -> PromptTexts:
    found = PromptTexts()
    if endpoint in ("completions", "embeddings"):
        _prompts(document["prompt" if endpoint == "completions" else "input"], found)
        found.beginning = min(1, len(found.texts))
        _add(document.get("suffix"), found)
        return found
    for beginning in ("system", "instructions"):
        if beginning in document:
            found.message_count += 1
            _add(document[beginning], found)
    messages = document["input" if endpoint == "responses" else "messages"]
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    found.message_count += len(messages)
    first_turn = _first_turn(messages)
    _add_each(messages[:first_turn], found)
    found.beginning = len(found.texts)
    _add_each(messages[first_turn:], found)
    if tools := document.get("tools"):
        # Templates write tools as JSON into the prompt.
        found.has_tools = True
        found.texts.append(orjson.dumps(tools).decode())
    return found


def _prompts(prompt: Any, found: PromptTexts) -> None:
    if isinstance(prompt, str):
        found.texts.append(prompt)
    elif isinstance(prompt[0], int):
        found.token_ids = len(prompt)
    else:
        found.prompts = len(prompt)
        found.texts.extend(one for one in prompt if isinstance(one, str))
        found.token_ids = sum(len(one) for one in prompt if not isinstance(one, str))


def _first_turn(messages: Sequence[Mapping[str, Any]]) -> int:
    """How many messages there are up to the first one of the user."""
    for number, message in enumerate(messages, 1):
        if message.get("role") == "user":
            return number
    return len(messages)


def _add(value: Any, found: PromptTexts) -> None:
    """Adds the texts of a text, a message, an item, a part, or a list of them."""
    if isinstance(value, str):
        found.texts.append(value)
    elif isinstance(value, list):
        _add_each(value, found)
    elif isinstance(value, dict):
        own = (value.get(member) for member in _TEXT_MEMBERS)
        found.texts.extend(text for text in own if isinstance(text, str))
        kind = value.get("type")
        found.media += kind in _MEDIA
        if kind in _CALL_TYPES or not _CALLS.isdisjoint(value):
            found.has_tools = True
        for member in _NESTED_MEMBERS:
            if member in value:
                _add(value[member], found)
        if kind == "tool_use":
            found.texts.append(orjson.dumps(value["input"]).decode())


def _add_each(values: Iterable[Any], found: PromptTexts) -> None:
    for value in values:
        # Nearly all messages are a role and a text.
        if len(value) == 2 and isinstance(text := value.get("content"), str):
            found.texts.append(text)
        else:
            _add(value, found)
