"""`/v1/responses`: its fields. Pure.

Nothing is stored, so whatever needs a store is refused: neither does the gateway keep responses,
nor is the engine's own store shared between replicas or separated by account.
"""

from collections.abc import Mapping
from typing import Any

from gateway.request.body_fields import (
    Field,
    Param,
    anything,
    boolean,
    constant,
    dropped,
    either,
    integer,
    list_of,
    members,
    one_of,
    only,
    refused,
    tagged,
    text,
)
from gateway.request.chat_fields import MESSAGES_MAX
from gateway.request.responses_input import input_item
from gateway.request.shared_fields import (
    OPENAI_DROPPED,
    TOOLS_MAX,
    VLLM_SAMPLING,
    json_schema,
    logit_bias,
    logprobs_count,
    name,
    output_tokens,
    penalty,
    reasoning_effort,
    seed,
    stop,
    structured_outputs,
    temperature,
    top_p,
)

_NOT_STORED = (
    "`{}` needs stored responses, and none are stored here. Send the whole conversation as `input`."
)

_tool = tagged(
    "type",
    {
        "function": members(
            {
                "type": constant("function"),
                "name": name,
                "description": text(),
                "parameters": json_schema,
                "strict": boolean(),
                "output_schema": dropped(),
                "allowed_callers": dropped(),
            },
            ("name",),
        )
    },
)

_text = members(
    {
        "format": tagged(
            "type",
            {
                "text": members({"type": constant("text")}),
                "json_object": members({"type": constant("json_object")}),
                "json_schema": members(
                    {
                        "type": constant("json_schema"),
                        "name": name,
                        "description": text(),
                        "schema": json_schema,
                        "strict": boolean(),
                    },
                    ("name", "schema"),
                ),
            },
        ),
        "verbosity": dropped(),
    }
)


def _include() -> Field:
    """The one entry that a model without hosted tools can follow; others have no effect."""
    entries = list_of(text(128), 16)

    def check(value: Any, param: Param) -> list[str]:
        return [e for e in entries.check(value, param) if e == "message.output_text.logprobs"]

    return Field(check, entries.schema)


_VLLM: Mapping[str, Field] = {
    known: VLLM_SAMPLING[known]
    for known in (
        "top_k",
        "repetition_penalty",
        "ignore_eos",
        "skip_special_tokens",
        "include_stop_str_in_output",
    )
}

RESPONSES: Mapping[str, Field] = {
    "model": anything({"type": "string", "minLength": 1}),
    "stream": anything({"type": "boolean"}),
    "input": either(text(), list_of(input_item, MESSAGES_MAX, 1), str),
    "instructions": text(),
    "max_output_tokens": output_tokens,
    "max_tool_calls": integer(1, 1024),
    "temperature": temperature,
    "top_p": top_p,
    "top_logprobs": logprobs_count,
    "include": _include(),
    "reasoning": members(
        {
            "effort": reasoning_effort,
            "summary": dropped(),
            "generate_summary": dropped(),
            "context": dropped(),
            "mode": dropped(),
        }
    ),
    "include_reasoning": boolean(),
    "text": _text,
    "tools": list_of(_tool, TOOLS_MAX),
    "tool_choice": either(
        one_of("none", "auto", "required"),
        members({"type": one_of("function"), "name": name}, ("type", "name")),
        str,
    ),
    "parallel_tool_calls": boolean(),
    "truncation": one_of("auto", "disabled"),
    # vLLM's extras.
    "frequency_penalty": penalty,
    "presence_penalty": penalty,
    "logit_bias": logit_bias,
    "seed": seed,
    "stop": stop,
    "structured_outputs": structured_outputs,
    **_VLLM,
    **OPENAI_DROPPED,
    # OpenAI stores a response unless told otherwise, so only an explicit true is refused.
    "store": only(False, why="Responses are not stored here. Send `store: false` or leave it out."),
    "background": only(
        False,
        why="Background responses are not supported here: nothing stores them. "
        "Leave `background` out.",
    ),
    "background_options": dropped(),
    "stream_options": dropped(),
    "context_management": dropped(),
    **{
        known: refused(_NOT_STORED.format(known))
        for known in ("previous_response_id", "conversation", "prompt")
    },
    "moderation": refused("Nothing is moderated here."),
}
