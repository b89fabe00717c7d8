"""Records: what of a scheme crosses the wire, as dataclasses whose fields declare what they may hold.

    @record
    class DdhCiphertext(Record):
        SHAPE = ("N", "n")
        ROWS = ("elements",)
        group: str = named(GROUPS, group_sizes)
        elements: Wire = array("uint8", "N", "n+1", "element")

An axis is a symbol, or one more than it. What a symbol stands for follows from the fields before it
(parameters give n, a group the bytes of an element); one that nothing determines is free, and the array
itself says it. A peer chose every field, so all of them are checked when a record is made: type, dtype,
shape, size of integers, names. Whether bytes are group elements is for `load` to find out, once; what `load`
returns (`Loaded`) is no record and cannot cross.

Every scheme is a module with the same verbs, on batches: a matrix of vectors in, a matrix of inner products
out.

    params      = scheme.parameters(bounds)            derived from the bounds, refuses what it cannot carry
    mpk, msk    = scheme.setup(params, coins)
    mpk         = scheme.check(mpk, params)            of a public key that arrived
    ct          = scheme.encrypt(mpk, X, coins)        X (N, n) integers, |x| <= bounds.x
    sk          = scheme.key_derive(msk, Y)            Y (h, n) integers, |y| <= bounds.y
    loaded      = scheme.load(mpk, ct)                 of ciphertexts that arrived
    Z           = scheme.decrypt(mpk, sk, loaded)      Z (N, h) int64 = X Y^T, exact, or BoundError
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, lru_cache
from typing import Any, ClassVar, TypeVar, dataclass_transform, get_type_hints

import numpy as np
from numpy.typing import NDArray

from protocols.crypto.groups.elements import Elements, concatenate
from protocols.language.errors import BoundError, MalformedError
from protocols.language.message import wire

Ints = NDArray[np.integer[Any]]
Wire = NDArray[np.uint8]
Symbols = dict[str, Any]  # what the symbols of shapes stand for; also a group's name, an instance's tag

_BITS = 62  # of an integer that declares no other limit


@dataclass(frozen=True)
class Number:
    """A positive integer of at most `bits` bits, which `symbol` stands for."""

    symbol: str
    bits: int

    def check(self, value: Any, symbols: Symbols, what: str) -> Symbols:
        if type(value) is not int or not value > 0 or value.bit_length() > self.bits:
            raise MalformedError(f"{what}: expected a positive integer of at most {self.bits} bits")
        return {self.symbol: value} if self.symbol else {}


@dataclass(frozen=True)
class Named:
    """One of some names, and what follows from it."""

    names: tuple[str, ...]
    sizes: Callable[[str], Symbols] | None

    def check(self, value: Any, symbols: Symbols, what: str) -> Symbols:
        if type(value) is not str or value not in self.names:
            raise MalformedError(f"{what}: expected one of {', '.join(self.names)}")
        return self.sizes(value) if self.sizes else {}


@dataclass(frozen=True)
class Bytes:
    """So many bytes; those that tell an instance from others are its `tag`."""

    nbytes: int
    tag: bool

    def check(self, value: Any, symbols: Symbols, what: str) -> Symbols:
        if type(value) is not bytes or len(value) != self.nbytes:
            raise MalformedError(f"{what}: expected {self.nbytes} bytes")
        return {"tag": value} if self.tag else {}


@dataclass(frozen=True)
class Array:
    """An array of one dtype ("int" for any signed one) with these axes, each a symbol or "symbol+1".

    Only the first axis may be empty.
    """

    dtype: str
    axes: tuple[str, ...]

    def check(self, value: Any, symbols: Symbols, what: str) -> Symbols:
        fits = isinstance(value, np.ndarray) and value.ndim == len(self.axes) and value.dtype.isnative
        fits = fits and (value.dtype.kind == "i" if self.dtype == "int" else value.dtype == self.dtype)
        found = dict(symbols)
        for axis, length in zip(self.axes, value.shape if fits else (), strict=False):
            symbol, more = _parsed(axis)
            size = length - more
            fits = fits and size >= (axis != self.axes[0]) and found.setdefault(symbol, size) == size
        if not fits:
            raise MalformedError(f"{what}: expected {self._shown(symbols)}, got {kind_of(value)}")
        return found

    def _shown(self, symbols: Symbols) -> str:
        sizes = [(axis, *_parsed(axis)) for axis in self.axes]
        shown = [str(symbols[name] + more) if name in symbols else axis for axis, name, more in sizes]
        return f"{self.dtype} ({', '.join(shown)})"


def number(symbol: str = "", bits: int = _BITS, default: int | None = None, secret: bool = False) -> Any:
    """A field that is a positive integer of at most `bits` bits."""
    declared = {"declared": Number(symbol, bits)}
    return field(
        default=dataclasses.MISSING if default is None else default, repr=not secret, metadata=declared
    )


def named(names: tuple[str, ...], sizes: Callable[[str], Symbols] | None = None) -> Any:
    """A field that is one of `names`; `sizes` says which symbols follow from it."""
    return field(metadata={"declared": Named(names, sizes)})


def nbytes(count: int, tag: bool = False) -> Any:
    """A field that is `count` bytes."""
    return field(metadata={"declared": Bytes(count, tag)})


def array(dtype: str, *axes: str, secret: bool = False) -> Any:
    """A field that is an array."""
    return field(repr=not secret, metadata={"declared": Array(dtype, axes)})


T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field, number, named, nbytes, array))
def record(cls: type[T]) -> type[T]:
    """Make a class a frozen dataclass that may cross."""
    return wire(dataclass(frozen=True)(cls))


@dataclass(frozen=True)
class Record:
    """Base of all records: each field is what it declares or, without a declaration, of exactly its type."""

    SHAPE: ClassVar[tuple[str, ...]] = ()  # the symbols with which a transcript lists the record
    ROWS: ClassVar[tuple[str, ...]] = ()  # the fields with a row for every vector, if it is a batch

    def __post_init__(self) -> None:
        _ = self.symbols

    @cached_property
    def symbols(self) -> Symbols:
        """What the symbols of shapes stand for; raises `MalformedError` unless every field is as declared."""
        symbols: Symbols = {}
        own: Any = type(self)
        for name, kind, declared in _declarations(own):
            value, what = getattr(self, name), f"{name} of {own.__name__}"
            if declared is not None:
                symbols |= declared.check(value, symbols, what)
            elif type(value) is not kind or (isinstance(value, int) and value.bit_length() > _BITS):
                raise MalformedError(f"{what}: expected {kind.__name__}, got {type(value).__name__}")
            elif isinstance(value, Record):
                symbols |= value.symbols
        return symbols | self.further()

    def further(self) -> Symbols:
        """Refuse what the declarations cannot say, and name what follows from the fields."""
        return {}

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.symbols[symbol] + more for symbol, more in map(_parsed, self.SHAPE))


@record
class Bounds(Record):
    """What a scheme must carry: vectors of `length` entries, |x| <= `x` encrypted, |y| <= `y` in keys."""

    length: int = number("n")
    x: int = number()
    y: int = number()

    @property
    def inner(self) -> int:
        """Bound on |<x, y>|."""
        return self.length * self.x * self.y


@dataclass(frozen=True)
class Loaded:
    """A batch (N, n + 1) of validated elements in the form that is computed with; `kind` is its record."""

    kind: type[Record]
    symbols: Symbols
    elements: Any

    ROWS: ClassVar[tuple[str, ...]] = ("elements",)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.elements.shape[0], self.elements.shape[1] - 1)


def loaded(batch: Record, elements: Any) -> Loaded:
    """A batch whose elements were validated."""
    known = {name: value for name, value in batch.symbols.items() if name != batch.SHAPE[0]}
    return Loaded(type(batch), known, elements)


R = TypeVar("R", bound=Record)
Batch = TypeVar("Batch", bound=Record | Loaded)


def fit(value: Any, kind: type[Record], owner: Record) -> None:
    """Raise `MalformedError` unless `value`, loaded or not, is a `kind` with sizes, group, tag of `owner`."""
    found = value.kind if isinstance(value, Loaded) else type(value)
    if found is not kind:
        raise MalformedError(f"expected {kind.__name__}, got {found.__name__}")
    for symbol, expected in owner.symbols.items():
        got = value.symbols.get(symbol, expected)
        if got != expected and symbol == "tag":
            raise MalformedError(f"{kind.__name__} belongs to another instance: its tag differs")
        if got != expected:
            raise MalformedError(f"{kind.__name__} does not fit: expected {symbol} {expected}, got {got}")


def arrived(value: Any, kind: type[R], owner: Record) -> R:
    """`value`, if it is a `kind` that fits, and no `Loaded`, whose elements nobody here has checked."""
    if type(value) is not kind:
        raise MalformedError(f"expected {kind.__name__}, got {type(value).__name__}")
    fit(value, kind, owner)
    return value


def made_for(key: Any, kind: type[R], params: Record) -> R:
    """`key`, if it is a `kind` that was made for these parameters."""
    if type(key) is not kind:
        raise MalformedError(f"expected {kind.__name__}, got {type(key).__name__}")
    if getattr(key, "params", None) != params:
        raise MalformedError(f"{kind.__name__} was made for other parameters than {params}")
    return key


def rows(batch: Batch, start: int, stop: int) -> Batch:
    """The vectors start, ..., stop - 1 of a batch."""
    return replace(batch, **{name: getattr(batch, name)[start:stop] for name in batch.ROWS})


def concat(batches: Sequence[Batch]) -> Batch:
    """Batches of one instance, one after the other."""
    first = batches[0]
    if any(_rest(batch) != _rest(first) for batch in batches):
        raise MalformedError(
            "batches of different groups, instances, lengths or states cannot be put together"
        )
    joined = {name: _join([getattr(batch, name) for batch in batches]) for name in first.ROWS}
    return replace(first, **joined)


def check_plain(values: Any, shape: tuple[int | None, ...], bound: int, what: str, remedy: str) -> None:
    """Raise unless `values` is an integer array of this shape (None is any length) within +-`bound`.

    `MalformedError` for another type or shape, `BoundError`, with the remedy, for an entry beyond the bound.
    """
    fits = isinstance(values, np.ndarray) and values.dtype.kind in "iu" and values.ndim == len(shape)
    if not fits or any(size not in (None, found) for size, found in zip(shape, values.shape, strict=True)):
        expected = ", ".join("any" if size is None else str(size) for size in shape)
        raise MalformedError(f"{what}: expected integers ({expected}), got {kind_of(values)}")
    if values.size and max(abs(int(values.max())), abs(int(values.min()))) > bound:
        raise BoundError(f"{what}: an entry exceeds the bound {bound}; {remedy}")


def kind_of(value: Any) -> str:
    """Type and shape of what came, never its value."""
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__


@lru_cache(maxsize=64)
def _declarations(kind: Any) -> tuple[tuple[str, type, Any], ...]:
    """Name, type and declaration of every field."""
    hints = get_type_hints(kind)
    return tuple((f.name, hints[f.name], f.metadata.get("declared")) for f in fields(kind))


def _parsed(axis: str) -> tuple[str, int]:
    symbol, _, more = axis.partition("+")
    return symbol, int(more or 0)


def _rest(batch: Record | Loaded) -> tuple[Any, ...]:
    """What batches of one instance have in common."""
    names = [f.name for f in fields(batch) if f.name not in batch.ROWS]
    return type(batch), batch.shape[1:], [getattr(batch, name) for name in names]


def _join(parts: list[Any]) -> Any:
    return concatenate(parts) if isinstance(parts[0], Elements) else np.concatenate(parts)
