"""What a model's own chat template makes of a request with tools.

The one module that imports jinja2. The template is the model's, so it runs in the sandbox, with
what transformers gives it: the filters, the functions and the names of special tokens.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import structlog
from jinja2 import Environment, Template, TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from gateway.request.chat_form import ChatForm, Message

log = structlog.get_logger(__name__)

# Where a template has a name: the one for tools goes first, as transformers picks it.
_NAMES = ("tool_use", "default")
_SYSTEM = ("system", "developer")


class ChatTemplate:
    """One compiled template."""

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        """Raises jinja2.TemplateError for what is no template."""
        self._template: Template = _environment().from_string(source)
        self._special_tokens = special_tokens
        self._knows_developer = "developer" in source

    @classmethod
    def load(cls, folder: Path) -> "ChatTemplate | None":
        """The template of a model's folder; None where there is none that can be used."""
        try:
            config = _config(folder / "tokenizer_config.json")
            source = _source(folder, config.get("chat_template"))
            return None if source is None else cls(source, _special_tokens(config))
        except (OSError, ValueError, TemplateError) as error:
            log.warning("chat_template_unusable", folder=str(folder), error=str(error))
            return None

    def render(self, form: ChatForm) -> str | None:
        """The prompt; None where the template takes no such conversation."""
        messages = form.messages
        if not self._knows_developer:
            messages = [
                {**each, "role": "system"} if each["role"] == "developer" else each
                for each in messages
            ]
        # Some templates want the one system message to be the first: vLLM puts them together.
        for tried in (messages, _system_first(messages)):
            try:
                return self._template.render(
                    messages=tried,
                    tools=form.tools,
                    reasoning_effort=form.reasoning_effort,
                    add_generation_prompt=True,
                    **self._special_tokens,
                )
            except Exception:  # noqa: S112 - whatever a template does with what it did not expect
                continue
        return None


class _Generation(Extension):
    """`{% generation %}`, which marks answers for training: its body as it is."""

    tags = {"generation"}  # noqa: RUF012 - as jinja2 has it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> Environment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """jinja2's own writes HTML."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)  # noqa: DTZ005 - as the engine writes it


def _system_first(messages: Sequence[Message]) -> list[Message]:
    told = [each["content"] for each in messages if each["role"] in _SYSTEM]
    rest = [each for each in messages if each["role"] not in _SYSTEM]
    return [{"role": "system", "content": "\n\n".join(told)}, *rest] if told else rest


def _config(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    return found if isinstance(found, dict) else {}


def _source(folder: Path, configured: Any) -> str | None:
    """From a file of its own, or, as older folders have it, from the tokenizer's config."""
    for path in (
        folder / "additional_chat_templates" / "tool_use.jinja",
        folder / "chat_template.jinja",
    ):
        if path.exists():
            return path.read_text(encoding="utf-8")
    if isinstance(configured, list):
        named = {each["name"]: each["template"] for each in configured}
        return next((str(named[name]) for name in _NAMES if name in named), None)
    return configured if isinstance(configured, str) else None


def _special_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    """`bos_token` and the like; some configs say more of a token than its text."""
    found = {}
    for name, token in config.items():
        text = token.get("content") if isinstance(token, dict) else token
        if name.endswith("_token") and isinstance(text, str):
            found[name] = text
    return found
