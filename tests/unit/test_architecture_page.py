"""docs/architecture.md names every module, in a table under its package's headings."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def modules(package: str) -> set[str]:
    return {path.stem for path in (ROOT / package).rglob("*.py")} - {"__init__", "__main__"}


def named(package: str) -> set[str]:
    sections = [part for part in PAGE.split("\n### ") if part.startswith(f"{package}/")]
    return set(re.findall(r"`(\w+)`", "\n".join(sections)))


@pytest.mark.parametrize("package", ["gateway", "waitlist", "serving", "deploy", "loadtests"])
def test_every_module_is_named(package: str) -> None:
    missing = sorted(modules(package) - named(package))
    assert not missing, f"docs/architecture.md says nothing of {', '.join(missing)} in {package}/"
