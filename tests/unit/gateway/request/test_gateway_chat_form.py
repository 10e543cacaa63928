"""The three endpoints' forms of one conversation; the truth is in tests/e2e/test_prompt_tokens."""

from typing import Any

import orjson
import pytest

from gateway.request.chat_form import ChatForm
from gateway.request.request_policy import RequestView, view_request
from tests.prompts_with_tools import BODIES, CALLS, NAMES, RESULTS, SAID, SYSTEM, endpoint_of


def view(endpoint: str, **fields: Any) -> RequestView:
    body = {"model": "m", **fields}
    return view_request(endpoint_of(endpoint), orjson.dumps(body))


def form(endpoint: str, **fields: Any) -> ChatForm:
    made = view(endpoint, **fields).chat_form
    assert made is not None
    return made


@pytest.mark.parametrize("endpoint", BODIES)
def test_each_endpoints_conversation_becomes_the_same_messages(endpoint: str) -> None:
    made = form(endpoint, **{k: v for k, v in BODIES[endpoint]("m").items() if k != "model"})
    roles = ["system", "user", "assistant", "tool", "tool", "assistant", "user"]
    assert [message["role"] for message in made.messages] == roles
    assert made.messages[0]["content"] == SYSTEM
    answer = made.messages[2]
    assert answer["content"] == SAID[0]
    assert [
        (call["id"], call["function"]["name"], call["function"]["arguments"])
        for call in answer["tool_calls"]
    ] == list(CALLS), "arguments are objects"
    results = made.messages[3:5]
    assert [(each["tool_call_id"], each["content"]) for each in results] == list(RESULTS)
    assert made.tools is not None
    assert [tool["function"]["name"] for tool in made.tools] == list(NAMES)
    assert [*made.tools[0]] == ["type", "function"]
    assert [*made.tools[0]["function"]] == ["name", "description", "parameters"]


def test_a_conversation_without_tools_has_none() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert view("chat/completions", messages=[{"role": "user", "content": parts}]).chat_form is None
    assert view("completions", prompt="a").chat_form is None
    assert view("responses", input="a", instructions="b").chat_form is None


def test_arguments_that_are_no_object_become_an_empty_one() -> None:
    calls = [{"function": {"name": "f", "arguments": text}} for text in ("", "[1]", "{", '{"a":1}')]
    made = form("chat/completions", messages=[{"role": "assistant", "tool_calls": calls}])
    arguments = [call["function"]["arguments"] for call in made.messages[0]["tool_calls"]]
    assert arguments == [{}, {}, {}, {"a": 1}]
    assert made.messages[0]["content"] == ""


def test_reasoning_and_effort_reach_the_template() -> None:
    items = [
        {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "hm"}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
    ]
    made = form("responses", input=items, reasoning={"effort": "high"})
    (answer,) = made.messages
    assert (answer["reasoning"], len(answer["tool_calls"])) == ("hm", 1)
    assert made.reasoning_effort == "high"
    blocks = [
        {"type": "thinking", "thinking": "so"},
        {"type": "tool_use", "id": "t", "name": "f", "input": {}},
    ]
    made = form(
        "messages",
        max_tokens=1,
        messages=[{"role": "assistant", "content": blocks}],
        output_config={"effort": "low"},
    )
    assert (made.messages[0]["reasoning_content"], made.reasoning_effort) == ("so", "low")


def test_media_are_told_by_their_number() -> None:
    url = "data:image/png;base64,AA"
    image = {"type": "image_url", "image_url": {"url": url}}
    text = {"type": "text", "text": "What is this?"}
    chat = view("chat/completions", messages=[{"role": "user", "content": [text, image, image]}])
    assert (chat.media, chat.texts) == (2, ("What is this?",))
    part = {"type": "input_image", "image_url": url}
    assert view("responses", input=[{"role": "user", "content": [part]}]).media == 1
    source = {"type": "base64", "media_type": "image/png", "data": "AA"}
    result = {
        "type": "tool_result",
        "tool_use_id": "t",
        "content": [{"type": "image", "source": source}],
    }
    messages = [{"role": "user", "content": [{"type": "image", "source": source}, result]}]
    assert view("messages", max_tokens=1, messages=messages).media == 2
