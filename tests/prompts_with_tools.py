"""One conversation with tools, calls and results, as each endpoint takes it."""

import json
from collections.abc import Callable
from typing import Any

from gateway.endpoints import ENDPOINTS, Endpoint

Body = dict[str, Any]

SYSTEM = "Answer in one sentence. Use the tools."
QUESTION = "How warm is it in Zürich, 東京 and São Paulo? 🙂"
NAMES = ("weather_now", "convert_temperature", "Search", "Calculate")
SCHEMA = {
    "type": "object",
    "properties": {
        "place": {"type": "string", "description": 'A town, "quoted" <or> not'},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
        "range": {"type": "object", "properties": {"days": {"type": ["integer", "null"]}}},
    },
    "required": ["place"],
}
DESCRIPTION = "What a station near the place has measured in the last ten minutes."
CALLS = (
    ("call_a", "weather_now", {"place": "Zürich", "range": {"days": 1}}),
    ("call_b", "Calculate", {"expression": "(21.5 * 9 / 5) + 32"}),
)
RESULTS = (("call_a", '{"degrees": 21.5,\n "sky": "clear"}'), ("call_b", "70.7"))
SAID = ("Let me look.", "It is 21.5 °C.", "And in Kelvin?")


def endpoint_of(name: str) -> Endpoint:
    return next(endpoint for endpoint in ENDPOINTS if endpoint.name == name)


def chat(model: str) -> Body:
    tools = [
        {
            "type": "function",
            "function": {"name": name, "description": DESCRIPTION, "parameters": SCHEMA},
        }
        for name in NAMES
    ]
    calls = [
        {
            "id": call_id,
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments)},
        }
        for call_id, name, arguments in CALLS
    ]
    parts = [{"type": "text", "text": word} for word in QUESTION.split()]
    return {
        "model": model,
        "max_tokens": 2,
        "tools": tools,
        "messages": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": parts},
            {"role": "assistant", "content": SAID[0], "tool_calls": calls},
            *(
                {"role": "tool", "tool_call_id": call_id, "content": text}
                for call_id, text in RESULTS
            ),
            {"role": "assistant", "content": SAID[1]},
            {"role": "user", "content": SAID[2]},
        ],
    }


def responses(model: str) -> Body:
    return {
        "model": model,
        "max_output_tokens": 2,
        "instructions": SYSTEM,
        "tools": [
            {"type": "function", "name": name, "description": DESCRIPTION, "parameters": SCHEMA}
            for name in NAMES
        ],
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": QUESTION}]},
            {"role": "assistant", "content": SAID[0]},
            *(
                {
                    "type": "function_call",
                    "call_id": call_id,
                    "name": name,
                    "arguments": json.dumps(arguments),
                }
                for call_id, name, arguments in CALLS
            ),
            *(
                {"type": "function_call_output", "call_id": call_id, "output": text}
                for call_id, text in RESULTS
            ),
            {"role": "assistant", "content": SAID[1]},
            {"role": "user", "content": SAID[2]},
        ],
    }


def messages(model: str) -> Body:
    calls = [
        {"type": "tool_use", "id": call_id, "name": name, "input": arguments}
        for call_id, name, arguments in CALLS
    ]
    results = [
        {
            "type": "tool_result",
            "tool_use_id": call_id,
            "content": [{"type": "text", "text": text}],
        }
        for call_id, text in RESULTS
    ]
    return {
        "model": model,
        "max_tokens": 2,
        "system": [{"type": "text", "text": SYSTEM}],
        "tools": [
            {"name": name, "description": DESCRIPTION, "input_schema": SCHEMA} for name in NAMES
        ],
        "messages": [
            {"role": "user", "content": QUESTION},
            {"role": "assistant", "content": [{"type": "text", "text": SAID[0]}, *calls]},
            {"role": "user", "content": results},
            {"role": "assistant", "content": SAID[1]},
            {"role": "user", "content": [{"type": "text", "text": SAID[2]}]},
        ],
    }


BODIES = {"chat/completions": chat, "responses": responses, "messages": messages}


def only_tools(body: Body) -> Body:
    """A first question with the tools: no call has been made."""
    member = "input" if "input" in body else "messages"
    return {**body, member: [each for each in body[member] if each.get("role") == "user"][:1]}


def many_turns(body: Body) -> Body:
    """The same conversation ten times over."""
    member = "input" if "input" in body else "messages"
    first = [each for each in body[member] if each.get("role") == "system"]
    rest = [each for each in body[member] if each.get("role") != "system"]
    return {**body, member: first + rest * 10}


SHAPES: dict[str, Callable[[Body], Body]] = {
    "whole": dict,
    "only tools": only_tools,
    "many turns": many_turns,
}
