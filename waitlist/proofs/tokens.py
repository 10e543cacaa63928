"""Invite codes and keys: how they are made, read and checked. No I/O.

Code: `fgi-` and 26 symbols of Crockford's base32: 100 random bits (20 symbols) and a checksum of
30 bits (6 symbols), the BCH code of Bech32m. At this length it finds every error in up to four
symbols for certain, so each single typo and each swap of neighbours; of anything worse it misses
one in 2^30.

API key: `fg-`, 30 random base62 characters (178 bits) and the CRC32 of those 33 characters as
6 base62 characters. CRC32 finds every error within 32 consecutive bits, so each single typo and
each swap of neighbours inside either part; a swap across the seam is missed about once in 2^32.
An operator's key is the same with `fga-`.
"""

import hashlib
import re
import secrets
import unicodedata
import zlib

from waitlist.errors import CodeMalformed

CODE_PREFIX = "fgi-"
KEY_PREFIX = "fg-"
ADMIN_KEY_PREFIX = "fga-"
# Room for the separators and stray spaces of a code that was typed or pasted from a mail.
CODE_CHARS_MAX = 128

# Crockford's base32: no I, L, O (read as 1, 1, 0) and no U.
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_SYMBOL_VALUES = {symbol: value for value, symbol in enumerate(_CROCKFORD)}
_LOOKALIKES = str.maketrans("OIL", "011")
_CODE_DATA_SYMBOLS = 20
_CODE_CHECK_SYMBOLS = 6
CODE_BITS = 5 * _CODE_DATA_SYMBOLS
_CODE_SYMBOLS = _CODE_DATA_SYMBOLS + _CODE_CHECK_SYMBOLS
# The prefix without its hyphen, as it looks once lookalikes have been replaced.
_CODE_PREFIX_SYMBOLS = "FG1"

# The generator of Bech32 and the final constant of Bech32m (BIP 173 and BIP 350).
_BCH_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_BCH_FINAL = 0x2BC830A3

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_KEY_RANDOM_CHARS = 30
_KEY_CHECK_CHARS = 6
_KEY_FORM = re.compile(rf"(fga?-)[0-9A-Za-z]{{{_KEY_RANDOM_CHARS + _KEY_CHECK_CHARS}}}", re.ASCII)


def new_code() -> str:
    """An invite code in the form in which it is shown."""
    return code_of(secrets.randbits(CODE_BITS))


def code_of(bits: int) -> str:
    """The code that holds these CODE_BITS bits."""
    data = [(bits >> (5 * i)) & 31 for i in range(_CODE_DATA_SYMBOLS)]
    return CODE_PREFIX + "".join(_CROCKFORD[value] for value in data + _code_checksum(data))


def normalise_code(text: str) -> str:
    """The code as `new_code` wrote it, out of what a person typed.

    Case, spaces, every sort of hyphen, full-width letters, a missing `fgi-`, and O, I, L for
    0, 1, 1 are forgiven.

    Raises:
        CodeMalformed: it has another length or alphabet, or its checksum tells of a typo.
    """
    if len(text) > CODE_CHARS_MAX:
        raise CodeMalformed(f"An invite code has at most {CODE_CHARS_MAX} characters.")
    plain = unicodedata.normalize("NFKC", text)
    symbols = "".join(c for c in plain if not _is_separator(c)).upper().translate(_LOOKALIKES)
    if len(symbols) == len(_CODE_PREFIX_SYMBOLS) + _CODE_SYMBOLS:
        symbols = symbols.removeprefix(_CODE_PREFIX_SYMBOLS)
    if len(symbols) != _CODE_SYMBOLS:
        raise CodeMalformed(
            f"An invite code is {CODE_PREFIX} and {_CODE_SYMBOLS} letters and digits; "
            "this one has another length."
        )
    if any(symbol not in _SYMBOL_VALUES for symbol in symbols):
        raise CodeMalformed("This invite code has a character that no invite code has.")
    if _bch_remainder([_SYMBOL_VALUES[symbol] for symbol in symbols]) != _BCH_FINAL:
        raise CodeMalformed(
            "This invite code has a typo: its checksum does not fit. Please compare it with the "
            "one that you were given."
        )
    return CODE_PREFIX + symbols


def new_api_key() -> str:
    return _new_key(KEY_PREFIX)


def new_admin_key() -> str:
    return _new_key(ADMIN_KEY_PREFIX)


def is_well_formed_key(text: str) -> bool:
    """Whether the text has the form of an account's key and its checksum fits."""
    return _is_well_formed(text, KEY_PREFIX)


def is_well_formed_admin_key(text: str) -> bool:
    """Whether the text has the form of an operator's key and its checksum fits."""
    return _is_well_formed(text, ADMIN_KEY_PREFIX)


def key_hint(key: str) -> str:
    """What may be shown of a key later on; its last characters belong to the checksum."""
    return f"{key.partition('-')[0]}-…{key[-4:]}"


def digest(text: str) -> str:
    """SHA-256 in hexadecimal: what is stored instead of a code, a key or an address.

    No salt and no slow hash: codes and keys have 100 random bits and more. Any text is taken.
    """
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def base62(number: int, width_chars: int) -> str:
    """The number in that many digits of 0-9, A-Z, a-z."""
    chars = []
    for _ in range(width_chars):
        number, digit = divmod(number, len(_BASE62))
        chars.append(_BASE62[digit])
    return "".join(reversed(chars))


def _new_key(prefix: str) -> str:
    number = secrets.randbelow(len(_BASE62) ** _KEY_RANDOM_CHARS)
    body = prefix + base62(number, _KEY_RANDOM_CHARS)
    return body + _key_checksum(body)


def _is_well_formed(text: str, prefix: str) -> bool:
    found = _KEY_FORM.fullmatch(text)
    if found is None or found.group(1) != prefix:
        return False
    body, checksum = text[:-_KEY_CHECK_CHARS], text[-_KEY_CHECK_CHARS:]
    return _key_checksum(body) == checksum


def _is_separator(char: str) -> bool:
    return char.isspace() or unicodedata.category(char) in {"Pd", "Pc", "Cf", "Cc"}


def _code_checksum(data: list[int]) -> list[int]:
    remainder = _bch_remainder(data + [0] * _CODE_CHECK_SYMBOLS) ^ _BCH_FINAL
    return [(remainder >> (5 * i)) & 31 for i in reversed(range(_CODE_CHECK_SYMBOLS))]


def _bch_remainder(values: list[int]) -> int:
    remainder = 1
    for value in values:
        top = remainder >> 25
        remainder = ((remainder & 0x1FFFFFF) << 5) ^ value
        for i, coefficient in enumerate(_BCH_GENERATOR):
            if (top >> i) & 1:
                remainder ^= coefficient
    return remainder


def _key_checksum(body: str) -> str:
    return base62(zlib.crc32(body.encode("ascii")), _KEY_CHECK_CHARS)
