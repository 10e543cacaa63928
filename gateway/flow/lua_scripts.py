"""The scripts of gateway/flow/lua as they are loaded into the flow Redis."""

from pathlib import Path

_LUA = Path(__file__).parent / "lua"
_INCLUDE = "--!include "


def read_scripts() -> dict[str, str]:
    """Text by name, without `.lua`."""
    return {file.stem: _with_include(file) for file in sorted(_LUA.glob("*.lua"))}


def _with_include(file: Path) -> str:
    """The text, its first line `--!include X` replaced by lua/include/X."""
    text = file.read_text()
    first, _, rest = text.partition("\n")
    if not first.startswith(_INCLUDE):
        return text
    return (_LUA / "include" / first.removeprefix(_INCLUDE)).read_text() + rest
