"""Finding the end of an HTTP/1.1 response, as cheaply as a load client must. Pure."""

LAST_CHUNK = b"\r\n0\r\n\r\n"
# What was asked for is there, or was made.
SUCCESSES = (b"HTTP/1.1 200", b"HTTP/1.1 201")


class RefusalError(ValueError):
    """An answer that is neither 200 nor 201."""

    def __init__(self, head: bytes) -> None:
        super().__init__(f"refused: {head[:600]!r}")
        self.status = head[9:12].decode(errors="replace")


class ResponseEnd:
    """Watches the bytes of one response at a time; call `begin` before each."""

    __slots__ = ("_body_bytes_left", "_head", "_is_chunked", "_tail")

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Expect the next response."""
        self._head = b""
        self._tail = b""
        self._is_chunked = False
        self._body_bytes_left = -1

    def feed(self, data: bytes) -> bool:
        """Take bytes in; True when the response is whole.

        Raises:
            RefusalError: the status is neither 200 nor 201.
            ValueError: the head does not tell how the body ends.
        """
        if self._body_bytes_left < 0 and not self._is_chunked:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return False
            self._read_head(self._head[:end])
            # The line end before the body also stands before an empty body's last chunk.
            data = self._head[end + 2 if self._is_chunked else end + 4 :]
        if self._is_chunked:
            # The canned bodies never hold these bytes, so that only the last chunk matches.
            self._tail = (self._tail + data)[-len(LAST_CHUNK) :]
            return self._tail == LAST_CHUNK
        self._body_bytes_left -= len(data)
        return self._body_bytes_left <= 0

    def _read_head(self, head: bytes) -> None:
        if not head.startswith(SUCCESSES):
            raise RefusalError(head)
        lowered = head.lower()
        at = lowered.find(b"\r\ncontent-length:")
        if at >= 0:
            self._body_bytes_left = int(lowered[at + 17 :].split(b"\r\n", 1)[0])
        elif b"\r\ntransfer-encoding: chunked" in lowered:
            self._is_chunked = True
        else:
            raise ValueError(f"a body without an end: {head[:600]!r}")
