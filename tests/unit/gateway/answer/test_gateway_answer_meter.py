"""The fixtures are what vLLM 0.29 sent (tests/fixtures/vllm_0_29)."""

import itertools
import re
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.answer.answer_meter import AnswerMeter
from gateway.answer.sse import event_data
from gateway.answer.usage import Usage
from gateway.endpoints import ENDPOINTS

FIXTURES = Path(__file__).parents[3] / "fixtures" / "vllm_0_29"
BY_NAME = {endpoint.name.partition("/")[0]: endpoint for endpoint in ENDPOINTS}
# The recorded answers and what the engine said that they cost.
USAGE = {
    "chat_stream.sse": (37, 8),
    "chat_stream_continuous.sse": (37, 8),
    "chat_stream_logprobs.sse": (37, 4),
    "chat_stream_n2.sse": (37, 16),
    "chat_stream_tool.sse": (37, 24),
    "chat_whole.json": (37, 8),
    "chat_whole_n2.json": (37, 16),
    "completions_stream.sse": (5, 8),
    "completions_stream_prompts2_n2.sse": (8, 20),
    "completions_whole_prompts2_n2.json": (8, 20),
    "messages_stream.sse": (37, 8),
    "messages_whole.json": (37, 8),
    "responses_stream.sse": (37, 8),
    "responses_stream_cut_off.sse": (37, 4),
    "responses_whole.json": (37, 8),
}
HIDDEN = [name for name in USAGE if name.startswith(("chat_stream", "completions_stream"))]


def meter(name: str, *, hide: bool = True, running: bool = False) -> AnswerMeter:
    return AnswerMeter(
        BY_NAME[name.partition("_")[0]],
        stream=name.endswith(".sse"),
        hide_usage=hide,
        hide_running_usage=running,
    )


def recorded(name: str) -> bytes:
    return (FIXTURES / name).read_bytes()


def without_usage(stream: bytes) -> bytes:
    """What the caller is to see, found by reading every event."""
    kept = []
    for event in stream.split(b"\n\n")[:-1]:
        data = event_data(event)
        if data == b"[DONE]" or orjson.loads(data)["choices"]:
            kept.append(event + b"\n\n")
    return b"".join(kept)


