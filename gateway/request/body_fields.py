"""Kinds of body fields: what a value may be, and how OpenAPI says it. Pure.

A kind checks a value and returns what the engine gets. Null counts as left out, as SDKs mean it.
A value is checked without its path at first: building `messages[3].content` for each of a
conversation's values would cost more than the checks. What fails is checked again with it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from gateway.errors import InvalidRequest

Param = str | None
Check = Callable[[Any, Param], Any]

INT64_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a body.

    check: (value, param) → value for the engine. Raises InvalidRequest.
    schema: its JSON schema, for the OpenAPI document.
    reaches_engine: False for what is accepted because SDKs send it, and then dropped.
    """

    check: Check
    schema: Mapping[str, Any]
    reaches_engine: bool = True


def wrong_type(param: Param, wanted: str) -> NoReturn:
    raise InvalidRequest(f"`{param}` must be {wanted}.", code="invalid_type", param=param)


def out_of_bounds(param: Param, wanted: str) -> NoReturn:
    raise InvalidRequest(f"`{param}` must be {wanted}.", code="out_of_bounds", param=param)


def unsupported(param: Param, why: str) -> NoReturn:
    raise InvalidRequest(why, code="unsupported_parameter", param=param)


def boolean() -> Field:
    def check(value: Any, param: Param) -> bool:
        if not isinstance(value, bool):
            wrong_type(param, "true or false")
        return value

    return Field(check, {"type": "boolean"})


def integer(low: int, high: int = INT64_MAX) -> Field:
    def check(value: Any, param: Param) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            wrong_type(param, "an integer")
        if not low <= value <= high:
            out_of_bounds(param, f"from {low} to {high}" if high < INT64_MAX else f"{low} or more")
        return value

    return Field(check, {"type": "integer", "minimum": low, "maximum": high})


def number(low: float, high: float, *, above_low: bool = False) -> Field:
    def check(value: Any, param: Param) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            wrong_type(param, "a number")
        if not low <= value <= high or (above_low and value == low):
            out_of_bounds(param, f"{'above' if above_low else 'from'} {low:g} to {high:g}")
        return value

    minimum = "exclusiveMinimum" if above_low else "minimum"
    return Field(check, {"type": "number", minimum: low, "maximum": high})


def text(chars_max: int | None = None) -> Field:
    def check(value: Any, param: Param) -> str:
        if not isinstance(value, str):
            wrong_type(param, "a text")
        if chars_max is not None and len(value) > chars_max:
            out_of_bounds(param, f"at most {chars_max} characters long")
        return value

    bound = {} if chars_max is None else {"maxLength": chars_max}
    return Field(check, {"type": "string", **bound})


def one_of(*values: str) -> Field:
    wanted = "one of " + ", ".join(f'"{value}"' for value in values)

    def check(value: Any, param: Param) -> str:
        if not isinstance(value, str):
            wrong_type(param, wanted)
        if value not in values:
            out_of_bounds(param, wanted)
        return value

    return Field(check, {"type": "string", "enum": list(values)})


def list_of(item: Field, entries_max: int, entries_min: int = 0) -> Field:
    def check(value: Any, param: Param) -> list[Any]:
        if not isinstance(value, list):
            wrong_type(param, "a list")
        if not entries_min <= len(value) <= entries_max:
            out_of_bounds(param, f"a list of {entries_min} to {entries_max} entries")
        check_item = item.check
        if param is None:
            return [check_item(entry, None) for entry in value]
        return [check_item(entry, f"{param}[{index}]") for index, entry in enumerate(value)]

    schema = {"type": "array", "items": item.schema, "maxItems": entries_max}
    return Field(check, schema | ({"minItems": entries_min} if entries_min else {}))


def either(first: Field, second: Field, takes_first: type) -> Field:
    """`first` for values of this type, `second` for all others."""

    def check(value: Any, param: Param) -> Any:
        return (first if isinstance(value, takes_first) else second).check(value, param)

    return Field(check, {"anyOf": [first.schema, second.schema]})


def members(fields: Mapping[str, Field], required: Sequence[str] = ()) -> Field:
    """An object with these members and no others."""

    def check(value: Any, param: Param) -> dict[str, Any]:
        if not isinstance(value, dict):
            wrong_type(param, "an object")
        return _members(fields, value, None if param is None else f"{param}.", required)

    schema = {
        "type": "object",
        "properties": {name: nullable(field.schema) for name, field in fields.items()},
        "additionalProperties": False,
    }
    return Field(check, schema | ({"required": list(required)} if required else {}))


def check_body(
    fields: Mapping[str, Field], body: Mapping[str, Any], required: Sequence[str]
) -> dict[str, Any]:
    """What of a body reaches the engine.

    Raises:
        InvalidRequest: `unsupported_parameter`, `missing_parameter`, or what a kind raises; its
            message and param name the whole path.
    """
    try:
        return _members(fields, body, None, required)
    except InvalidRequest:
        return _members(fields, body, "", required)


def _members(
    fields: Mapping[str, Field], value: Mapping[str, Any], prefix: Param, required: Sequence[str]
) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, member in value.items():
        field = fields.get(name)
        if field is None:
            param = f"{prefix}{name}"[:200]
            unsupported(param, f"`{param}` is not accepted here. GET /openapi.json lists what is.")
        if member is None:
            continue
        checked = field.check(member, None if prefix is None else prefix + name)
        if field.reaches_engine:
            kept[name] = checked
    for name in required:
        if value.get(name) is None:
            param = f"{prefix}{name}"
            raise InvalidRequest(f"`{param}` is missing.", code="missing_parameter", param=param)
    return kept


def anything(schema: Mapping[str, Any] | None = None) -> Field:
    """Checked elsewhere, or by the engine alone."""
    return Field(lambda value, param: value, schema or {})


def dropped(field: Field | None = None) -> Field:
    """Accepted because SDKs send it; it has no meaning here and never reaches the engine."""
    field = field or anything()
    return Field(field.check, field.schema, reaches_engine=False)


def only(*values: Any, why: str) -> Field:
    """Dropped where it says what holds here anyway, refused otherwise."""

    def check(value: Any, param: Param) -> Any:
        if value not in values or isinstance(value, bool) is not isinstance(values[0], bool):
            unsupported(param, why)
        return value

    return Field(check, {"enum": list(values)}, reaches_engine=False)


def nullable(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema, or null: a field that is null counts as left out."""
    return {"anyOf": [dict(schema), {"type": "null"}]} if schema else {}


def refused(why: str) -> Field:
    """Known, and not possible here unless it is null."""

    def check(value: Any, param: Param) -> NoReturn:
        unsupported(param, why)

    return Field(check, {"type": "null"})


def tagged(tag: str, variants: Mapping[str, Field], default: str | None = None) -> Field:
    """An object whose member `tag` says which of the variants it is."""
    known = ", ".join(f'"{variant}"' for variant in variants)

    def check(value: Any, param: Param) -> Any:
        if not isinstance(value, dict):
            wrong_type(param, "an object")
        name = value.get(tag, default)
        variant = variants.get(name) if isinstance(name, str) else None
        if variant is None:
            unsupported(f"{param}.{tag}", f"`{param}.{tag}` must be one of {known} here.")
        return variant.check(value, param)

    return Field(check, {"anyOf": [variant.schema for variant in variants.values()]})


def constant(value: str) -> Field:
    """The tag of a variant."""
    return Field(lambda given, param: given, {"const": value})
