"""Bytes to a JSON object, strictly. Pure.

Two parsers must agree: orjson refuses NaN, infinite numbers, invalid UTF-8 and lone surrogates;
jiter refuses keys that stand twice in one object, at any depth, and nesting beyond 200. What the
engine gets is written anew from the result, so that no second reading of the same bytes exists.
"""

from typing import Any

import jiter
import orjson

from gateway.errors import InvalidRequest

# A call into either parser holds the interpreter's lock to its end, in a thread as well, so the
# work itself is bounded. 4 MB of text cost 8 ms; 4 MB of `{},{},…` would cost 500 ms. The largest
# contexts, sent as token ids, have some 100,000 numbers; no body here needs 20,000 objects.
_VALUES_MAX = 100_000
_CONTAINERS_MAX = 20_000
# Three bytes make an object in a list (`{},`), so that a smaller body need not be counted.
_COUNTED_FROM_BYTES = 3 * _CONTAINERS_MAX


def parse_object(body: bytes) -> dict[str, Any]:
    """The body as a JSON object.

    Raises:
        InvalidRequest: `invalid_json`, or `too_many_values`.
    """
    if len(body) > _COUNTED_FROM_BYTES:
        _bound_values(body)
    try:
        document = orjson.loads(body)
        jiter.from_json(body, allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}", code="invalid_json") from None
    if not isinstance(document, dict):
        raise InvalidRequest("The body must be a JSON object.", code="invalid_json")
    return document


def _bound_values(body: bytes) -> None:
    """Counts before anything is built, in passes over the bytes that cost about 1 ms per MB.

    Every value but the first follows one of `,` `:` `[`.
    """
    if _within(body):
        return
    # Most of them may stand inside texts: prompts hold code. Escapes go first, so that each
    # quote that is left begins or ends a text.
    bare = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    if bare.count(b'"') <= 2 * _VALUES_MAX and _within(b"".join(bare.split(b'"')[::2])):
        return
    raise InvalidRequest(
        f"The body holds more than {_VALUES_MAX} values, or {_CONTAINERS_MAX} objects and lists.",
        code="too_many_values",
    )


def _within(text: bytes) -> bool:
    lists = text.count(b"[")
    return (
        lists + text.count(b"{") <= _CONTAINERS_MAX
        and lists + text.count(b",") + text.count(b":") < _VALUES_MAX
    )
