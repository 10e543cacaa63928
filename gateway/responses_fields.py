"""`/v1/responses`: its fields. Pure.

Nothing is stored, so whatever needs a store is refused: neither does the gateway keep responses,
nor is the engine's own store shared between replicas or separated by account.
"""

from collections.abc import Mapping
from typing import Any

from gateway.body_fields import (
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
from gateway.chat_fields import MESSAGES_MAX
from gateway.shared_fields import (
    OPENAI_DROPPED,
    TOOLS_MAX,
    VLLM_SAMPLING,
    data_url,
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

_PARTS_MAX = 256
_NOT_STORED = (
    "`{}` needs stored responses, and none are stored here. Send the whole conversation as `input`."
)

_status = one_of("in_progress", "completed", "incomplete")
_hint = {"prompt_cache_breakpoint": dropped()}


def _texts(kind: str) -> Field:
    part = members({"type": constant(kind), "text": text()}, ("text",))
    return list_of(part, _PARTS_MAX)


_part = tagged(
    "type",
    {
        "input_text": members({"type": constant("input_text"), "text": text(), **_hint}, ("text",)),
        "input_image": members(
            {
                "type": constant("input_image"),
                "image_url": data_url,
                "detail": one_of("auto", "low", "high", "original"),
                "file_id": refused("Files are not stored here. Send the image as a data: URL."),
                **_hint,
            },
            ("image_url",),
        ),
        "output_text": members(
            {
                "type": constant("output_text"),
                "text": text(),
                "annotations": anything({"type": "array"}),
                "logprobs": dropped(),
            },
            ("text",),
        ),
        "refusal": members({"type": constant("refusal"), "refusal": text()}, ("refusal",)),
    },
)
_content = either(text(), list_of(_part, _PARTS_MAX), str)

_item = tagged(
    "type",
    {
        "message": members(
            {
                "type": constant("message"),
                "role": one_of("system", "developer", "user", "assistant"),
                "content": _content,
                "id": text(),
                "status": _status,
                "phase": text(64),
            },
            ("role", "content"),
        ),
        "function_call": members(
            {
                "type": constant("function_call"),
                "id": text(),
                "call_id": text(),
                "name": name,
                "arguments": text(),
                "status": _status,
                "caller": dropped(),
            },
            ("call_id", "name", "arguments"),
        ),
        "function_call_output": members(
            {
                "type": constant("function_call_output"),
                "id": text(),
                "call_id": text(),
                "output": _content,
                "status": _status,
                "caller": dropped(),
                "name": dropped(),
            },
            ("call_id", "output"),
        ),
        "reasoning": members(
            {
                "type": constant("reasoning"),
                "id": text(),
                "summary": _texts("summary_text"),
                "content": _texts("reasoning_text"),
                "status": _status,
                "encrypted_content": dropped(),
            },
        ),
    },
    default="message",
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
    "input": either(text(), list_of(_item, MESSAGES_MAX, 1), str),
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
