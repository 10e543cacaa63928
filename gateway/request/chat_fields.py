"""`/v1/chat/completions` and `/v1/completions`: their fields. Pure."""

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
from gateway.request.shared_fields import (
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
    token_ids,
    top_p,
)

# Longer conversations than any context holds.
MESSAGES_MAX = 2048
_PARTS_MAX = 256
# OpenAI's bounds; settings go below them.
CHOICES_MAX = 128
PROMPTS_MAX = 2048
# Token ids of one prompt: as many as a body may have values.
TOKEN_IDS_MAX = 100_000

_cache_hints = {"cache_control": dropped(), "prompt_cache_breakpoint": dropped()}


def _part(kind: str, **fields: Field) -> Field:
    return members({"type": constant(kind), **fields, **_cache_hints}, tuple(fields))


_media = members({"url": data_url, "detail": one_of("auto", "low", "high")}, ("url",))
text_part = _part("text", text=text())

_content = either(
    text(),
    list_of(
        tagged(
            "type",
            {
                "text": text_part,
                "refusal": _part("refusal", refusal=text()),
                "image_url": _part("image_url", image_url=_media),
                "audio_url": _part("audio_url", audio_url=_media),
                "video_url": _part("video_url", video_url=_media),
                "input_audio": _part(
                    "input_audio",
                    input_audio=members({"data": text(), "format": text(32)}, ("data", "format")),
                ),
            },
        ),
        _PARTS_MAX,
    ),
    str,
)

_tool_call = members(
    {
        "id": text(),
        "type": one_of("function"),
        "index": dropped(),
        "function": members({"name": name, "arguments": text()}, ("name", "arguments")),
    },
    ("function",),
)

_message = members(
    {
        "role": one_of("system", "developer", "user", "assistant", "tool"),
        "content": _content,
        "name": name,
        "tool_calls": list_of(_tool_call, TOOLS_MAX),
        "tool_call_id": text(),
        "reasoning": text(),
        "reasoning_content": text(),
        # What SDKs carry over from the answer before.
        "refusal": text(),
        "annotations": dropped(),
        "audio": refused("Audio answers are not kept here."),
        "function_call": refused("Send `tool_calls` instead of `function_call`."),
    },
    ("role",),
)

_function = {
    "name": name,
    "description": text(),
    "parameters": json_schema,
    "strict": boolean(),
}

_tool = members(
    {"type": one_of("function"), "function": members(_function, ("name",)), **_cache_hints},
    ("type", "function"),
)

_tool_choice = either(
    one_of("none", "auto", "required"),
    members({"type": one_of("function"), "function": members({"name": name}, ("name",))}),
    str,
)

_response_format = tagged(
    "type",
    {
        "text": members({"type": constant("text")}),
        "json_object": members({"type": constant("json_object")}),
        "json_schema": members(
            {
                "type": constant("json_schema"),
                "json_schema": members(
                    {
                        "name": name,
                        "description": text(),
                        "schema": json_schema,
                        "strict": boolean(),
                    },
                    ("name",),
                ),
            },
            ("json_schema",),
        ),
    },
)

_stream_options = members(
    {
        "include_usage": boolean(),
        "include_obfuscation": dropped(boolean()),
        "continuous_usage_stats": boolean(),
    }
)

_BOTH = {
    "model": anything({"type": "string", "minLength": 1}),
    "stream": anything({"type": "boolean"}),
    "stream_options": _stream_options,
    "n": integer(1, CHOICES_MAX),
    "temperature": temperature,
    "top_p": top_p,
    "frequency_penalty": penalty,
    "presence_penalty": penalty,
    "logit_bias": logit_bias,
    "max_tokens": output_tokens,
    "seed": seed,
    "stop": stop,
    "response_format": _response_format,
    "structured_outputs": structured_outputs,
    **VLLM_SAMPLING,
    **OPENAI_DROPPED,
}

CHAT = {
    **_BOTH,
    "messages": list_of(_message, MESSAGES_MAX, 1),
    "max_completion_tokens": output_tokens,
    "logprobs": boolean(),
    "top_logprobs": logprobs_count,
    "tools": list_of(_tool, TOOLS_MAX),
    "tool_choice": _tool_choice,
    "parallel_tool_calls": boolean(),
    "reasoning_effort": reasoning_effort,
    "include_reasoning": boolean(),
    # Hints that change no answer that a model here gives.
    "prediction": dropped(),
    "verbosity": dropped(),
    "store": only(False, why="Answers are not stored here. Send `store: false` or leave it out."),
    "modalities": only(["text"], why="Models here answer in text."),
    "audio": refused("Models here answer in text."),
    "web_search_options": refused("Nothing is searched here."),
    "moderation": refused("Nothing is moderated here."),
    "functions": refused("Send `tools` instead of `functions`."),
    "function_call": refused("Send `tool_choice` instead of `function_call`."),
}

_prompt_ids = token_ids(TOKEN_IDS_MAX, 1)


def _prompts() -> Field:
    """A text, token ids, or a list of either."""
    texts = list_of(either(text(), _prompt_ids, str), PROMPTS_MAX, 1)

    def check(value: object, param: Param) -> object:
        if isinstance(value, str):
            return value
        ids = isinstance(value, list) and bool(value) and isinstance(value[0], int)
        return (_prompt_ids if ids else texts).check(value, param)

    return Field(check, {"anyOf": [{"type": "string"}, _prompt_ids.schema, texts.schema]})


prompts = _prompts()

COMPLETIONS = {
    **_BOTH,
    "prompt": prompts,
    "suffix": text(),
    "echo": boolean(),
    "logprobs": logprobs_count,
    # The best of one is that one.
    "best_of": only(1, why="`best_of` is not possible here. Send `n`."),
}

EMBEDDINGS = {
    "model": _BOTH["model"],
    "input": prompts,
    "dimensions": integer(1, 65_536),
    "encoding_format": one_of("float", "base64"),
    "truncate_prompt_tokens": integer(-1, TOKEN_IDS_MAX),
    "user": OPENAI_DROPPED["user"],
}
