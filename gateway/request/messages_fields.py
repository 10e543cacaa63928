"""`/v1/messages`: its fields, as Anthropic's SDK sends them. Pure."""

from collections.abc import Mapping

from gateway.request.body_fields import (
    Field,
    anything,
    boolean,
    constant,
    dropped,
    either,
    list_of,
    members,
    one_of,
    refused,
    tagged,
    text,
)
from gateway.request.chat_fields import MESSAGES_MAX
from gateway.request.shared_fields import (
    TOOLS_MAX,
    json_schema,
    name,
    output_tokens,
    stop_texts,
    temperature,
    top_k,
    top_p,
)

_PARTS_MAX = 256
_hint = {"cache_control": dropped()}

_text = members(
    {"type": constant("text"), "text": text(), "citations": dropped(), **_hint}, ("text",)
)
_image = members(
    {
        "type": constant("image"),
        # A url would be fetched by the engine, from where it stands.
        "source": tagged(
            "type",
            {
                "base64": members(
                    {
                        "type": constant("base64"),
                        "media_type": one_of("image/jpeg", "image/png", "image/gif", "image/webp"),
                        "data": text(),
                    },
                    ("media_type", "data"),
                )
            },
        ),
        **_hint,
    },
    ("source",),
)
_tool_result = members(
    {
        "type": constant("tool_result"),
        "tool_use_id": text(),
        "content": either(
            text(), list_of(tagged("type", {"text": _text, "image": _image}), _PARTS_MAX), str
        ),
        "is_error": boolean(),
        **_hint,
    },
    ("tool_use_id",),
)
_blocks: Mapping[str, Field] = {
    "text": _text,
    "image": _image,
    "tool_use": members(
        {
            "type": constant("tool_use"),
            "id": text(),
            "name": name,
            "input": anything({"type": "object"}),
            "caller": dropped(),
            **_hint,
        },
        ("id", "name", "input"),
    ),
    "thinking": members(
        {"type": constant("thinking"), "thinking": text(), "signature": text()}, ("thinking",)
    ),
    "redacted_thinking": members(
        {"type": constant("redacted_thinking"), "data": text()}, ("data",)
    ),
}


def _message(role: str, blocks: Mapping[str, Field]) -> Field:
    content = either(text(), list_of(tagged("type", blocks), _PARTS_MAX), str)
    return members({"role": constant(role), "content": content}, ("role", "content"))


# A result is the user's. Under another role vLLM writes out the list of its parts as Python does,
# images and all: a prompt many times as long as the texts in it.
_messages = tagged(
    "role",
    {
        "user": _message("user", {**_blocks, "tool_result": _tool_result}),
        "assistant": _message("assistant", _blocks),
        "system": _message("system", _blocks),
    },
)

_tool = members(
    {
        "type": one_of("custom"),
        "name": name,
        "description": text(),
        "input_schema": json_schema,
        "strict": boolean(),
        "defer_loading": boolean(),
        "allowed_callers": dropped(),
        "eager_input_streaming": dropped(),
        "input_examples": dropped(),
        **_hint,
    },
    ("name", "input_schema"),
)

MESSAGES: Mapping[str, Field] = {
    "model": anything({"type": "string", "minLength": 1}),
    "stream": anything({"type": "boolean"}),
    "max_tokens": output_tokens,
    "messages": list_of(_messages, MESSAGES_MAX, 1),
    "system": either(text(), list_of(_text, _PARTS_MAX), str),
    "stop_sequences": stop_texts,
    "temperature": temperature,
    "top_p": top_p,
    "top_k": top_k,
    "tools": list_of(_tool, TOOLS_MAX),
    "tool_choice": members(
        {
            "type": one_of("auto", "any", "tool", "none"),
            "name": name,
            "disable_parallel_tool_use": boolean(),
        },
        ("type",),
    ),
    "output_config": members(
        {
            "effort": one_of("low", "medium", "high", "xhigh", "max"),
            "format": members(
                {"type": one_of("json_schema"), "schema": json_schema}, ("type", "schema")
            ),
        }
    ),
    # The engine takes no thinking budget on this endpoint; `output_config.effort` it does.
    "thinking": dropped(),
    "cache_control": dropped(),
    "context_management": dropped(),
    "diagnostics": dropped(),
    "inference_geo": dropped(),
    "metadata": dropped(),
    "service_tier": dropped(),
    "speed": dropped(),
    "user_profile_id": dropped(),
    "workspace_id": dropped(),
    "container": refused("There are no containers here."),
    "mcp_servers": refused("No server is called from here. Send `tools`."),
}
