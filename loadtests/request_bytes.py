"""HTTP/1.1 requests ready for the wire: one, or one for each line of a file."""

from collections.abc import Sequence
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
