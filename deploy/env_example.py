""".env.example, written from the settings classes so that it cannot differ from them."""

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from deploy.settings import LaunchSettings
from gateway.settings import GatewaySettings
from serving.settings import ServingSettings
from waitlist.settings import WaitlistSettings

_HEAD: Final = """\
# Every setting of Floodgate, with its default. Copy what you change to .env, which `floodgate`
# reads from the folder it is started in; a variable of the environment wins over .env.
# Made by `floodgate settings`.
"""
_SECTIONS: Final[tuple[tuple[str, type[BaseSettings]], ...]] = (
    ("floodgate up", LaunchSettings),
    ("gateway", GatewaySettings),
    ("waitlist", WaitlistSettings),
    ("serving", ServingSettings),
)
# Read by the set-up, before there is anything to read settings with.
_SETUP: Final = """
# --- set-up

# Folder of the Python environment. Empty: .venv in the checkout.
#FLOODGATE_VENV=
"""


def env_example() -> str:
    """The file's text. A variable that several parts read stands with the first of them."""
    seen: set[str] = set()
    parts = [_HEAD, _SETUP]
    for title, kind in _SECTIONS:
        parts.append(f"\n# --- {title}\n")
        for name, field in kind.model_fields.items():
            if name not in seen:
                parts.append("\n".join(_lines(name, field)))
            seen.add(name)
    return "".join(parts)


def _lines(name: str, field: FieldInfo) -> Iterator[str]:
    yield ""
    yield from textwrap.wrap(
        field.description or "", 98, initial_indent="# ", subsequent_indent="# "
    )
    yield f"#FLOODGATE_{name.upper()}={_default(field)}"
    yield ""


def _default(field: FieldInfo) -> str:
    value: Any = field.get_default(call_default_factory=True, validated_data={})
    if value is None or value is PydanticUndefined:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict | list):
        return json.dumps(value)
    return str(value) if isinstance(value, Path | str) else f"{value}"
