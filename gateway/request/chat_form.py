"""A request with tools in the form that the model's chat template gets. Pure.

A template writes tools, calls and results in ways of its own, so that their texts alone do not say
how long the prompt becomes. The conversions are those of vLLM 0.29: `/v1/responses` and
`/v1/messages` become messages of `/v1/chat/completions`, and arguments of calls become objects.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

Message = dict[str, Any]


class ChatForm(NamedTuple):
    """What a template is rendered with."""

    messages: Sequence[Message]
    tools: Sequence[Mapping[str, Any]] | None
    reasoning_effort: str | None


def chat_form(endpoint: str, document: Mapping[str, Any]) -> ChatForm:
    """The form of a checked body of `chat/completions`, `responses` or `messages`."""
    if endpoint == "responses":
        messages, wrapper = _of_responses(document), "reasoning"
    elif endpoint == "messages":
        messages, wrapper = _of_messages(document), "output_config"
    else:
        messages, wrapper = [_of_chat(given) for given in document["messages"]], ""
    effort = document.get("reasoning_effort")
    if wrapper:
        effort = document.get(wrapper, {}).get("effort")
    tools = [_tool(given) for given in document.get("tools", ())]
    return ChatForm(messages, tools or None, effort)


def _tool(given: Mapping[str, Any]) -> dict[str, Any]:
    """As vLLM writes a tool out, whichever endpoint it came by."""
    function = given.get("function", given)
    made = {
        "name": function["name"],
        "description": function.get("description"),
        "parameters": function.get("parameters", function.get("input_schema")),
    }
    made |= {name: function[name] for name in ("strict", "defer_loading") if name in function}
    return {"type": "function", "function": made}


def _of_chat(given: Mapping[str, Any]) -> Message:
    made: Message = {"role": given["role"], "content": _text(given.get("content"))}
    if calls := given.get("tool_calls"):
        made["tool_calls"] = [
            _call(call.get("id"), call["function"]["name"], call["function"]["arguments"])
            for call in calls
        ]
    reasoning = given.get("reasoning", given.get("reasoning_content"))
    if reasoning is not None:
        _reason(made, reasoning)
    return made | {name: given[name] for name in ("name", "tool_call_id") if name in given}


def _of_responses(document: Mapping[str, Any]) -> list[Message]:
    made: list[Message] = []
    if instructions := document.get("instructions"):
        made.append({"role": "system", "content": instructions})
    items = document["input"]
    if isinstance(items, str):
        items = [{"role": "user", "content": items}]
    for item in items:
        kind = item.get("type", "message")
        if kind == "function_call_output":
            made.append(_result(item["call_id"], item["output"]))
        elif kind == "function_call":
            call = _call(item["call_id"], item["name"], item["arguments"])
            _open_answer(made).setdefault("tool_calls", []).append(call)
        elif kind == "reasoning":
            texts = item.get("content") or item.get("summary") or ()
            _reason(_open_answer(made, "reasoning"), _text(texts[:1]))
        elif item["role"] == "assistant":
            _open_answer(made, "content")["content"] = _text(item["content"])
        else:
            made.append({"role": item["role"], "content": _text(item["content"])})
    for message in made:
        message.setdefault("content", "")
    return made


def _open_answer(made: list[Message], member: str = "") -> Message:
    """The answer that an item belongs to: the one before it where that lacks the member."""
    if not made or made[-1]["role"] != "assistant" or member in made[-1]:
        made.append({"role": "assistant"})
    return made[-1]


def _of_messages(document: Mapping[str, Any]) -> list[Message]:
    made: list[Message] = []
    if system := document.get("system"):
        made.append({"role": "system", "content": _text(system, "")})
    for given in document["messages"]:
        content = given["content"]
        if isinstance(content, str):
            made.append({"role": given["role"], "content": content})
        else:
            made.extend(_of_blocks(given["role"], content))
    return made


def _of_blocks(role: str, blocks: Sequence[Mapping[str, Any]]) -> Iterable[Message]:
    """Results are messages of their own, before the one that held them."""
    message: Message = {"role": role, "content": _text(blocks)}
    calls = []
    for block in blocks:
        kind = block["type"]
        if kind == "tool_result":
            yield _result(block["tool_use_id"], block.get("content"))
        elif kind == "tool_use":
            calls.append(_call(block["id"], block["name"], block["input"]))
        elif kind == "thinking":
            _reason(message, message.get("reasoning", "") + block["thinking"])
    if calls:
        message["tool_calls"] = calls
    if role != "user" or message["content"]:
        yield message


def _result(call_id: str, content: Any) -> Message:
    return {"role": "tool", "tool_call_id": call_id, "content": _text(content)}


def _call(call_id: str | None, name: str, arguments: Any) -> dict[str, Any]:
    if isinstance(arguments, str):
        arguments = _object(arguments)
    made = {"type": "function", "function": {"name": name, "arguments": arguments}}
    return made if call_id is None else {"id": call_id, **made}


def _object(arguments: str) -> dict[str, Any]:
    """What a call was made with; vLLM takes an empty object for anything else."""
    try:
        parsed = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _reason(message: Message, reasoning: str) -> None:
    message["reasoning"] = message["reasoning_content"] = reasoning


def _text(content: Any, glue: str = "\n") -> str:
    """The texts of parts; what an image costs is counted elsewhere."""
    if content is None or isinstance(content, str):
        return content or ""
    texts = (part.get("text", part.get("refusal")) for part in content)
    return glue.join(text for text in texts if isinstance(text, str))
