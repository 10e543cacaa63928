"""What all errors of the waitlist have in common."""


class WaitlistError(Exception):
    """Root of this package's errors.

    `message` is for whoever sent the request, `hint` (may be empty) for whoever runs Floodgate.
    Neither ever holds a code, a key, an address or a password.
    """

    status_code: int = 500
    code: str = "waitlist_error"

    # Seconds after which the same request may succeed; told as Retry-After.
    retry_after_s: int | None = None

    def __init__(self, message: str, *, param: str | None = None, hint: str = "") -> None:
        super().__init__(f"{message} {hint}".rstrip())
        self.message = message
        self.param = param
        self.hint = hint
