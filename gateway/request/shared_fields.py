"""Fields that several endpoints share: sampling, stops, JSON schemas, media. Pure.

Left out on purpose, with the reason:
  use_beam_search, length_penalty, best_of    one slot would run many sequences
  prompt_logprobs, logprob_token_ids          logits of the whole prompt, and no prefix cache
  prompt_embeds, *_embeds, uuid of media      unpickled tensors; another account's cached media
  chat_template*, add_special_tokens, echo in chat, documents, continue_final_message,
  add_generation_prompt                       a prompt that was not counted, or not the model's
  priority, request_id, session_id, cache_salt, vllm_xargs, *_transfer_params, stream_interval,
  media_io_kwargs, mm_processor_kwargs        the engine's own affairs
  regex, grammar, structural_tag              compiled by the engine at whatever cost they have
  return_token_ids, return_prompt_text        what the operator's template adds
"""

from typing import Any

from gateway.request.body_fields import (
    INT64_MAX,
    Field,
    Param,
    boolean,
    dropped,
    either,
    integer,
    list_of,
    members,
    number,
    one_of,
    out_of_bounds,
    text,
    unsupported,
    wrong_type,
)

# Far above any context; what the model cannot do is cut by the limits.
_TOKENS_MAX = 2**31 - 1
# vLLM's own bounds (VLLM_MAX_STOP_STRINGS, max_logprobs), and OpenAI's.
_STOPS_MAX = 4
_STOP_CHARS_MAX = 256
_LOGPROBS_MAX = 20
# Each entry costs at every token; OpenAI takes 300.
_LOGIT_BIAS_MAX = 1024
_TOKEN_ID_MAX = 2**31 - 1
# OpenAI's bound.
TOOLS_MAX = 128
NAME_CHARS_MAX = 256
# A schema is compiled into a grammar on the engine; real ones have some hundred nodes.
_SCHEMA_NODES_MAX = 4000


def token_ids(entries_max: int, entries_min: int = 0) -> Field:
    """A list of token ids, checked without a step of Python for each: prompts have 100,000."""

    def check(value: Any, param: Param) -> list[int]:
        if not isinstance(value, list) or not set(map(type, value)) <= {int}:
            wrong_type(param, "a list of token ids")
        if not entries_min <= len(value) <= entries_max:
            out_of_bounds(param, f"a list of {entries_min} to {entries_max} token ids")
        if value and not 0 <= min(value) <= max(value) <= _TOKEN_ID_MAX:
            out_of_bounds(param, f"a list of token ids from 0 to {_TOKEN_ID_MAX}")
        return value

    item = {"type": "integer", "minimum": 0, "maximum": _TOKEN_ID_MAX}
    bounds = {"minItems": entries_min, "maxItems": entries_max}
    return Field(check, {"type": "array", "items": item, **bounds})


output_tokens = integer(1, _TOKENS_MAX)
temperature = number(0, 2)
top_p = number(0, 1, above_low=True)
top_k = integer(-1, _TOKEN_ID_MAX)
penalty = number(-2, 2)
seed = integer(-(2**63), INT64_MAX)
logprobs_count = integer(0, _LOGPROBS_MAX)
stop_text = text(_STOP_CHARS_MAX)
stop_texts = list_of(stop_text, _STOPS_MAX)
stop = either(stop_text, stop_texts, str)
reasoning_effort = one_of("none", "minimal", "low", "medium", "high", "xhigh", "max")
user = dropped(text())

# What every OpenAI endpoint is sent by SDKs and frameworks and has no meaning here.
OPENAI_DROPPED = {
    "user": user,
    "metadata": dropped(),
    "service_tier": dropped(),
    "safety_identifier": dropped(),
    "prompt_cache_key": dropped(),
    "prompt_cache_options": dropped(),
    "prompt_cache_retention": dropped(),
}

# vLLM's extras that change nothing but how tokens are drawn and shown.
VLLM_SAMPLING = {
    "top_k": top_k,
    "min_p": number(0, 1),
    "repetition_penalty": number(0, 2, above_low=True),
    "stop_token_ids": token_ids(64),
    "include_stop_str_in_output": boolean(),
    # Reserved and charged like any other output.
    "ignore_eos": boolean(),
    "min_tokens": integer(0, _TOKENS_MAX),
    "skip_special_tokens": boolean(),
    "spaces_between_special_tokens": boolean(),
    "allowed_token_ids": token_ids(1024, 1),
    "bad_words": list_of(text(128), 128),
    "thinking_token_budget": integer(-1, _TOKENS_MAX),
    "return_tokens_as_token_ids": boolean(),
}


def _logit_bias() -> Field:
    bias = number(-100, 100)

    def check(value: Any, param: Param) -> dict[str, float]:
        if not isinstance(value, dict):
            wrong_type(param, "an object of token ids and biases")
        if len(value) > _LOGIT_BIAS_MAX:
            out_of_bounds(param, f"an object of at most {_LOGIT_BIAS_MAX} entries")
        for token in value:
            if not (token.isascii() and token.isdigit() and len(token) <= 10):
                wrong_type(param, "an object whose names are token ids")
        return {token: bias.check(given, f"{param}.{token}") for token, given in value.items()}

    return Field(
        check,
        {
            "type": "object",
            "maxProperties": _LOGIT_BIAS_MAX,
            "propertyNames": {"pattern": "^[0-9]{1,10}$"},
            "additionalProperties": bias.schema,
        },
    )


def _json_schema() -> Field:
    """A JSON schema; only its size is judged here."""

    def check(value: Any, param: Param) -> dict[str, Any]:
        if not isinstance(value, dict):
            wrong_type(param, "a JSON schema")
        nodes, todo = 0, [value]
        while todo:
            node: Any = todo.pop()
            nodes += 1
            if isinstance(node, dict):
                todo.extend(node.values())
            elif isinstance(node, list):
                todo.extend(node)
            if nodes > _SCHEMA_NODES_MAX:
                out_of_bounds(param, f"a schema of at most {_SCHEMA_NODES_MAX} values")
        return value

    return Field(check, {"type": "object"})


def _data_url() -> Field:
    """Media within the body. An address would be fetched by the engine, from where it stands."""

    def check(value: Any, param: Param) -> str:
        if not isinstance(value, str):
            wrong_type(param, "a data: URL")
        if value[:5].lower() != "data:":
            unsupported(
                param, f"`{param}` must be a data: URL: nothing is fetched from addresses here."
            )
        return value

    return Field(check, {"type": "string", "pattern": "^[dD][aA][tT][aA]:"})


logit_bias = _logit_bias()
json_schema = _json_schema()
data_url = _data_url()
name = text(NAME_CHARS_MAX)

structured_outputs = members(
    {
        "json": json_schema,
        "json_object": boolean(),
        "choice": list_of(text(), 1000, 1),
        "disable_any_whitespace": boolean(),
        "disable_additional_properties": boolean(),
    }
)
