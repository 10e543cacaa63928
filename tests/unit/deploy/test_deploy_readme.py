"""The README's commands without make use profiles that exist."""

import re
from pathlib import Path

import pytest

from deploy.setup.profiles import find_profile

README = (Path(__file__).resolve().parents[3] / "README.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"bootstrap\.py (\w+)", README)))


def test_the_readme_names_profiles() -> None:
    assert {"gateway", "serve", "test"} <= set(NAMED)


@pytest.mark.parametrize("name", NAMED)
def test_each_is_a_profile(name: str) -> None:
    assert find_profile(name, {"FLOODGATE_ACCELERATOR": "cpu"}).name == name
