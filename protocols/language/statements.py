"""Relations as plain data, for transcripts of code that is not written in the language.

Who records such code states what a reader may write down with the types of `relations.py`. They are stored as
values that may cross (`message.py`): the type by its name, maps by theirs, positions and public numbers as
arrays, and what crossed by reference to the message, as `Said`. Reading them runs no code and unpickles
nothing. A relation is given to those alone who hold the messages that it refers to. What has functions of its
own (a scheme's instance, a replay) cannot be stated so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any, cast

import numpy as np

from protocols.language import relations as r
from protocols.language.errors import ConfigError, DataError, ProtocolError
from protocols.language.relations import Array, Map, Positions, Relation, Steps
from protocols.language.view import Kind, Row, View

RELATION, STEPS = "relation", "steps"  # labels of the entries that hold them
_LARGEST = 1 << 26  # samples that a run may have
_NAME = 64  # characters of the name of a map
_TYPES = MappingProxyType(
    {
        kind.__name__: kind
        for kind in (
            r.Samples, r.Equations, r.Combinations, r.Products, r.KnownMap, r.Update, r.Moments, r.Labels,
            r.LabelErrors, r.Own, r.Plain, r.Opaque, r.Without,
        )
    }
)  # fmt: skip
_FLAT = frozenset(["Labels.values", "KnownMap.bias", "Update.terms"])  # arrays of one axis; others have two
_A_ROW_EACH = frozenset(["values", "matrix"])  # fields with a row for each sample, but of combinations


@dataclass(frozen=True)
class Said:
    """The numbers of a message, as a relation may refer to them: turned, or times a factor.

    `parties`: its sender and receiver, who hold it. `shape`: of its array, none for other values.
    """

    seq: int
    label: str
    round: int
    parties: tuple[str, ...]
    shape: tuple[int, ...] = ()
    turned: bool = False
    factor: float = 1.0

    def __call__(self) -> Array:
        """As relations have functions of arrays; there is nothing to read before the run is opened."""
        raise ProtocolError(f"{self.label}: what crossed is read from the view of a party that has it")

    @property
    def T(self) -> Said:
        """The transpose."""
        return replace(self, turned=not self.turned, shape=self.shape[::-1])

    def times(self, factor: float) -> Said:
        """The numbers times a public factor, such as 255 for pixels that enter divided by it."""
        return replace(self, factor=self.factor * factor)


@dataclass(frozen=True, eq=False)
class StepsSaid(Steps):
    """Steps whose errors are messages, those of the first steps."""

    errors: tuple[Said, ...] = ()

    def __post_init__(self) -> None:
        """They are read from a view."""


def steps(samples: tuple[Positions, ...], errors: tuple[Said, ...] = (), **more: float) -> Steps:
    """`Steps` of which the errors (m, h) of the first `len(errors)` are messages."""
    return StepsSaid(samples, len(errors), lambda u: errors[u](), errors=errors, **more)


def refers(relation: Relation) -> Iterator[Said]:
    """The messages that a relation refers to, apart from the errors of its steps."""
    for each in fields(relation):
        value = getattr(relation, each.name)
        if isinstance(value, Said):
            yield value


def as_plain(relation: Relation, step_number: Callable[[Steps], int]) -> dict[str, Any]:
    """A relation as a value that may cross; `ConfigError` for what is not plain data. Steps are stored by
    themselves, once, under a number.
    """
    name = type(relation).__name__
    if _TYPES.get(name) is not type(relation):
        raise ConfigError(f"a relation {name} holds code, which is not recorded; state {', '.join(_TYPES)}")
    plain: dict[str, Any] = {"type": name}
    for each in fields(relation):
        value = getattr(relation, each.name)
        plain[each.name] = _lowered(f"{name}.{each.name}", value, step_number)
    return plain


def _lowered(name: str, value: Any, step_number: Callable[[Steps], int]) -> Any:
    if isinstance(value, Said):
        return {"said": value.seq, "label": value.label, "round": value.round, "turned": value.turned,
                "factor": value.factor}  # fmt: skip
    if isinstance(value, Map):
        return {"map": value.name, "owner": value.owner, "time": value.time}
    if isinstance(value, Steps):
        return step_number(value)
    if isinstance(value, type):
        return value.__name__
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "biuf" or not np.isfinite(value).all():
            raise ConfigError(f"{name}: expected finite numbers")
        return np.ascontiguousarray(value)
    if isinstance(value, tuple):
        return list(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ConfigError(f"{name}: expected an array, or what `send` returned for a message, not code")


def steps_as_plain(of: Steps) -> dict[str, Any]:
    """Steps as a value that may cross: all positions in one array, errors by numbers of messages."""
    if not isinstance(of, StepsSaid):
        raise ConfigError("Steps: their errors are code; make them with keyhole.steps(samples, errors)")
    forms = {(each.label, each.turned, each.factor) for each in of.errors}
    if len(forms) > 1:
        raise ConfigError("Steps: their errors must be messages of one label, all in the same form")
    label, turned, factor = next(iter(forms), ("", False, 1.0))
    return {
        "samples": np.concatenate([np.zeros(0, np.int64), *(np.asarray(s, np.int64) for s in of.samples)]),
        "lengths": np.array([len(part) for part in of.samples], np.int64),
        "said": np.array([each.seq for each in of.errors], np.int64),
        "label": label, "turned": turned, "factor": factor, "roundoff": of.roundoff,
    }  # fmt: skip


def stated(view: View, samples: int) -> Iterator[Relation]:
    """The relations that a view gives of those stated: of whose messages it holds all. `samples`: how many
    there are; 0 where that is not said.

    A label of which some message is in no relation, and which none calls plain or opaque, is reported as
    `Unrelated`. Raises `DataError` for a statement that is none.
    """
    reader = _Reader(view, samples)
    related: set[int] = set()
    declared: set[str] = set()
    for plain in reader.plain(RELATION):
        relation, said = reader.relation(plain)
        if relation is None:
            continue
        related |= said
        declared |= set(relation.labels) if isinstance(relation, r.Plain | r.Opaque) else set()
        yield relation
    left: dict[str, int] = {}
    for row in reader.rows.values():
        if row.kind is Kind.RECEIVED and row.seq not in related and row.label not in declared:
            left[row.label] = left.get(row.label, 0) + 1
    for label, count in left.items():
        yield r.Unrelated(labels=(label,), count=count)


class _Reader:
    """Makes relations of what a view holds; whoever wrote it may be a stranger."""

    def __init__(self, view: View, samples: int) -> None:
        self._view, self._most = view, samples or _LARGEST
        self.rows: dict[int, Row] = {row.seq: row for row in view.rows(None, Kind.SENT, Kind.RECEIVED)}
        self._labels = {row.label for row in self.rows.values()}
        self._last = max((row.round for row in self.rows.values()), default=-1)
        self._plain_steps = {plain.get("number"): plain for plain in self.plain(STEPS)}
        self._steps: dict[int, tuple[Steps, set[int]]] = {}

    def plain(self, label: str) -> Iterator[dict[str, Any]]:
        """The statements of a view, each once: all parties that it is about have it."""
        seen: set[bytes] = set()
        for row in self._view.rows(label, Kind.PUBLIC):
            if row.sha256 in seen:
                continue
            seen.add(row.sha256)
            value = self._view.value(row)
            if not isinstance(value, dict):
                raise _wrong("it is no mapping")
            yield value

    def relation(self, plain: dict[str, Any]) -> tuple[Relation | None, set[int]]:
        """A relation, and the messages that it is read from; None where the view does not hold them all."""
        kind = _TYPES.get(_of(plain, "type", str))
        if kind is None:
            raise _wrong(f"it is of an unknown type {plain['type'][:_NAME]!r}")
        if set(plain) != {"type", *(each.name for each in fields(kind))}:
            raise _wrong(f"a {kind.__name__} has other fields")
        labels, since = _names(plain["labels"]), _of(plain, "since", int)
        if not set(labels) <= self._labels or since > max(self._last, 0):
            return None, set()
        said: set[int] = set()
        given: dict[str, Any] = {"labels": labels, "since": since}
        index = self._positions(plain["samples"]) if "samples" in plain else None
        for each in fields(kind):
            if each.name in given:
                continue
            made = self._field(kind.__name__, each.name, str(each.type), plain[each.name], index, said)
            if made is _ABSENT:
                return None, set()
            given[each.name] = made
        return cast("Callable[..., Relation]", kind)(**given), said

    def _field(
        self, kind: str, name: str, type_: str, value: Any, index: Positions | None, said: set[int]
    ) -> Any:
        """One field by its annotation; `_ABSENT` where the view lacks the message."""
        if type_ in _SIMPLE:
            return _simple(name, value, _SIMPLE[type_])
        match type_:
            case "Positions":
                return self._positions(value)
            case "Map":
                return _map(value)
            case "Steps":
                found, errors = self._steps_of(value)
                said |= errors
                return found
            case "type[Relation]":
                if value not in _TYPES:
                    raise _wrong(f"{name} is no type of relation")
                return _TYPES[value]
            case "Array" | "Later" | "Later | None":
                return (
                    None if value is None and "None" in type_ else self._array(kind, name, value, index, said)
                )
        raise _wrong(f"{name} cannot be read")

    def _array(self, kind: str, name: str, value: Any, index: Positions | None, said: set[int]) -> Any:
        axes = 1 if f"{kind}.{name}" in _FLAT else 2
        count = len(index) if index is not None and name in _A_ROW_EACH and kind != "Combinations" else None
        if isinstance(value, np.ndarray):
            return _shaped(np.asarray(value), name, axes, count)
        if not isinstance(value, dict) or set(value) != {"said", "label", "round", "turned", "factor"}:
            raise _wrong(f"{name} is no array and no message")
        row = self.rows.get(_of(value, "said", int))
        if row is None or (row.label, row.round) != (value["label"], value["round"]):
            return _ABSENT
        said.add(row.seq)
        return self._read(row, _of(value, "turned", bool), _of(value, "factor", float), name, axes, count)

    def _read(
        self, row: Row, turned: bool, factor: float, name: str, axes: int, count: int | None
    ) -> Callable[[], Array]:
        whole = row.dtype.startswith(("int", "uint", "bool"))
        if not math.isfinite(factor):
            raise _wrong("a factor is not finite")

        def read() -> Array:
            found = self._view.value(row)
            if not isinstance(found, np.ndarray):
                raise _wrong(f"{name}: message {row.seq} is no array")
            exact = found.astype(np.int64) if whole and factor == 1.0 else found.astype(np.float64) * factor
            return _shaped(exact.T if turned else exact, name, axes, count)

        return read

    def _positions(self, value: Any) -> Positions:
        if not isinstance(value, np.ndarray) or value.ndim != 1 or value.dtype.kind not in "iu":
            raise _wrong("samples are no positions")
        if len(value) and not (value.min() >= 0 and value.max() < self._most):
            raise _wrong(f"samples are outside of the {self._most} that there are")
        return value.astype(np.int64)

    def _steps_of(self, number: Any) -> tuple[Steps, set[int]]:
        if type(number) is not int or number not in self._plain_steps:
            raise _wrong("it names steps that are not there")
        if number not in self._steps:
            self._steps[number] = self._made(self._plain_steps[number])
        return self._steps[number]

    def _made(self, plain: dict[str, Any]) -> tuple[Steps, set[int]]:
        keys = {"number", "samples", "lengths", "said", "label", "turned", "factor", "roundoff"}
        if set(plain) != keys:
            raise _wrong("steps have other fields")
        index, lengths, said = (
            self._positions(plain["samples"]),
            _whole(plain["lengths"]),
            _whole(plain["said"]),
        )
        if lengths.sum() != len(index) or len(said) > len(lengths):
            raise _wrong("steps do not fit their samples")
        parts = tuple(np.split(index, np.cumsum(lengths)[:-1])) if len(lengths) else ()
        rows = [self.rows.get(int(seq)) for seq in said]
        label, turned, factor = plain["label"], _of(plain, "turned", bool), _of(plain, "factor", float)
        lack = (k for k, row in enumerate(rows) if row is None or row.label != label)
        known = next(lack, len(rows))
        held = [row for row in rows[:known] if row is not None]
        reads = [self._read(row, turned, factor, "errors", 2, len(parts[k])) for k, row in enumerate(held)]
        made = Steps(parts, known, lambda u: reads[u](), _of(plain, "roundoff", float))
        return made, {row.seq for row in held}


_ABSENT = object
_SIMPLE: Mapping[str, tuple[type, ...]] = MappingProxyType(
    {"float": (float, int), "bool": (bool,), "int": (int,), "str": (str,)}
)


def _wrong(why: str) -> DataError:
    return DataError(f"a transcript is damaged: a relation stated in it cannot be read: {why}")


def _of(plain: Mapping[str, Any], name: str, kind: type) -> Any:
    value = plain.get(name)
    return _simple(name, value, (kind, int) if kind is float else (kind,))


def _simple(name: str, value: Any, kinds: tuple[type, ...]) -> Any:
    if type(value) not in kinds:
        raise _wrong(f"{name} is no {kinds[0].__name__}")
    if kinds[0] is float and not math.isfinite(value):
        raise _wrong(f"{name} is not finite")
    return value


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise _wrong("labels are no names")
    return tuple(value)


def _map(value: Any) -> Map:
    if not isinstance(value, dict) or set(value) != {"map", "owner", "time"}:
        raise _wrong("a map has other fields")
    return Map(_of(value, "map", str)[:_NAME], _of(value, "owner", int), _of(value, "time", int))


def _whole(value: Any) -> Positions:
    if not isinstance(value, np.ndarray) or value.ndim != 1 or value.dtype.kind not in "iu":
        raise _wrong("steps hold what are no whole numbers")
    if len(value) and value.min() < 0:
        raise _wrong("steps hold a negative number")
    return value.astype(np.int64)


def _shaped(array: Array, name: str, axes: int, count: int | None) -> Array:
    """An array with so many axes, a row for each of `count` samples, and finite."""
    if array.ndim != axes or array.dtype.kind not in "biuf" or (count is not None and len(array) != count):
        rows = "" if count is None else f", {count} in the first"
        raise DataError(f"a relation is stated of {name} of shape {array.shape}: expected {axes} axes{rows}")
    if not np.isfinite(array).all():
        raise DataError(f"a relation is stated of {name}, which are not all finite numbers")
    return array
