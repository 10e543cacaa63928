"""Thoughts, commands and answers are read out of whole and growing outputs."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.moss.commands import Command, Output, Parameter, parse_commands, read_output

TOOLS = {
    "Search": [Parameter("query")],
    "Calculate": [Parameter("expression")],
    "weather": [Parameter("city"), Parameter("days", "integer"), Parameter("metric", "boolean")],
    "set": [Parameter("value", "number")],
    "now": [],
}

CALLING = '<|Inner Thoughts|>: I should look.<eot>\n<|Commands|>: Search("x")<eoc>'
NOT_CALLING = (
    "<|Inner Thoughts|>: I know that.<eot>\n<|Commands|>: None<eoc>\n"
    "<|Results|>:\nNone\n<eor>\n<|MOSS|>: It is 4.<eom>"
)


def test_a_call() -> None:
    assert read_output(CALLING) == Output("I should look.", 'Search("x")', None)


def test_no_call() -> None:
    assert read_output(NOT_CALLING) == Output("I know that.", "None", " It is 4.")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (" It is 4.<eom>", " It is 4."),
        (" It is 4", " It is 4"),
        (" a <sup><|1|></sup> b", " a <sup><|1|></sup> b"),
        ("<|MOSS|>: It is 4.<eom>", " It is 4."),
        ("\n<|MOSS|>: It", " It"),
        (" 3 <eo", " 3 "),
        (" 3 <", " 3 "),
        ("<b>", "<b>"),
    ],
)
def test_an_answer_alone(text: str, answer: str) -> None:
    assert read_output(text).answer == answer


def test_marks_that_are_quoted_are_none() -> None:
    text = '<|Inner Thoughts|>: what is <|MOSS|>: ?<eot>\n<|Commands|>: Search("<|MOSS|>: x")<eoc>'
    assert read_output(text).answer is None


@given(st.sampled_from([CALLING, NOT_CALLING, " It is 4.<eom>", "<|MOSS|>: 4<eom>"]))
def test_what_has_been_told_is_not_taken_back(whole: str) -> None:
    """A stream is read again with each piece; a part that is there stays as it is, or grows."""
    final = read_output(whole)
    for length in range(len(whole)):
        part = read_output(whole[:length])
        assert part.thoughts in (None, final.thoughts)
        assert part.commands in (None, final.commands)
        if part.answer is not None:
            assert final.answer is not None
            assert final.answer.startswith(part.answer)


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ('Search("黑暗荣耀 主演")', {"query": "黑暗荣耀 主演"}),
        ("Search('x')", {"query": "x"}),
        ("Search(x y)", {"query": "x y"}),
        ('Search(query="x")', {"query": "x"}),
        ('Search("say "hi", (now)")', {"query": 'say "hi", (now)'}),
        ('Calculate("sqrt((16+12)/2)*max(1, 2)")', {"expression": "sqrt((16+12)/2)*max(1, 2)"}),
        ('weather("Rome", 3, True)', {"city": "Rome", "days": 3, "metric": True}),
        ('weather("Rome", days="3")', {"city": "Rome", "days": 3}),
        ("weather(Rome, 3)", {"city": "Rome, 3"}),
        ('weather("Rome", "soon")', {"city": "Rome", "days": "soon"}),
        ('set("2.5")', {"value": 2.5}),
        ("now()", {}),
        ('now("x")', {"input": "x"}),
    ],
)
def test_arguments_go_by_the_tools_own_names(text: str, arguments: dict[str, Any]) -> None:
    (command,) = parse_commands(text, TOOLS)
    assert command.arguments == arguments


def test_several_calls() -> None:
    text = 'Search("a, b"), Search("c"), Calculate("max(1), min(2)")'
    assert parse_commands(text, TOOLS) == [
        Command("Search", {"query": "a, b"}),
        Command("Search", {"query": "c"}),
        Command("Calculate", {"expression": "max(1), min(2)"}),
    ]


@pytest.mark.parametrize("text", ["", "None", "Search", 'Search("x"', 'Paint("x")', "I know."])
def test_what_is_no_call(text: str) -> None:
    assert parse_commands(text, TOOLS) == []


def test_tools_that_were_not_offered_are_not_called() -> None:
    assert parse_commands('Search("x")', {}) == []
    assert parse_commands('Solve("x=1")', {"Solve": []}) == [Command("Solve", {"equation": "x=1"})]


@given(st.text(alphabet="Searchnow(),\"'\\ \n1[{=+.jb", max_size=60))
def test_no_text_breaks_the_reader(text: str) -> None:
    read_output(text)
    for call in (text, f"weather({text})", f"set({text})"):
        for command in parse_commands(call, TOOLS):
            json.dumps(command.arguments, allow_nan=False)


@pytest.mark.parametrize("text", ['"a") + max(1', "b'x', 1", "1e999, 2", "{1}, 2", "1j, 2"])
def test_what_is_python_and_no_json_is_text(text: str) -> None:
    (command,) = parse_commands(f"weather({text})", TOOLS)
    assert command.arguments == {"city": text}


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "[" * 100_000])
def test_what_is_no_number_stays_text(text: str) -> None:
    (command,) = parse_commands(f'set("{text}")', TOOLS)
    assert command.arguments == {"value": text}
