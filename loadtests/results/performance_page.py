"""The figures of docs/performance.md: text between markers that a bench owns.

Everything outside the markers is prose written by hand, and stays as it is.
"""

from pathlib import Path

from loadtests.errors import BenchError

PAGE = Path("docs/performance.md")


def begin_marker(section: str) -> str:
    """The comment that opens a bench's own section."""
    return f"<!-- figures of `bench {section}`: written by the bench, do not edit -->"


def end_marker(section: str) -> str:
    """The comment that closes it."""
    return f"<!-- end of `bench {section}` -->"


def replace_figures(page: str, section: str, figures: str) -> str:
    """The page with the section's figures replaced.

    Raises:
        BenchError: a marker is missing, there twice, or the two stand in the wrong order.
    """
    begin, end = begin_marker(section), end_marker(section)
    for marker in (begin, end):
        if page.count(marker) != 1:
            raise BenchError(f"{PAGE} must hold this line exactly once: {marker}")
    head, _, rest = page.partition(begin)
    _, found, tail = rest.partition(end)
    if not found:
        raise BenchError(f"{PAGE}: the end of section {section!r} stands before its beginning")
    return f"{head}{begin}\n\n{figures.strip()}\n\n{end}{tail}"


def write_figures(section: str, figures: str, page: Path = PAGE) -> None:
    """Rewrite one section of the page in place.

    Raises:
        BenchError: the page or its markers are missing.
    """
    if not page.is_file():
        raise BenchError(f"{page} is not here; start the bench from the checkout's root")
    page.write_text(replace_figures(page.read_text(), section, figures))
