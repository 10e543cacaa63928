"""Keys and tickets that are missing, wrong, or not enough."""

from waitlist.errors.root import WaitlistError


class KeyMissing(WaitlistError):
    status_code = 401
    code = "missing_api_key"

    def __init__(self) -> None:
        super().__init__("No API key. Send it as `Authorization: Bearer fg-…`.")


class KeyMalformed(WaitlistError):
    status_code = 401
    code = "malformed_api_key"

    def __init__(self) -> None:
        super().__init__("This API key is mistyped: its checksum does not match. Copy it again.")


class KeyUnknown(WaitlistError):
    status_code = 401
    code = "invalid_api_key"

    def __init__(self) -> None:
        super().__init__("No such API key.")


class KeyRevoked(WaitlistError):
    status_code = 401
    code = "revoked_api_key"

    def __init__(self) -> None:
        super().__init__("This API key was revoked or has ended.")


class AdminKeyInvalid(WaitlistError):
    status_code = 401
    code = "invalid_admin_key"

    def __init__(self) -> None:
        super().__init__(
            "An operator's key is needed here: `Authorization: Bearer fga-…`.",
        )


class TicketInvalid(WaitlistError):
    status_code = 401
    code = "ticket_invalid"

    def __init__(self) -> None:
        super().__init__("This is no ticket of this waitlist.", param="ticket")


class TicketInsufficient(WaitlistError):
    status_code = 403
    code = "ticket_insufficient"

    def __init__(self) -> None:
        super().__init__(
            "Once an address is confirmed, only the ticket from its mail may do this.",
            param="ticket",
        )


class RoleInsufficient(WaitlistError):
    status_code = 403
    code = "role_insufficient"

    def __init__(self, role: str) -> None:
        super().__init__(f"This needs the role {role}.")
