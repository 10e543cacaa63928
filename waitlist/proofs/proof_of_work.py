"""Proof of work before joining, by ALTCHA: a script cannot join a thousand times for nothing.

Challenges are signed and not stored. What was solved is spent in the script that joins, so a
solution counts once over all gateways. The one module that imports altcha.
"""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import altcha

from waitlist.errors import ProofInvalid
from waitlist.proofs import tokens
from waitlist.proofs.tickets import TicketSigner

# What ALTCHA's widget solves with the browser's own cryptography.
_ALGORITHM = "PBKDF2/SHA-256"
_CHALLENGE_LIFE_S = 600
# The widget's answer is about 600 bytes.
PROOF_CHARS_MAX = 4096


@dataclass(frozen=True, slots=True)
class SolvedProof:
    """A proof that holds, to be spent until it would have ended anyway."""

    digest: str
    expires_at_ms: int


class ProofOfWork:
    def __init__(self, signer: TicketSigner, *, cost: int, clock: Callable[[], float]) -> None:
        """`cost` is the number of PBKDF2 iterations of one try, 0 to ask for no proof.

        A solver needs 256 tries on average, we need one to check.
        """
        self._signer = signer
        self._cost = cost
        self._clock = clock

    @property
    def wanted(self) -> bool:
        return self._cost > 0

    def challenge(self) -> dict[str, Any]:
        """A new challenge as ALTCHA's widget reads it."""
        made: dict[str, Any] = altcha.create_challenge(
            _ALGORITHM,
            self._cost,
            expires_at=round(self._clock()) + _CHALLENGE_LIFE_S,
            hmac_secret=self._signer.proof_key(),
        ).to_dict()
        return made

    def check(self, payload: str) -> SolvedProof | None:
        """The proof to spend; None where none is wanted. Takes as long as one PBKDF2.

        Raises:
            ProofInvalid: missing, wrong, not ours, or too old.
        """
        if not self.wanted:
            return None
        if not payload:
            raise ProofInvalid("is missing")
        if len(payload) > PROOF_CHARS_MAX:
            raise ProofInvalid("is too long")
        parameters = _parameters(payload)
        if parameters.get("cost") != self._cost or parameters.get("algorithm") != _ALGORITHM:
            raise ProofInvalid("is for another challenge")  # before any work is done for it
        try:
            result = altcha.verify_solution(payload, self._signer.proof_key())
        except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError, RecursionError):
            raise ProofInvalid("is not readable") from None
        if not result.verified:
            raise ProofInvalid("is too old" if result.expired else "is wrong")
        # Bound to the challenge, not to its solution: a challenge has many.
        spent = tokens.digest(f"{parameters['nonce']}:{parameters['salt']}")
        return SolvedProof(digest=spent, expires_at_ms=(int(parameters["expiresAt"]) + 1) * 1000)


def _parameters(payload: str) -> dict[str, Any]:
    try:
        parameters = json.loads(base64.b64decode(payload))["challenge"]["parameters"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ProofInvalid("is not readable") from None
    if not isinstance(parameters, dict):
        raise ProofInvalid("is not readable")
    return parameters
