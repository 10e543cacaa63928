"""The gateway's form of a conversation with tools beside what vLLM makes of the same body."""

import json
import warnings
from typing import Any

import orjson
import pytest

from gateway.request.chat_form import ChatForm, chat_form
from gateway.request.request_policy import view_request
from tests.prompts_with_tools import BODIES, SHAPES, endpoint_of

pytestmark = [pytest.mark.contract, pytest.mark.timeout(300)]


def as_vllm_converts(endpoint: str, sent: dict[str, Any]) -> ChatForm:
    """By vLLM's own code to a chat, which has but one form."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other people's, while they import
        from vllm.entrypoints.anthropic.protocol import AnthropicMessagesRequest
        from vllm.entrypoints.anthropic.serving import AnthropicServingMessages
        from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
        from vllm.entrypoints.openai.responses.utils import (
            construct_input_messages,
            construct_tool_dicts,
        )

        if endpoint == "responses":
            read = ResponsesRequest(**sent)
            messages = construct_input_messages(
                request_instructions=read.instructions, request_input=read.input
            )
            tools = construct_tool_dicts(read.tools, read.tool_choice)
        else:
            made = AnthropicServingMessages.to_chat_completion_request(
                AnthropicMessagesRequest(**sent)
            )
            messages, tools = made.messages, [tool.model_dump() for tool in made.tools]
    plain = [json.loads(json.dumps(message, default=list)) for message in messages]
    return chat_form("chat/completions", {"messages": plain, "tools": tools})


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("endpoint", ["responses", "messages"])
def test_it_is_what_vllm_gives_to_the_template(endpoint: str, shape: str) -> None:
    view = view_request(endpoint_of(endpoint), orjson.dumps(SHAPES[shape](BODIES[endpoint]("m"))))
    theirs = as_vllm_converts(endpoint, json.loads(view.body_for_engine()))
    assert view.chat_form is not None
    assert view.chat_form.tools == theirs.tools
    assert list(view.chat_form.messages) == list(theirs.messages)
