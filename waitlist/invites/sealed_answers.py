"""Answers that hold a secret, kept for a caller who sends the same request again.

The ledger stores digests of codes and keys only, so an answer with a key in it is sealed with
AES-256-GCM under a key made from the caller's Idempotency-Key and the invite code. Neither is
stored: without the very same request nobody reads the answer, and the code alone has 100 random
bits, so a weak Idempotency-Key weakens nothing.

The one module that imports cryptography.
"""

import json
import secrets
from base64 import b64decode, b64encode
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from waitlist.errors import IdempotencyKeyReused
from waitlist.proofs import tokens
from waitlist.terms import check_idempotency_key

_NONCE_BYTES = 12


@dataclass(frozen=True, slots=True)
class AnswerSeal:
    """One request's name in the ledger, its fingerprint, and the key that its answer is under."""

    name: str
    fingerprint: str
    _secret: bytes = field(repr=False)

    @classmethod
    def of(cls, idempotency_key: str, code: str, email_digest: str) -> "AnswerSeal":
        """Raises RequestMalformed when the key is empty, too long or has other than ASCII."""
        check_idempotency_key(idempotency_key)
        material = f"{code}\n{idempotency_key}"
        secret = HKDF(SHA256(), 32, salt=None, info=b"floodgate sealed answer").derive(
            material.encode()
        )
        name = tokens.digest(f"answer\n{material}")
        return cls(name, tokens.digest(f"{name}\n{email_digest}"), secret)

    def seal(self, answer: dict[str, str]) -> str:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        text = json.dumps(answer).encode()
        return b64encode(nonce + AESGCM(self._secret).encrypt(nonce, text, None)).decode()

    def open(self, sealed: str) -> dict[str, str]:
        """Raises IdempotencyKeyReused when it was sealed by another request."""
        content = b64decode(sealed)
        try:
            text = AESGCM(self._secret).decrypt(
                content[:_NONCE_BYTES], content[_NONCE_BYTES:], None
            )
        except InvalidTag:
            raise IdempotencyKeyReused from None
        answer: dict[str, str] = json.loads(text)
        return answer
