"""Messages and their canonical wire encoding.

One value has one encoding, so that a digest of the bytes is a digest of the value. The encoding is plain
data: a msgpack tree followed by the raw buffers of its arrays, each aligned to 64 bytes. Decoding runs no
code of the sender's: it yields None, bool, int, float, str, bytes, list, dict with str keys, numpy arrays of
numbers and the frozen dataclasses registered with `wire`, and raises `EncodingError` for everything else,
also for a second way to write a value.

    frame   = length of the tree (u64, little endian) | tree | padding | buffer 0 | padding | buffer 1 ...
    array   = ext 1: [dtype, shape, offset of the buffer, its length]   (offsets from the end of the tree)
    big int = ext 2: sign byte, magnitude big-endian                       (outside the 64-bit range)
    record  = ext 3: [class name, {field: value}]

What a peer can make its reader spend is bounded by the bytes it sends for arrays, and by the limits below for
the rest.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from dataclasses import dataclass
from typing import Any, TypeVar

import msgpack
import numpy as np
from numpy.typing import NDArray

from protocols.language.errors import EncodingError

_ARRAY, _BIGINT, _RECORD = 1, 2, 3
_ALIGN = 64
_PREFIX = 8
_DTYPES = {np.dtype(name).str: np.dtype(name) for name in "? i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8".split()}
_MAX_DEPTH = 16
_MAX_TREE = 1 << 21  # bytes of everything that is not in an array
_MAX_VALUES = 1 << 18  # numbers, texts, lists, ... in it
_MAX_PARTS = 1 << 15  # arrays and records among them
_MAX_INT_BITS = 1 << 15  # a square modulo an 8192-bit Paillier modulus squared has 16 384
_MAX_AXES = 32
_MAX_EMPTY = 1 << 20  # the largest side of an array without entries: no bytes vouch for it

T = TypeVar("T", bound=type)
_RECORDS: dict[str, Any] = {}


def wire(cls: T) -> T:
    """Register a frozen dataclass as a value that may cross between parties.

    A dataclass that has an attribute `shape` is listed with it in the transcript. Its `__post_init__` should
    refuse fields of the wrong type or shape, because a peer chose them.
    """
    if not (dataclasses.is_dataclass(cls) and cls.__dataclass_params__.frozen):  # type: ignore[attr-defined]
        raise TypeError(f"{cls.__name__} must be a frozen dataclass to cross the wire")
    known = _RECORDS.setdefault(cls.__name__, cls)
    if known.__qualname__ != cls.__qualname__ or known.__module__ != cls.__module__:
        raise TypeError(f"two wire classes are called {cls.__name__}")
    _RECORDS[cls.__name__] = cls
    return cls


@dataclass(frozen=True)
class Header:
    """What a transcript says of a message besides its payload; one row of the digest."""

    seq: int
    phase: str
    round: int
    sender: str
    receiver: str
    label: str

    @property
    def said(self) -> str:
        """The message in words, as errors name it."""
        return f"{self.label} (message {self.seq} of {self.sender})"


def encode(value: Any) -> NDArray[np.uint8]:
    """Return the canonical bytes of `value` as one read-only uint8 array (one copy of every array in it)."""
    lowered = _Lowered(value)
    tree, start = lowered.tree, _aligned(_PREFIX + len(lowered.tree))
    frame = np.zeros(start + lowered.nbytes if lowered.buffers else _PREFIX + len(tree), dtype=np.uint8)
    frame[:_PREFIX] = np.frombuffer(len(tree).to_bytes(_PREFIX, "little"), np.uint8)
    frame[_PREFIX : _PREFIX + len(tree)] = np.frombuffer(tree, np.uint8)
    for offset, array in lowered.buffers:
        here = frame[start + offset : start + offset + array.nbytes]
        here.view(array.dtype).reshape(array.shape)[...] = array
    frame.flags.writeable = False
    return frame


def decode(frame: NDArray[np.uint8] | bytes) -> Any:
    """Return the value whose canonical bytes are `frame`; its arrays are read-only views of the frame.

    Raises `EncodingError` if the bytes are not the encoding of a value, or not the canonical one.
    """
    buffer = _bytes_of(frame).cast("B").toreadonly()
    if len(buffer) < _PREFIX:
        raise EncodingError(f"a message needs at least {_PREFIX} bytes, got {len(buffer)}")
    length = int.from_bytes(buffer[:_PREFIX], "little")
    if length > min(len(buffer) - _PREFIX, _MAX_TREE):
        raise EncodingError(
            f"a message of {len(buffer)} bytes announces {length} bytes of plain data (at most {_MAX_TREE})"
        )
    tree = bytes(buffer[_PREFIX : _PREFIX + length])
    try:
        value = _Raised(buffer[_aligned(_PREFIX + length) :]).unpack(tree)
        again = _Lowered(value)
    except EncodingError:
        raise
    except Exception as cause:
        raise EncodingError(f"bytes are not a message: {type(cause).__name__}") from None
    if again.tree != tree or not again.fills(buffer):
        raise EncodingError("a message is not written in the canonical way")
    return value


def digest(frame: NDArray[np.uint8] | bytes) -> bytes:
    """SHA-256 of a payload (32 bytes)."""
    return hashlib.sha256(_bytes_of(frame)).digest()


def describe(value: Any) -> tuple[str, tuple[int, ...]]:
    """Return the (dtype, shape) with which a value is listed in transcripts."""
    if isinstance(value, np.ndarray):
        return value.dtype.name, value.shape
    if type(value).__name__ in _RECORDS:
        return type(value).__name__, tuple(int(s) for s in getattr(value, "shape", ()))
    if isinstance(value, list | tuple | dict):
        return type(value).__name__.replace("tuple", "list"), (len(value),)
    return type(value).__name__, ()


def _bytes_of(frame: NDArray[np.uint8] | bytes) -> memoryview:
    return frame.data if isinstance(frame, np.ndarray) else memoryview(frame)


def _aligned(n: int) -> int:
    return -(-n // _ALIGN) * _ALIGN


class _Lowered:
    """A value as a msgpack `tree` and the arrays behind it: `buffers` of (offset, array), `nbytes` in all."""

    def __init__(self, value: Any) -> None:
        self.buffers: list[tuple[int, NDArray[Any]]] = []
        self.nbytes = self._parts = self._values = 0
        try:
            self.tree = _pack(self._lower(value, 0))
        except (TypeError, ValueError, OverflowError) as cause:  # a subclass of str, half of a surrogate pair
            raise EncodingError(f"a value cannot cross: {type(cause).__name__}") from None
        if len(self.tree) > _MAX_TREE:
            raise EncodingError(
                f"a message may hold {_MAX_TREE} bytes besides arrays, not {len(self.tree)}: use arrays"
            )

    def fills(self, frame: memoryview) -> bool:
        """Whether a frame with this tree has the right length, and nothing but zeros between the buffers."""
        end = _PREFIX + len(self.tree)
        start = _aligned(end)
        for offset, array in self.buffers:
            if any(frame[end : start + offset]):
                return False
            end = start + offset + array.nbytes
        if self.buffers and any(frame[end : start + self.nbytes]):
            return False
        return len(frame) == (start + self.nbytes if self.buffers else end)

    def _lower(self, value: Any, depth: int) -> Any:
        """Replace arrays, records and big integers by msgpack ext values; collect the arrays."""
        if depth > _MAX_DEPTH:
            raise EncodingError(f"a message may be nested {_MAX_DEPTH} deep")
        self._values = _counted(self._values, _MAX_VALUES)
        if value is None or isinstance(value, bool | str | bytes):
            return value
        if isinstance(value, int | np.integer):
            return _lower_int(int(value))
        if isinstance(value, float | np.floating):
            return float(value)
        if isinstance(value, np.ndarray):
            return self._lower_array(value)
        if isinstance(value, list | tuple):
            return [self._lower(item, depth + 1) for item in value]
        if isinstance(value, dict):
            if not all(isinstance(key, str) for key in value):
                raise EncodingError("the keys of a mapping that crosses must be str")
            return {key: self._lower(value[key], depth + 1) for key in sorted(value)}
        return self._lower_record(value, depth)

    def _lower_array(self, array: NDArray[Any]) -> Any:
        self._parts = _counted(self._parts, _MAX_PARTS)
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        _check_array(array.dtype.str, array.shape)
        offset, self.nbytes = self.nbytes, _aligned(self.nbytes + array.nbytes)
        self.buffers.append((offset, array))
        said = [array.dtype.str, list(array.shape), offset, array.nbytes]
        return msgpack.ExtType(_ARRAY, _pack(said))

    def _lower_record(self, value: Any, depth: int) -> Any:
        name = type(value).__name__
        if _RECORDS.get(name) is not type(value):
            raise EncodingError(
                f"a value of type {name} cannot cross; expected plain data or a class registered with wire"
            )
        self._parts = _counted(self._parts, _MAX_PARTS)
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return msgpack.ExtType(_RECORD, _pack([name, self._lower(fields, depth + 1)]))


class _Raised:
    """Makes a value of a tree, with arrays that look into `body`."""

    def __init__(self, body: memoryview) -> None:
        self._body = body
        self._parts = self._depth = 0

    def unpack(self, tree: bytes) -> Any:
        """The value of a tree, or of the content of a record in it."""
        return msgpack.unpackb(tree, ext_hook=self._ext, raw=False, strict_map_key=True)

    def _ext(self, code: int, data: bytes) -> Any:
        if code == _BIGINT:
            return _raise_int(data)
        self._parts = _counted(self._parts, _MAX_PARTS)
        if code == _ARRAY:
            return self._array(data)
        if code == _RECORD:
            return self._record(data)
        raise EncodingError(f"unknown extension {code} in a message")

    def _array(self, data: bytes) -> NDArray[Any]:
        name, shape, offset, nbytes = msgpack.unpackb(data)
        dtype, count = _check_array(name, shape)
        if count * dtype.itemsize != nbytes or offset < 0 or offset + nbytes > len(self._body):
            raise EncodingError("an array in a message is longer than the message")
        array = np.frombuffer(self._body[offset : offset + nbytes], dtype=dtype).reshape(shape)
        if dtype == np.bool_ and array.view(np.uint8).max(initial=0) > 1:
            raise EncodingError("a truth value in a message is neither 0 nor 1")
        return array

    def _record(self, data: bytes) -> Any:
        if self._depth > _MAX_DEPTH:  # each record in a record takes tens of kilobytes of the C stack
            raise EncodingError(f"a message may be nested {_MAX_DEPTH} deep")
        self._depth += 1
        name, fields = self.unpack(data)
        self._depth -= 1
        cls = _RECORDS.get(name)
        if cls is None:
            raise EncodingError(f"unknown record {_quoted(name)} in a message")
        if set(fields) != {f.name for f in dataclasses.fields(cls)}:
            raise EncodingError(f"a record {name} came with the wrong fields")
        return cls(**fields)


def _quoted(name: object) -> str:
    """A name that a peer chose, in a few characters."""
    return repr(name[:40]) if isinstance(name, str) else f"of type {type(name).__name__}"


def _counted(count: int, most: int) -> int:
    if count >= most:
        what = "arrays and records" if most == _MAX_PARTS else "values: put numbers into arrays"
        raise EncodingError(f"a message may hold {most} {what}")
    return count + 1


def _check_array(name: str, shape: Any) -> tuple[np.dtype[Any], int]:
    """The dtype and the number of entries of an array that may cross."""
    dtype = _DTYPES.get(name)
    if dtype is None:
        raise EncodingError(f"an array of dtype {_quoted(name)} cannot cross; expected {', '.join(_DTYPES)}")
    if len(shape) > _MAX_AXES or any(type(side) is not int or side < 0 for side in shape):
        raise EncodingError(f"an array that crosses has up to {_MAX_AXES} sides, integers of at least 0")
    count = math.prod(shape)
    if not count and max(shape) > _MAX_EMPTY:
        raise EncodingError(f"an array without entries may have sides of up to {_MAX_EMPTY}")
    return dtype, count


def _lower_int(value: int) -> Any:
    if -(2**63) <= value < 2**64:
        return value
    _check_bits(value.bit_length())
    sign = b"\x01" if value < 0 else b"\x00"
    magnitude = abs(value)
    return msgpack.ExtType(_BIGINT, sign + magnitude.to_bytes((magnitude.bit_length() + 7) // 8, "big"))


def _raise_int(data: bytes) -> int:
    _check_bits(8 * len(data) - 8)
    magnitude = int.from_bytes(data[1:], "big")
    return -magnitude if data[0] else magnitude


def _check_bits(bits: int) -> None:
    if bits > _MAX_INT_BITS:
        raise EncodingError(f"an integer that crosses has up to {_MAX_INT_BITS} bits, got {bits}")


def _pack(value: Any) -> bytes:
    packed: bytes = msgpack.packb(value, use_bin_type=True, strict_types=True)
    return packed
