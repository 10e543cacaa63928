import contextlib
import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.endpoints import ENDPOINTS, Endpoint
from gateway.errors import InvalidRequest
from gateway.request.request_policy import (
    FIELDS,
    REQUIRED,
    PolicyBounds,
    RequestView,
    cache_salt,
    view_request,
)

BY_NAME: dict[str, Endpoint] = {endpoint.name: endpoint for endpoint in ENDPOINTS}
CHAT = BY_NAME["chat/completions"]
USER = {"role": "user", "content": "hi"}
LEAST: dict[str, dict[str, object]] = {
    "chat/completions": {"messages": [USER]},
    "completions": {"prompt": "hi"},
    "responses": {"input": "hi"},
    "messages": {"messages": [USER], "max_tokens": 8},
    "embeddings": {"input": "hi"},
}


def view(endpoint: str = "chat/completions", /, **fields: object) -> RequestView:
    body = json.dumps({"model": "m", **LEAST[endpoint], **fields}).encode()
    return view_request(BY_NAME[endpoint], body)


def refusal(endpoint: str = "chat/completions", /, **fields: object) -> tuple[str, str | None]:
    with pytest.raises(InvalidRequest) as refused:
        view(endpoint, **fields)
    return refused.value.code, refused.value.param


def engine_body(request: RequestView, **arguments: object) -> dict[str, object]:
    body: dict[str, object] = json.loads(request.body_for_engine(**arguments))  # type: ignore[arg-type]
    return body


def test_model_and_stream_are_seen() -> None:
    assert (view(stream=True).model, view(stream=True).stream) == ("m", True)
    assert not view(stream=None).stream
    assert not view().stream


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"[]", "invalid_json", None),
        (b'{"messages":[]}', "missing_model", "model"),
        (b'{"model":""}', "invalid_type", "model"),
        (b'{"model":7}', "invalid_type", "model"),
        (b'{"model":"m","stream":"yes"}', "invalid_type", "stream"),
        (b'{"model":"m","stream":1}', "invalid_type", "stream"),
        (b'{"model":"m"}', "missing_parameter", "messages"),
        (b'{"model":"m","messages":null}', "missing_parameter", "messages"),
    ],
)
def test_wrong_bodies_are_refused_by_name(body: bytes, code: str, param: str | None) -> None:
    with pytest.raises(InvalidRequest) as refused:
        view_request(CHAT, body)
    assert (refused.value.code, refused.value.param) == (code, param)


@pytest.mark.parametrize("endpoint", LEAST)
@pytest.mark.parametrize(
    "field",
    [
        "priority",
        "cache_salt",
        "request_id",
        "session_id",
        "chat_template",
        "chat_template_kwargs",
        "mm_processor_kwargs",
        "media_io_kwargs",
        "kv_transfer_params",
        "ec_transfer_params",
        "vllm_xargs",
        "prompt_embeds",
        "prompt_logprobs",
        "use_beam_search",
        "add_special_tokens",
        "documents",
        "never_heard_of",
    ],
)
def test_what_is_for_the_engines_operator_is_for_no_caller(endpoint: str, field: str) -> None:
    assert refusal(endpoint, **{field: 1}) == ("unsupported_parameter", field)
    assert refusal(endpoint, **{field: None}) == ("unsupported_parameter", field)


@pytest.mark.parametrize("endpoint", LEAST)
def test_the_least_body_passes_and_reaches_the_engine_as_it_is(endpoint: str) -> None:
    stored = {"store": False} if endpoint == "responses" else {}
    default = {"max_tokens": 16} if endpoint == "completions" else {}
    expected = {"model": "m", **LEAST[endpoint], **stored, **default}
    assert engine_body(view(endpoint)) == expected
    assert set(REQUIRED[endpoint]) <= set(FIELDS[endpoint])


