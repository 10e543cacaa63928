"""Where server-sent events begin and end in bytes. Pure; positions, no copies.

Lines may end in LF or CRLF; an event ends with a blank line. A lone CR ends no line here: no
engine sends one.
"""

_EVENT_ENDS = (b"\n\n", b"\n\r\n")


def is_between_events(piece: bytes) -> bool:
    """Whether the next byte begins an event."""
    return piece.endswith(_EVENT_ENDS)


def start_of_event(data: bytes, at: int) -> int:
    """Where the event that holds the byte at `at` begins; 0 if it began before the data."""
    lf = data.rfind(b"\n\n", 0, at)
    crlf = data.rfind(b"\n\r\n", max(lf, 0), at)
    if lf < 0 and crlf < 0:
        return 0
    return lf + 2 if lf > crlf else crlf + 3


def end_of_event(data: bytes, at: int) -> int:
    """The position after the event that holds the byte at `at`; -1 if its end is not there."""
    lf = data.find(b"\n\n", at)
    crlf = data.find(b"\n\r\n", at, lf if lf >= 0 else len(data))
    if lf < 0 and crlf < 0:
        return -1
    return lf + 2 if crlf < 0 or 0 <= lf < crlf else crlf + 3


def event_data(event: bytes) -> bytes:
    """The event's `data` lines, joined by newlines."""
    lines = (line for line in event.splitlines() if line.startswith(b"data:"))
    return b"\n".join(line[5:].removeprefix(b" ") for line in lines)
