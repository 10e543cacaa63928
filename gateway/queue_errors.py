"""What a caller is told by the line: why it does not wait, or no longer, and when to come back."""

from gateway.errors import RateLimited, Unavailable, retry_headers


class AccountQueueFull(RateLimited):
    """No place is kept: the account's own line is what is full."""

    code = "account_queue_full"

    def __init__(self, waiting_requests: int, retry_after_s: int) -> None:
        super().__init__(
            f"{waiting_requests} requests of this account wait already, as many as its plan lets "
            f"wait. Try again in {retry_after_s} s.",
            headers=retry_headers(retry_after_s),
        )


class QueueFull(Unavailable):
    code = "queue_full"

    def __init__(self, retry_after_s: int, *, place_is_kept: bool) -> None:
        super().__init__(
            f"The line is full. {_come_back(retry_after_s, place_is_kept)}",
            headers=retry_headers(retry_after_s),
        )


class QueueTimeout(Unavailable):
    code = "queue_timeout"

    def __init__(self, waited_s: float, retry_after_s: int, *, place_is_kept: bool) -> None:
        super().__init__(
            f"Nothing became free within {waited_s:.0f} s. "
            f"{_come_back(retry_after_s, place_is_kept)}",
            headers=retry_headers(retry_after_s),
        )


class NoReplica(Unavailable):
    """A wait ended while nothing ran. `why` is a sentence."""

    def __init__(self, why: str, retry_after_s: int, *, place_is_kept: bool) -> None:
        super().__init__(
            f"{why} {_come_back(retry_after_s, place_is_kept)}",
            headers=retry_headers(retry_after_s),
        )


class Draining(Unavailable):
    code = "draining"

    def __init__(self, *, was_running: bool = False, place_is_kept: bool = False) -> None:
        """`was_running`: the answer outlived the time that a stopping worker has for it."""
        what = " before this answer's end." if was_running else "."
        super().__init__(
            f"This gateway is being restarted{what} {_come_back(1, place_is_kept)}",
            headers=retry_headers(1),
        )


def _come_back(retry_after_s: int, place_is_kept: bool) -> str:
    kept = ": your place is kept until then" if place_is_kept else ""
    return f"Try again in {retry_after_s} s{kept}."