def test_what_sdks_send_without_meaning_here_is_dropped() -> None:
    sent = {
        "user": "u",
        "metadata": {"a": "b"},
        "service_tier": "auto",
        "safety_identifier": "s",
        "prompt_cache_key": "k",
        "store": False,
        "modalities": ["text"],
        "verbosity": "low",
        "temperature": None,
    }
    assert engine_body(view(**sent)) == {"model": "m", "messages": [USER]}
    hinted = {"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {}}]}
    assert engine_body(view(messages=[hinted]))["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "a"}]}
    ]
    sent = {"thinking": {"type": "enabled"}, "metadata": {"user_id": "u"}}
    assert engine_body(view("messages", **sent)) == {"model": "m", **LEAST["messages"]}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("store", True),
        ("background", True),
        ("previous_response_id", "resp_1"),
        ("conversation", "conv_1"),
        ("prompt", {"id": "pmpt_1"}),
    ],
)
def test_stored_responses_are_refused_clearly(field: str, value: object) -> None:
    assert refusal("responses", **{field: value}) == ("unsupported_parameter", field)


def test_responses_are_never_stored_by_the_engine() -> None:
    assert engine_body(view("responses", store=False))["store"] is False
    assert engine_body(view("responses", store=None))["store"] is False


def test_embeddings_and_whole_answers_take_no_stream() -> None:
    assert refusal("embeddings", stream=True) == ("unsupported_parameter", "stream")
    options = {"include_usage": True}
    assert refusal(stream_options=options) == ("unsupported_parameter", "stream_options")


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"n": 9}, "out_of_bounds", "n"),
        ({"n": 0}, "out_of_bounds", "n"),
        ({"n": True}, "invalid_type", "n"),
        ({"n": 1.5}, "invalid_type", "n"),
        ({"max_tokens": 0}, "out_of_bounds", "max_tokens"),
        ({"max_completion_tokens": 10**30}, "invalid_type", "max_completion_tokens"),
        ({"temperature": 2.1}, "out_of_bounds", "temperature"),
        ({"temperature": "1"}, "invalid_type", "temperature"),
        ({"top_p": 0}, "out_of_bounds", "top_p"),
        ({"top_logprobs": 21}, "out_of_bounds", "top_logprobs"),
        ({"top_logprobs": -1}, "out_of_bounds", "top_logprobs"),
        ({"logit_bias": {str(n): 1 for n in range(1025)}}, "out_of_bounds", "logit_bias"),
        ({"logit_bias": {"a": 1}}, "invalid_type", "logit_bias"),
        ({"logit_bias": {"5": 101}}, "out_of_bounds", "logit_bias.5"),
        ({"stop": ["a"] * 5}, "out_of_bounds", "stop"),
        ({"stop": "a" * 257}, "out_of_bounds", "stop"),
        ({"stop_token_ids": [1, True]}, "invalid_type", "stop_token_ids"),
        ({"tools": [{"type": "web_search"}]}, "out_of_bounds", "tools[0].type"),
        ({"messages": []}, "out_of_bounds", "messages"),
        ({"messages": [USER] * 2049}, "out_of_bounds", "messages"),
        ({"messages": ["hi"]}, "invalid_type", "messages[0]"),
        ({"messages": [{"content": "hi"}]}, "missing_parameter", "messages[0].role"),
        ({"messages": [{**USER, "x": 1}]}, "unsupported_parameter", "messages[0].x"),
        ({"messages": [{**USER, "role": "root"}]}, "out_of_bounds", "messages[0].role"),
        ({"response_format": {"type": "structural_tag"}}, "unsupported_parameter", None),
        ({"structured_outputs": {"regex": "a"}}, "unsupported_parameter", None),
        ({"stream_options": {"x": 1}, "stream": True}, "unsupported_parameter", None),
        ({"store": True}, "unsupported_parameter", "store"),
        ({"store": 0}, "unsupported_parameter", "store"),
        ({"functions": []}, "unsupported_parameter", "functions"),
        ({"audio": {}}, "unsupported_parameter", "audio"),
    ],
)
def test_bounds_and_types_of_chat(fields: dict[str, object], code: str, param: str | None) -> None:
    found = refusal(**fields)
    assert found[0] == code
    assert param is None or found[1] == param


