"""`/v1/responses`: the items that `input` may list, and what stands in them. Pure."""

from gateway.request.body_fields import (
    Field,
    anything,
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
from gateway.request.shared_fields import data_url, name

_PARTS_MAX = 256

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

input_item = tagged(
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
