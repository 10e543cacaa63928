"""Requests that are not taken: their fields, their size, how many came."""

from waitlist.errors.root import WaitlistError


class RequestMalformed(WaitlistError):
    status_code = 400
    code = "invalid_request"


class RequestTooLarge(WaitlistError):
    status_code = 413
    code = "body_too_large"

    def __init__(self, bytes_max: int) -> None:
        super().__init__(f"The body may have at most {bytes_max} bytes.")


class CodeMalformed(WaitlistError):
    status_code = 400
    code = "code_malformed"

    def __init__(self, message: str) -> None:
        super().__init__(message, param="code")


class EmailMalformed(WaitlistError):
    status_code = 400
    code = "email_malformed"

    def __init__(self, reason: str) -> None:
        super().__init__(f"This is not a usable e-mail address: {reason}", param="email")


class EmailDisposable(WaitlistError):
    status_code = 400
    code = "email_disposable"

    def __init__(self) -> None:
        super().__init__("Throw-away addresses are not taken. Please use another.", param="email")


class ProofInvalid(WaitlistError):
    status_code = 400
    code = "proof_invalid"

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"The proof of work {reason}. GET /waitlist/challenge gives a new challenge.",
            param="altcha",
        )


class IdempotencyKeyReused(WaitlistError):
    status_code = 422
    code = "idempotency_key_reused"

    def __init__(self) -> None:
        super().__init__(
            "This Idempotency-Key came with another request before. Use a new one for each."
        )


class TooManyJoins(WaitlistError):
    status_code = 429
    code = "too_many_joins"

    def __init__(self, retry_after_s: int) -> None:
        super().__init__("Too many people joined from this network. Please try again later.")
        self.retry_after_s = retry_after_s


class TooManyRefusals(WaitlistError):
    status_code = 429
    code = "too_many_refusals"

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(
            "This code was tried with too many addresses, or too many were tried from this "
            "network. It was not used. Please try again later."
        )
        self.retry_after_s = retry_after_s


class WatchersFull(WaitlistError):
    status_code = 503
    code = "watchers_full"
    retry_after_s = 10

    def __init__(self) -> None:
        super().__init__("Too many people watch the line here. Ask /waitlist/status instead.")


class WaitlistPaused(WaitlistError):
    status_code = 503
    code = "waitlist_paused"
    retry_after_s = 60

    def __init__(self) -> None:
        super().__init__("The waitlist takes nobody at the moment. All places are kept.")