def test_a_schema_may_be_large_but_not_boundless() -> None:
    def asked(names: int) -> dict[str, object]:
        schema = {"properties": {str(n): {"type": "string"} for n in range(names)}}
        return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}

    view(response_format=asked(500))
    code, param = refusal(response_format=asked(5000))
    assert (code, param) == ("out_of_bounds", "response_format.json_schema.schema")


@pytest.mark.parametrize("url", ["http://169.254.169.254/", "file:///etc/passwd", "//x", " data:,"])
def test_nothing_is_fetched_from_addresses(url: str) -> None:
    for kind in ("image_url", "audio_url", "video_url"):
        part = {"type": kind, kind: {"url": url}}
        code, param = refusal(messages=[{"role": "user", "content": [part]}])
        assert (code, param) == ("unsupported_parameter", f"messages[0].content[0].{kind}.url")
    item = {"role": "user", "content": [{"type": "input_image", "image_url": url}]}
    assert refusal("responses", input=[item])[0] == "unsupported_parameter"
    image = {"type": "image", "source": {"type": "url", "url": url}}
    assert refusal("messages", messages=[{"role": "user", "content": [image]}])[0] == (
        "unsupported_parameter"
    )
    result = {"type": "tool_result", "tool_use_id": "t", "content": [image]}
    assert refusal("messages", messages=[{"role": "user", "content": [result]}])[0] == (
        "unsupported_parameter"
    )


@pytest.mark.parametrize("role", ["assistant", "system"])
def test_results_of_tools_are_the_users(role: str) -> None:
    """Elsewhere the engine writes out a list as Python does: a prompt that nobody has counted."""
    result = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "a"}]}
    view("messages", messages=[{"role": "user", "content": [result]}])
    assert refusal("messages", messages=[{"role": role, "content": [result]}]) == (
        "unsupported_parameter",
        "messages[0].content[0].type",
    )


@pytest.mark.parametrize(
    "part",
    [
        {"image_url": "http://x/"},  # vLLM would guess the type
        {"type": "image_url", "uuid": "somebody-elses"},  # and look into its cache for this
        {"type": "image_url", "image_url": {"url": "data:,", "uuid": "x"}},
        {"type": "prompt_embeds", "data": "AAAA"},
        {"type": "image_embeds", "image_embeds": "AAAA"},
        {"type": "file", "file": {"file_id": "f"}},
        {"type": ["text"], "text": "a"},
    ],
)
def test_parts_are_what_they_say(part: dict[str, object]) -> None:
    code, _ = refusal(messages=[{"role": "user", "content": [part]}])
    assert code == "unsupported_parameter"


def test_media_within_the_body_pass() -> None:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    request = view(messages=[{"role": "user", "content": [part]}])
    assert engine_body(request)["messages"] == [{"role": "user", "content": [part]}]


def test_answers_are_counted_over_prompts_and_choices() -> None:
    assert view(n=3).choices == 3
    assert view("completions", prompt=["a", "b"], n=2).choices == 4
    assert view("completions", prompt=[[1, 2], [3]]).choices == 2
    assert view("completions", prompt=[1, 2, 3]).choices == 1
    assert view("embeddings", input=["a", "b"]).choices == 0
    assert refusal("completions", prompt=["a", "b", "c"], n=3) == ("out_of_bounds", "n")
    assert refusal("completions", prompt=["a"] * 9) == ("out_of_bounds", "prompt")
    with pytest.raises(InvalidRequest):
        view_request(
            CHAT, orjson.dumps({"model": "m", "messages": [USER], "n": 2}), PolicyBounds(1)
        )


def test_prompts_of_token_ids_are_counted() -> None:
    assert view("completions", prompt=[[1, 2], [3]]).token_ids == 3
    assert view("embeddings", input=[1, 2, 3]).token_ids == 3
    assert refusal("completions", prompt=[1, -1])[0] == "out_of_bounds"
    assert refusal("completions", prompt=[1, "a"])[0] == "invalid_type"
    assert refusal("completions", prompt=[1.5])[0] == "invalid_type"
    assert refusal("completions", prompt=[])[0] == "out_of_bounds"
    assert refusal("completions", echo=True, logprobs=1) == ("unsupported_parameter", "echo")


