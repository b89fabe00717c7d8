"""Messages and their canonical wire encoding.

One value has one encoding, so that a digest of the bytes is a digest of the value. The encoding is plain data:
a msgpack tree followed by the raw buffers of its arrays, each aligned to 64 bytes. Decoding runs no code of the
sender's: it yields None, bool, int of any size, float, str, bytes, list, dict with str keys, numpy arrays of numbers
and the frozen dataclasses registered with `wire`, and raises `EncodingError` for everything else.

    frame   = length of the tree (u64, little endian) | tree | padding | buffer 0 | padding | buffer 1 ...
    array   = ext 1: [dtype, shape, offset of the buffer, its length]      (offsets count from the end of the tree)
    big int = ext 2: sign byte, magnitude big-endian                       (outside the 64-bit range)
    record  = ext 3: [class name, {field: value}]
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import Any, TypeVar

import msgpack
import numpy as np
from numpy.typing import NDArray

from protocols.language.errors import EncodingError

_ARRAY, _BIGINT, _RECORD = 1, 2, 3
_ALIGN = 64
_PREFIX = 8
_KINDS = "biuf"  # numpy kinds that may cross: booleans, integers, floats; never objects
_MAX_DEPTH = 16

T = TypeVar("T", bound=type)
_RECORDS: dict[str, Any] = {}


def wire(cls: T) -> T:
    """Register a frozen dataclass as a value that may cross between parties.

    A dataclass that has an attribute `shape` is listed with it in the transcript. Its `__post_init__` should refuse
    fields of the wrong type or shape, because a peer chose them.
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


def encode(value: Any) -> NDArray[np.uint8]:
    """Return the canonical bytes of `value` as one read-only uint8 array (one copy of every array in it)."""
    buffers: list[NDArray[Any]] = []
    tree = _pack(_lower(value, buffers, 0))
    offsets, end = _layout(buffers)
    start = _aligned(_PREFIX + len(tree))
    frame = np.zeros(start + end if buffers else _PREFIX + len(tree), dtype=np.uint8)
    frame[:_PREFIX] = np.frombuffer(len(tree).to_bytes(_PREFIX, "little"), np.uint8)
    frame[_PREFIX : _PREFIX + len(tree)] = np.frombuffer(tree, np.uint8)
    for offset, array in zip(offsets, buffers, strict=True):
        here = frame[start + offset : start + offset + array.nbytes]
        here.view(array.dtype).reshape(array.shape)[...] = array
    frame.flags.writeable = False
    return frame


def decode(frame: NDArray[np.uint8] | bytes) -> Any:
    """Return the value whose canonical bytes are `frame`; its arrays are read-only views of the frame.

    Raises `EncodingError` if the bytes are not the encoding of a value.
    """
    buffer = _bytes_of(frame).cast("B").toreadonly()
    if len(buffer) < _PREFIX:
        raise EncodingError(f"a message needs at least {_PREFIX} bytes, got {len(buffer)}")
    length = int.from_bytes(buffer[:_PREFIX], "little")
    if length > len(buffer) - _PREFIX:
        raise EncodingError(f"a message announces a tree of {length} bytes, got {len(buffer) - _PREFIX}")
    body = buffer[_aligned(_PREFIX + length) :]
    try:
        return _unpack(bytes(buffer[_PREFIX : _PREFIX + length]), body, 0)
    except EncodingError:
        raise
    except Exception as cause:
        raise EncodingError(f"bytes are not a message: {type(cause).__name__}") from None


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


def _layout(buffers: list[NDArray[Any]]) -> tuple[list[int], int]:
    offsets, end = [], 0
    for array in buffers:
        offsets.append(end)
        end = _aligned(end + array.nbytes)
    return offsets, end


def _pack(value: Any) -> bytes:
    packed: bytes = msgpack.packb(value, use_bin_type=True, strict_types=True)
    return packed


def _lower(value: Any, buffers: list[NDArray[Any]], depth: int) -> Any:
    """Replace arrays, records and big integers by msgpack ext values; collect the arrays in `buffers`."""
    if depth > _MAX_DEPTH:
        raise EncodingError(f"a message may be nested {_MAX_DEPTH} deep")
    if value is None or isinstance(value, bool | str | bytes):
        return value
    if isinstance(value, int | np.integer):
        return _lower_int(int(value))
    if isinstance(value, float | np.floating):
        return float(value)
    if isinstance(value, np.ndarray):
        return _lower_array(value, buffers)
    if isinstance(value, list | tuple):
        return [_lower(item, buffers, depth + 1) for item in value]
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise EncodingError("the keys of a mapping that crosses must be str")
        return {key: _lower(value[key], buffers, depth + 1) for key in sorted(value)}
    name = type(value).__name__
    if _RECORDS.get(name) is type(value):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return msgpack.ExtType(_RECORD, _pack([name, _lower(fields, buffers, depth + 1)]))
    raise EncodingError(
        f"a value of type {name} cannot cross; expected plain data or a class registered with wire"
    )


def _lower_int(value: int) -> Any:
    if -(2**63) <= value < 2**64:
        return value
    magnitude = abs(value)
    sign = b"\x01" if value < 0 else b"\x00"
    return msgpack.ExtType(_BIGINT, sign + magnitude.to_bytes((magnitude.bit_length() + 7) // 8, "big"))


def _lower_array(array: NDArray[Any], buffers: list[NDArray[Any]]) -> Any:
    if array.dtype.kind not in _KINDS:
        raise EncodingError(
            f"an array of dtype {array.dtype} cannot cross; expected booleans, integers or floats"
        )
    offset = _aligned(_layout(buffers)[1])
    buffers.append(array.astype(array.dtype.newbyteorder("<"), copy=False))
    return msgpack.ExtType(
        _ARRAY, _pack([array.dtype.str.replace(">", "<"), list(array.shape), offset, array.nbytes])
    )


def _unpack(tree: bytes, body: memoryview, depth: int) -> Any:
    if depth > _MAX_DEPTH:  # each record in a record takes tens of kilobytes of the C stack
        raise EncodingError(f"a message may be nested {_MAX_DEPTH} deep")

    def ext(code: int, data: bytes) -> Any:
        if code == _ARRAY:
            return _raise_array(data, body)
        if code == _BIGINT:
            magnitude = int.from_bytes(data[1:], "big")
            return -magnitude if data[0] else magnitude
        if code == _RECORD:
            return _raise_record(*_unpack(data, body, depth + 1))
        raise EncodingError(f"unknown extension {code} in a message")

    return msgpack.unpackb(tree, ext_hook=ext, raw=False, strict_map_key=True)


def _raise_array(data: bytes, body: memoryview) -> NDArray[Any]:
    name, shape, offset, nbytes = msgpack.unpackb(data)
    dtype = np.dtype(name)
    if dtype.kind not in _KINDS or any(s < 0 for s in shape) or offset < 0:
        raise EncodingError("an array in a message has an unknown dtype or a negative size")
    count = int(np.prod(shape, dtype=object)) if shape else 1
    if count * dtype.itemsize != nbytes or offset + nbytes > len(body):
        raise EncodingError("an array in a message is longer than the message")
    return np.frombuffer(body[offset : offset + nbytes], dtype=dtype).reshape(shape)


def _raise_record(name: str, fields: dict[str, Any]) -> Any:
    cls = _RECORDS.get(name)
    if cls is None:
        raise EncodingError(f"unknown record {name!r} in a message")
    if set(fields) != {f.name for f in dataclasses.fields(cls)}:
        raise EncodingError(f"a record {name} came with the wrong fields")
    return cls(**fields)
