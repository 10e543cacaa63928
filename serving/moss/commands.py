"""Reading what MOSS writes when it may use tools. Pure.

It thinks, then writes commands or None, and after None goes on to its answer:

    <|Inner Thoughts|>: …<eot>
    <|Commands|>: Search("…"), Calculate("…")<eoc>
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from serving.moss.tokenizer import ANSWER_END, COMMANDS_END, THOUGHTS_END

_THOUGHTS: Final = "<|Inner Thoughts|>:"
_COMMANDS: Final = "<|Commands|>:"
_ANSWER: Final = "<|MOSS|>:"

# What MOSS calls the one parameter of the plugins it was trained with.
_PLUGIN_PARAMETERS: Final = {
    "Search": "query",
    "Calculate": "expression",
    "Solve": "equation",
    "Text2Image": "description",
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a tool; `kind` is its JSON type, "string" where nothing is said."""

    name: str
    kind: str = "string"


Tools = Mapping[str, Sequence[Parameter]]
"""The parameters of each tool that was offered, in the order of its schema."""


@dataclass(frozen=True, slots=True)
class Command:
    """One call. `arguments` go by the names of the tool's own schema."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Output:
    """A whole or unfinished output. What has not begun, or not ended where that counts, is None."""

    thoughts: str | None
    commands: str | None
    answer: str | None


def read_output(text: str) -> Output:
    """The parts of `text`; the answer may still grow, the other two are complete.

    An answer keeps the space that it begins with, and loses a mark at its end that is whole or
    could become so.
    """
    start = text.lstrip("\n")
    if not start.startswith((_THOUGHTS, _COMMANDS, _ANSWER)):
        if any(mark.startswith(start) for mark in (_THOUGHTS, _COMMANDS, _ANSWER)):
            return Output(None, None, None)
        return Output(None, None, _until_end(text))
    thoughts = _between(text, _THOUGHTS, THOUGHTS_END)
    commands = _between(text, _COMMANDS, COMMANDS_END)
    # A mark that is quoted in a thought or a query is none.
    settled = text.find(COMMANDS_END) if commands is not None else 0
    begins = text.find(_ANSWER, settled)
    answering = commands is not None or start.startswith(_ANSWER)
    answer = _until_end(text[begins + len(_ANSWER) :]) if answering and begins >= 0 else None
    return Output(thoughts, commands, answer)


def parse_commands(text: str, tools: Tools) -> list[Command]:
    """The calls of tools that were offered; none for None, or for what is not a call."""
    if not tools:
        return []
    names = "|".join(re.escape(name) for name in sorted(tools, key=len, reverse=True))
    # Arguments may hold brackets, quotes and commas: a call ends before the next one or the end.
    calls = re.compile(rf"({names})\((.*?)\)\s*(?=,\s*(?:{names})\(|$)", re.DOTALL)
    return [
        Command(name, _arguments(arguments.strip(), name, tools[name]))
        for name, arguments in calls.findall(text.strip())
    ]


def _arguments(text: str, name: str, parameters: Sequence[Parameter]) -> dict[str, Any]:
    if not text:
        return {}
    if len(parameters) < 2:
        only = parameters[0] if parameters else Parameter(_PLUGIN_PARAMETERS.get(name, "input"))
        text = re.sub(rf"^{re.escape(only.name)}\s*=\s*", "", text)
        return {only.name: _converted(_unquoted(text), only.kind)}
    kinds = {parameter.name: parameter.kind for parameter in parameters}
    given = _python_arguments(text, list(kinds))
    if given is None:
        # Not Python's quoting: all of it is the first argument.
        given = {parameters[0].name: _unquoted(text)}
    return {key: _converted(value, kinds.get(key, "string")) for key, value in given.items()}


def _python_arguments(text: str, names: Sequence[str]) -> dict[str, Any] | None:
    """Arguments written as in Python, by position or name; None if they cannot be read so."""
    try:
        with warnings.catch_warnings():
            # A backslash in a string is worth no warning with a piece of the answer in the log.
            warnings.simplefilter("ignore")
            call = ast.parse(f"call({text})", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            return None
        given = dict(zip(names, map(ast.literal_eval, call.args), strict=False))
        given |= {each.arg: ast.literal_eval(each.value) for each in call.keywords if each.arg}
        json.dumps(given, allow_nan=False)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return None
    return given


def _unquoted(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    return text


def _converted(value: Any, kind: str) -> Any:
    """A string as what the schema asks for, a number for example, where it can be read so."""
    if not isinstance(value, str) or kind == "string":
        return value
    try:
        return json.loads(value, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return value


def _no_number(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _between(text: str, begin: str, end: str) -> str | None:
    _, found, rest = text.partition(begin)
    part, ended, _ = rest.partition(end)
    return part.strip() if found and ended else None


def _until_end(text: str) -> str:
    text, ended, _ = text.partition(ANSWER_END)
    if not ended:
        for length in range(len(ANSWER_END) - 1, 0, -1):
            if text.endswith(ANSWER_END[:length]):
                return text[:-length]
    return text
