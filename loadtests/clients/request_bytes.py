"""HTTP/1.1 requests ready for the wire: one, or one for each line of a file."""

import itertools
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit


def post_request(url: str, headers: Sequence[str], body: bytes) -> bytes:
    """A POST of JSON; `headers` as "Name: value"."""
    parts = urlsplit(url)
    lines = [
        f"POST {parts.path} HTTP/1.1",
        f"Host: {parts.netloc}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def numbered(request: bytes, mark: bytes) -> Iterator[bytes]:
    """The request without end, each with another number of as many digits in place of the mark.

    Raises:
        ValueError: the mark is not in it.
    """
    before, found, behind = request.partition(mark)
    if not found:
        raise ValueError(f"there is no {mark.decode()} in the body")
    numbers = 10 ** len(mark)
    for number in itertools.count(random.randrange(numbers)):
        yield b"%b%0*d%b" % (before, len(mark), number % numbers, behind)


def get_request(url: str, target: str, headers: Sequence[str]) -> bytes:
    """A GET of `target`, a path with its query, at the URL's host."""
    lines = [f"GET {target} HTTP/1.1", f"Host: {urlsplit(url).netloc}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def posts_of_lines(url: str, headers: Sequence[str], bodies: Path) -> list[bytes]:
    """A POST for each line of the file. Raises ValueError where there is none."""
    return [post_request(url, headers, line.encode()) for line in _lines(bodies)]


def gets_of_lines(url: str, headers: Sequence[str], targets: Path) -> list[bytes]:
    """A GET for each line of the file. Raises ValueError where there is none."""
    return [get_request(url, line, headers) for line in _lines(targets)]


def _lines(file: Path) -> list[str]:
    found = [line for line in file.read_text().splitlines() if line]
    if not found:
        raise ValueError(f"{file} has no line")
    return found