def test_everything_that_becomes_prompt_is_counted() -> None:
    called = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    chat = view(
        messages=[
            {"role": "system", "content": "one"},
            {"role": "assistant", "content": None, "tool_calls": [called]},
            {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "two"}]},
        ],
        tools=[{"type": "function", "function": {"name": "g", "description": "three"}}],
    )
    assert chat.message_count == 3
    assert {"one", "f", "{}", "two"} <= set(chat.texts)
    assert "three" in chat.texts[-1]
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
        {"type": "function_call_output", "call_id": "c", "output": "b"},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "c"}]},
    ]
    responses = view("responses", input=items, instructions="d")
    assert (set(responses.texts), responses.message_count) == ({"a", "b", "c", "d"}, 4)
    blocks = [
        {"type": "thinking", "thinking": "e"},
        {"type": "tool_use", "id": "t", "name": "f", "input": {"city": "g"}},
    ]
    messages = view("messages", messages=[{"role": "assistant", "content": blocks}], system="h")
    assert set(messages.texts) == {"e", "f", '{"city":"g"}', "h"}


@pytest.mark.parametrize(
    ("endpoint", "name"),
    [
        ("chat/completions", "max_completion_tokens"),
        ("completions", "max_tokens"),
        ("responses", "max_output_tokens"),
        ("messages", "max_tokens"),
    ],
)
def test_the_cap_stands_under_its_endpoints_name(endpoint: str, name: str) -> None:
    request = view(endpoint, **{name: 50})
    assert request.output_cap == 50
    assert engine_body(request)[name] == 50
    assert engine_body(request, output_cap=20)[name] == 20


def test_chat_has_two_names_for_its_cap_and_the_engine_gets_one() -> None:
    assert view().output_cap is None
    assert view("completions").output_cap == 16  # as OpenAI and vLLM take it
    request = view(max_tokens=50, max_completion_tokens=40, min_tokens=30)
    assert request.output_cap == 40
    body = engine_body(request, output_cap=20)
    assert (body["max_completion_tokens"], body["min_tokens"]) == (20, 20)
    assert "max_tokens" not in body
    assert "max_tokens" not in engine_body(view("embeddings"), output_cap=5)


def test_usage_is_always_asked_for_and_the_callers_wish_is_known() -> None:
    asked = {"include_usage": True}
    for endpoint in ("chat/completions", "completions"):
        silent = view(endpoint, stream=True, stream_options={"continuous_usage_stats": True})
        assert not silent.wants_usage
        assert engine_body(silent)["stream_options"] == asked
        wanted = view(endpoint, stream=True, stream_options=asked)
        assert wanted.wants_usage
        assert engine_body(wanted)["stream_options"] == asked
        assert "stream_options" not in engine_body(view(endpoint))
    assert "stream_options" not in engine_body(view("messages", stream=True))


def test_the_salt_is_the_accounts_own_and_the_same_everywhere() -> None:
    assert cache_salt(b"secret", "acct_1") == cache_salt(b"secret", "acct_1")
    others = {cache_salt(b"secret", "acct_2"), cache_salt(b"other", "acct_1")}
    assert cache_salt(b"secret", "acct_1") not in others
    assert len(cache_salt(b"secret", "acct_1")) == 43
    assert engine_body(view().for_model("served"), cache_salt="s") == {
        "model": "served",
        "messages": [USER],
        "cache_salt": "s",
    }


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.mark.parametrize("endpoint", LEAST)
@given(data=st.data())
def test_no_value_of_a_known_field_causes_anything_but_a_refusal(
    endpoint: str, data: st.DataObject
) -> None:
    fields = data.draw(st.dictionaries(st.sampled_from(sorted(FIELDS[endpoint])), JSON, max_size=4))
    body = json.dumps({"model": "m", **LEAST[endpoint], **fields}).encode()
    with contextlib.suppress(InvalidRequest):
        view_request(BY_NAME[endpoint], body).body_for_engine(output_cap=5, cache_salt="s")
