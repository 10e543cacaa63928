"""What a request used of the engine. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request, all choices together.

    `exact` where the engine said so itself, else counted from what was relayed.
    """

    prompt_tokens: int
    output_tokens: int
    exact: bool
