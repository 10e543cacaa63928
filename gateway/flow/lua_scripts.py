"""The scripts of gateway/flow/lua as they are loaded into the flow Redis."""

from pathlib import Path

_LUA = Path(__file__).parent / "lua"
_INCLUDE = "--!include "


def read_scripts() -> dict[str, str]:
    """Text by name, without `.lua`."""
    return {file.stem: _with_includes(file) for file in sorted(_LUA.glob("*.lua"))}


def _with_includes(file: Path) -> str:
    """The text, each line `--!include X` replaced by lua/include/X, and so on in that."""
    return "".join(
        _with_includes(_LUA / "include" / line.removeprefix(_INCLUDE).strip())
        if line.startswith(_INCLUDE)
        else line
        for line in file.read_text().splitlines(keepends=True)
    )
