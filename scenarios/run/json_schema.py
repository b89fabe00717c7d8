"""JSON schemas (draft 2020-12) and JSON-able data of dataclasses whose fields say of themselves what they
are.

A key is always there, with null for None, unless its field is `optional`. Objects are closed: a key that no
field declares is an error.
"""

from __future__ import annotations

import types
import typing
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from protocols.language.options import About, about, as_plain

Schema = dict[str, Any]

_SIMPLE = {int: "integer", float: "number", str: "string", bool: "boolean", Path: "string"}


def schema_of(kind: Any, said: About | None = None) -> Schema:
    """The schema of a type, with what a field says of itself."""
    described = {"description": said.help} if said else {}
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        inner = [each for each in typing.get_args(kind) if each is not type(None)]
        options = [schema_of(each, said) for each in inner]
        if len(options) == 1 and isinstance(options[0].get("type"), str):
            return {**options[0], "type": [options[0]["type"], "null"]}
        return {"anyOf": [*options, {"type": "null"}], **described}
    if is_dataclass(kind):
        return {**object_of(kind), **({"description": said.help} if said else {})}
    if typing.get_origin(kind) is typing.Literal:
        return {"enum": list(typing.get_args(kind)), **described}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {"enum": [member.value for member in kind], **described}
    if typing.get_origin(kind) in (tuple, list):
        return {"type": "array", "items": schema_of(typing.get_args(kind)[0], _bounds(said)), **described}
    if said is not None and said.holds is not None:
        return {**schema_of(said.holds), **described}
    if typing.get_origin(kind) is dict:
        return {"type": "object", "additionalProperties": schema_of(typing.get_args(kind)[1]), **described}
    return {**({"type": _SIMPLE[kind]} if kind in _SIMPLE else {}), **_limits(kind, said), **described}


def object_of(cls: Any, more: Schema | None = None) -> Schema:
    """The schema of a dataclass; `more` are further keys, all of them required."""
    kinds = typing.get_type_hints(cls)
    properties = {each.name: schema_of(kinds[each.name], _said(each)) for each in fields(cls)}
    required = [each.name for each in fields(cls) if not _optional(each)]
    return {
        "type": "object",
        "description": (cls.__doc__ or "").strip(),
        "properties": {**properties, **(more or {})},
        "required": sorted({*required, *(more or {})}),
        "additionalProperties": False,
    }


def plain(value: Any) -> Any:
    """A result as JSON-able data, without the keys that are missing."""
    if is_dataclass(value) and not isinstance(value, type):
        present = ((each, getattr(value, each.name)) for each in fields(value))
        return {each.name: plain(item) for each, item in present if item is not None or not _optional(each)}
    if isinstance(value, list | tuple) and not {*map(type, value)} <= {*_SIMPLE}:
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return as_plain(value)


def _optional(each: Field[Any]) -> bool:
    said = about(each)
    return said is not None and said.optional


def _said(each: Field[Any]) -> About | None:
    """What a field says of itself, with bounds that its own default keeps."""
    said = about(each)
    if said is None or said.least is None or each.default in (MISSING, None):
        return said
    low = each.default if isinstance(each.default, int | float) else said.least
    return About(said.help, least=min(said.least, low), most=said.most, pattern=said.pattern)


def _bounds(said: About | None) -> About | None:
    """What holds for the items of a list: the bounds, not the help."""
    return About("", least=said.least, most=said.most) if said else None


def _limits(kind: Any, said: About | None) -> Schema:
    if said is None:
        return {}
    limits = {"minimum": said.least, "maximum": said.most, "pattern": said.pattern or None}
    return {name: value for name, value in limits.items() if value is not None}
