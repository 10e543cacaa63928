"""Codes, places and accounts that are not in a state for what was asked."""

from waitlist.errors.root import WaitlistError


class CodeBound(WaitlistError):
    status_code = 403
    code = "code_bound"

    def __init__(self) -> None:
        super().__init__(
            "This invite code is good for the address that it was sent to, and for no other. "
            "It was not used.",
            param="email",
        )


class CampaignPaused(WaitlistError):
    status_code = 403
    code = "campaign_paused"

    def __init__(self) -> None:
        super().__init__("Codes of this campaign cannot be redeemed at the moment.", param="code")


class NotFound(WaitlistError):
    status_code = 404
    code = "not_found"

    def __init__(self, what: str) -> None:
        super().__init__(f"There is no such {what}.")


class CodeUnknown(WaitlistError):
    status_code = 404
    code = "code_unknown"

    def __init__(self) -> None:
        super().__init__(
            "This invite code is well formed, but it was never given out here.", param="code"
        )


class CodeUsed(WaitlistError):
    status_code = 409
    code = "code_used"

    def __init__(self) -> None:
        super().__init__("This invite code was already redeemed.", param="code")


class EmailHasAccount(WaitlistError):
    status_code = 409
    code = "email_has_account"

    def __init__(self) -> None:
        super().__init__(
            "This e-mail address has an account already. The invite code was not used.",
            param="email",
        )


class TooManyKeys(WaitlistError):
    status_code = 409
    code = "too_many_keys"

    def __init__(self, keys_max: int) -> None:
        super().__init__(f"An account has at most {keys_max} live keys. Revoke one first.")


class NoInvitesLeft(WaitlistError):
    status_code = 409
    code = "no_invites_left"

    def __init__(self) -> None:
        super().__init__("This account has no invites to hand on.")


class AlreadyExists(WaitlistError):
    status_code = 409
    code = "already_exists"

    def __init__(self, what: str) -> None:
        super().__init__(f"There is such a {what} already.")


class PlaceRedeemed(WaitlistError):
    status_code = 409
    code = "place_redeemed"

    def __init__(self) -> None:
        super().__init__("This place was turned into an account; there is no line to leave.")


class CodeExpired(WaitlistError):
    status_code = 410
    code = "code_expired"

    def __init__(self) -> None:
        super().__init__("This invite code has expired.", param="code")


class CodeRevoked(WaitlistError):
    status_code = 410
    code = "code_revoked"

    def __init__(self) -> None:
        super().__init__("This invite code was withdrawn.", param="code")


class PlaceGone(WaitlistError):
    status_code = 410
    code = "place_gone"

    def __init__(self) -> None:
        super().__init__(
            "This place was not confirmed in time, or was given up. Please join again."
        )
