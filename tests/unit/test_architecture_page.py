"""docs/architecture.md names every module, in the folder where it stands.

A table's rows without a folder belong to the last one named above them; those before the first
to the package, or to the folder that the heading names.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def modules(package: str) -> set[str]:
    """As `gateway/line/slot`."""
    paths = (path.relative_to(ROOT).with_suffix("") for path in (ROOT / package).rglob("*.py"))
    return {str(path) for path in paths if path.name not in ("__init__", "__main__")}


def named(package: str) -> Iterator[str]:
    """The same, as the page has them."""
    for section in PAGE.split("\n### "):
        if not section.startswith(f"{package}/"):
            continue
        heading = folder = section.partition("/ ")[0]
        for line in section.splitlines():
            if not line.startswith("| ") or line.startswith(("| folder", "| module")):
                continue
            cells = line.strip("|").split("|")
            if inner := re.match(r" `([\w/]+)/`", cells[0]):
                folder = f"{heading}/{inner[1]}"
            where = cells[1] if "| folder" in section else cells[0]
            for deeper, name in re.findall(r"(?:`(\w+/)`: )?`(\w+)`", where):
                yield f"{folder}/{deeper}{name}"


@pytest.mark.parametrize("package", ["gateway", "waitlist", "serving", "deploy", "loadtests"])
def test_every_module_is_named_where_it_stands(package: str) -> None:
    found = set(named(package))
    missing = sorted(modules(package) - found)
    assert not missing, f"docs/architecture.md does not have {', '.join(missing)}"
    gone = sorted(found - modules(package))
    assert not gone, f"docs/architecture.md has {', '.join(gone)}, which are not there"