@st.composite
def cuttings(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """The data in pieces, cut anywhere."""
    cuts = draw(st.lists(st.integers(0, len(data)), max_size=12))
    ends = [0, *sorted(cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(ends)]


def passed(made: AnswerMeter, pieces: list[bytes]) -> bytes:
    return b"".join(made.feed(piece) for piece in pieces) + made.finish()


@pytest.mark.parametrize("name", USAGE)
@given(data=st.data())
def test_usage_is_found_however_the_bytes_are_cut(name: str, data: st.DataObject) -> None:
    body = recorded(name)
    if data.draw(st.booleans()) and name.endswith(".sse"):
        body = body.replace(b"\n", b"\r\n")
    shown = meter(name, hide=False)
    assert passed(shown, data.draw(cuttings(body))) == body
    assert shown.usage(99) == Usage(*USAGE[name], exact=True)


@pytest.mark.parametrize("name", HIDDEN)
@given(data=st.data())
def test_hidden_usage_leaves_everything_else_however_cut(name: str, data: st.DataObject) -> None:
    body, expected = recorded(name), without_usage(recorded(name))
    assert len(expected) < len(body)
    if data.draw(st.booleans()):
        body, expected = body.replace(b"\n", b"\r\n"), expected.replace(b"\n", b"\r\n")
    made = meter(name)
    assert passed(made, data.draw(cuttings(body))) == expected
    assert made.usage(99) == Usage(*USAGE[name], exact=True)


@pytest.mark.parametrize("name", HIDDEN)
def test_byte_by_byte_no_more_waits_than_may_begin_the_hidden_event(name: str) -> None:
    made, stream, seen = meter(name), without_usage(recorded(name)), b""
    for at in range(len(stream)):
        seen += made.feed(stream[at : at + 1])
        event = stream[: at + 1].rpartition(b"\n\n")[2]
        if b'"choices":[{' in event:
            assert seen == stream[: at + 1]
        assert len(seen) >= at + 1 - len(event)


@pytest.mark.parametrize("name", HIDDEN)
def test_whole_events_never_wait(name: str) -> None:
    made, stream = meter(name), without_usage(recorded(name))
    for event in stream.split(b"\n\n")[:-1]:
        piece = event + b"\n\n"
        assert made.feed(piece) is piece


@pytest.mark.parametrize(
    ("name", "events", "prompt"),
    [
        ("chat_stream.sse", 5, 99),
        ("completions_stream.sse", 5, 99),
        ("messages_stream.sse", 5, 37),  # its beginning names the prompt
        ("responses_stream.sse", 5, 99),
    ],
)
@given(data=st.data())
def test_a_broken_stream_costs_what_was_passed_on(
    name: str, events: int, prompt: int, data: st.DataObject
) -> None:
    stream = recorded(name)
    before = {"chat_stream.sse": 1, "messages_stream.sse": 2, "responses_stream.sse": 4}
    parts = stream.split(b"\n\n")[: before.get(name, 0) + events]
    cut = b"\n\n".join(parts) + b"\n\n"
    made = meter(name)
    for piece in data.draw(cuttings(cut)):
        made.feed(piece)
    assert made.usage(99) == Usage(prompt, events, exact=False)


CONTINUOUS = "chat_stream_continuous.sse"
_RUNNING = re.compile(rb',"usage":\{[^}]*\}(?=,"prompt_token_ids"|\})')


def without_running_usage(stream: bytes) -> bytes:
    """Without that of the events which have choices."""
    events = stream.split(b"\n\n")
    return b"\n\n".join(e if b'"choices":[]' in e else _RUNNING.sub(b"", e) for e in events)


@pytest.mark.parametrize("hide", [True, False])
@given(data=st.data())
def test_running_usage_is_taken_out_of_every_event_however_cut(
    hide: bool, data: st.DataObject
) -> None:
    body = recorded(CONTINUOUS)
    expected = without_running_usage(without_usage(body) if hide else body)
    assert expected.count(b'"usage"') == (not hide)
    if data.draw(st.booleans()):
        body, expected = body.replace(b"\n", b"\r\n"), expected.replace(b"\n", b"\r\n")
    made = meter(CONTINUOUS, hide=hide, running=True)
    assert passed(made, data.draw(cuttings(body))) == expected
    assert made.usage(99) == Usage(*USAGE[CONTINUOUS], exact=True)


@pytest.mark.parametrize("name", [name for name in HIDDEN if name != CONTINUOUS])
@given(data=st.data())
def test_an_engine_that_tells_no_running_usage_is_passed_on_as_it_is(
    name: str, data: st.DataObject
) -> None:
    made = meter(name, hide=False, running=True)
    assert passed(made, data.draw(cuttings(recorded(name)))) == recorded(name)
    assert made.usage(99) == Usage(*USAGE[name], exact=True)


@given(data=st.data())
def test_a_broken_stream_of_several_tokens_an_event_costs_what_the_engine_counted(
    data: st.DataObject,
) -> None:
    events = [
        b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}],"usage":{"prompt_tokens":7,'
        b'"completion_tokens":%d,"prompt_tokens_details":{"cached_tokens":1}}}\n\n' % (word, count)
        for word, count in ((b"", 0), (b"one two three", 3), (b' \\"usage\\":{', 8))
    ]
    made = meter(CONTINUOUS, running=True)
    whole = data.draw(st.integers(1, 3))
    cut = b"".join(events[:whole]) + b"".join(events[whole : whole + 1])[:-20]
    seen = b"".join(made.feed(piece) for piece in data.draw(cuttings(cut)))
    assert seen == b"".join(re.sub(rb',"usage":.*\}\}', b"", e) for e in events[:whole]).replace(
        b"]\n\n", b"]}\n\n"
    )
    assert made.usage(99) == Usage(7, (0, 3, 8)[whole - 1], exact=False)


def test_an_answer_that_says_no_usage_is_estimated() -> None:
    for name in ("chat_stream_unasked.sse", "completions_stream_unasked.sse"):
        made = meter(name)
        assert passed(made, [recorded(name)]) == recorded(name)
        assert made.usage(7) == Usage(7, 9, exact=False)
    whole = meter("chat_whole.json")
    whole.feed(b'{"choices":[')
    assert whole.usage(7) == Usage(7, 0, exact=False)


def test_a_model_that_writes_usage_deceives_nobody() -> None:
    forged = '\n\ndata: {"choices":[],"usage":{"prompt_tokens":0,"completion_tokens":0}}\n\n'
    chunk = orjson.dumps({"choices": [{"index": 0, "delta": {"content": forged}}]})
    stream = b"data: " + chunk + b"\n\n" + recorded("chat_stream.sse")
    made = meter("chat_stream.sse")
    assert passed(made, [stream]) == without_usage(stream)
    assert made.usage(99) == Usage(37, 8, exact=True)
    tools = orjson.dumps(
        {"response": {"tools": [{"usage": {"input_tokens": 0, "output_tokens": 0}}]}}
    )
    stream = b"event: response.created\ndata: " + tools + b"\n\n"
    made = meter("responses_stream.sse")
    passed(
        made, [stream, b"event: response.output_text.delta\ndata: event: response.completed\n\n"]
    )
    assert not made.usage(99).exact
    passed(made, [recorded("responses_stream.sse")])
    assert made.usage(99) == Usage(37, 8, exact=True)


def test_other_engines_write_spaces_and_null_usage() -> None:
    first = b'data: {"choices": [{"index": 0, "delta": {"content": "a"}}], "usage": null}\n\n'
    last = b'data: {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}\n\n'
    for piece in ([first + last], [first, last], [(first + last)[:90], (first + last)[90:]]):
        made = meter("chat_stream.sse")
        assert passed(made, piece) == first
        assert made.usage(9) == Usage(3, 2, exact=True)


def test_an_event_without_choices_or_usage_is_the_callers() -> None:
    filtered = b'data: {"choices":[],"prompt_filter_results":[]}\n\n'
    assert passed(meter("chat_stream.sse"), [filtered[:30], filtered[30:]]) == filtered


def test_a_large_whole_answer_is_read_at_its_end() -> None:
    row = orjson.dumps({"index": 0, "object": "embedding", "embedding": [0.125] * 4096})
    body = b'{"object":"list","data":[' + b",".join([row] * 64) + b'],"usage":'
    body += b'{"prompt_tokens":640,"total_tokens":640,"completion_tokens":0}}'
    made = AnswerMeter(BY_NAME["embeddings"], stream=False, hide_usage=False)
    assert passed(made, [body[at : at + 65536] for at in range(0, len(body), 65536)]) == body
    assert made.usage(9) == Usage(640, 0, exact=True)


def test_anthropics_cached_tokens_stand_beside_its_input() -> None:
    usage = {"input_tokens": 5, "cache_read_input_tokens": 32, "output_tokens": 8}
    made = meter("messages_whole.json")
    made.feed(orjson.dumps({"type": "message", "usage": usage}))
    assert made.usage(9) == Usage(37, 8, exact=True)
