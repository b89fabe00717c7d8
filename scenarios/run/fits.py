"""Whether a JSON value that was read from a file is what a schema says, for files that may be a stranger's.

Of JSON schemas (draft 2020-12) it knows the words that ours are made of: `type`, `enum`, `anyOf`, `required`,
`properties`, `additionalProperties`, `items`, `minimum`, `maximum`, `pattern`. A key that the schema does not
know is no fault: a later version may have written it.
"""

from __future__ import annotations

import re
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "boolean": (bool,), "null": (type(None),),
    "integer": (int,), "number": (int, float),
}  # fmt: skip


_BOUNDS = {"type", "minimum", "maximum", "description"}


def fault(value: Any, schema: dict[str, Any], where: str = "") -> str:
    """The first thing that does not fit, in a few words, with its place; empty if everything does."""
    if "anyOf" in schema:
        faults = [fault(value, option, where) for option in schema["anyOf"]]
        return "" if "" in faults else faults[0]
    if "enum" in schema and value not in schema["enum"]:
        return _told(where, f"one of {', '.join(map(str, schema['enum']))}", value)
    types = schema.get("type", [])
    types = [types] if isinstance(types, str) else types
    if types and not any(_is(value, name) for name in types):
        return _told(where, " or ".join(types), value)
    if isinstance(value, dict):
        return _of_object(value, schema, where)
    if isinstance(value, list):
        items = schema.get("items", {})
        ends = [min(value), max(value)] if {*map(type, value)} == {int} and items.keys() <= _BOUNDS else []
        if ends and not any(fault(end, items) for end in ends):
            return ""  # nor does anything in between fail
        return next(filter(None, (fault(item, items, f"{where}[{i}]") for i, item in enumerate(value))), "")
    return _of_scalar(value, schema, where)


def _is(value: Any, name: str) -> bool:
    return isinstance(value, _TYPES[name]) and (not isinstance(value, bool) or name == "boolean")


def _of_object(value: dict[str, Any], schema: dict[str, Any], where: str) -> str:
    missing = [key for key in schema.get("required", ()) if key not in value]
    if missing:
        return f"{where or 'it'} lacks {missing[0]}"
    rest = schema.get("additionalProperties")
    known = schema.get("properties", {})
    parts = ((key, known.get(key, rest if isinstance(rest, dict) else {})) for key in value)
    found = (fault(value[key], part, f"{where}.{key}" if where else key) for key, part in parts)
    return next(filter(None, found), "")


def _of_scalar(value: Any, schema: dict[str, Any], where: str) -> str:
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        return _told(where, f"text like {schema['pattern']}", value)
    low, high = schema.get("minimum"), schema.get("maximum")
    if isinstance(value, int | float) and low is not None and value < low:
        return _told(where, f"at least {low}", value)
    return _told(where, f"at most {high}", value) if _above(value, high) else ""


def _above(value: Any, high: float | None) -> bool:
    return isinstance(value, int | float) and high is not None and value > high


def _told(where: str, expected: str, got: Any) -> str:
    return f"{where or 'it'}: expected {expected}, got {got!r:.60}"
