from pathlib import Path

import pytest

from loadtests.errors import BenchError
from loadtests.results.performance_page import (
    begin_marker,
    end_marker,
    replace_figures,
    write_figures,
)

PAGE = f"""\
# Performance

Prose before.

{begin_marker("gateway")}
old figures
{end_marker("gateway")}

Prose between.

{begin_marker("engine")}
{end_marker("engine")}

Prose after.
"""


def test_only_the_named_section_changes() -> None:
    page = replace_figures(PAGE, "gateway", "| new | figures |\n")
    assert "old figures" not in page
    assert "| new | figures |" in page
    for kept in ("Prose before.", "Prose between.", "Prose after.", end_marker("engine")):
        assert kept in page


def test_writing_twice_is_like_writing_once() -> None:
    once = replace_figures(PAGE, "engine", "figures")
    assert replace_figures(once, "engine", "figures") == once


def test_figures_may_hold_backslashes_and_groups() -> None:
    assert r"\1 \g<0>" in replace_figures(PAGE, "engine", r"\1 \g<0>")


@pytest.mark.parametrize(
    "page",
    [
        "no markers",
        PAGE.replace(end_marker("gateway"), ""),
        PAGE + begin_marker("gateway"),
        f"{end_marker('gateway')}\n{begin_marker('gateway')}\n",
    ],
    ids=["none", "no end", "two beginnings", "wrong order"],
)
def test_a_page_with_wrong_markers_is_left_alone(page: str, tmp_path: Path) -> None:
    path = tmp_path / "performance.md"
    path.write_text(page)
    with pytest.raises(BenchError):
        write_figures("gateway", "figures", path)
    assert path.read_text() == page


def test_a_missing_page_is_named(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="checkout's root"):
        write_figures("gateway", "figures", tmp_path / "performance.md")


def test_the_page_of_this_checkout_takes_both_sections() -> None:
    page = (Path(__file__).parents[4] / "docs" / "performance.md").read_text()
    for section in ("gateway", "engine"):
        assert "fresh" in replace_figures(page, section, "fresh")
