"""The wire encoding: canonical, plain, and safe to decode."""

import contextlib
import pickle
import tracemalloc
from dataclasses import dataclass

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from protocols.crypto.records import Bounds
from protocols.language.errors import EncodingError
from protocols.language.message import decode, describe, digest, encode, wire

DTYPES = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"]
arrays = st.sampled_from(DTYPES).flatmap(
    lambda d: hnp.arrays(np.dtype(d), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0))
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**200), 2**200)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
)
values = st.recursive(
    scalars | arrays,
    lambda v: st.lists(v, max_size=4) | st.dictionaries(st.text(), v, max_size=4),
    max_leaves=8,
)


def same(a, b):
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return type(a) is type(b) and a == b


@settings(max_examples=150, deadline=None)
@given(values)
def test_what_is_decoded_is_what_was_encoded_and_encodes_alike(value):
    frame = encode(value)
    assert same(value, decode(frame)) and encode(decode(frame)).tobytes() == frame.tobytes()


def test_the_order_of_keys_and_the_layout_of_arrays_do_not_matter():
    assert encode({"a": 1, "b": 2}).tobytes() == encode({"b": 2, "a": 1}).tobytes()
    square = np.arange(12, dtype=np.int32).reshape(3, 4)
    for other in (np.asfortranarray(square), square.astype(">i4"), np.repeat(square, 2, axis=1)[:, ::2]):
        assert digest(encode(other)) == digest(encode(square))


def test_arrays_arrive_read_only_aligned_and_as_views_of_the_frame():
    frame = encode({"a": np.arange(5), "b": np.ones((3, 3))})
    for array in decode(frame).values():
        assert not array.flags.writeable and array.ctypes.data % 8 == 0 and np.shares_memory(array, frame)
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_records_cross_and_wrong_fields_do_not():
    assert decode(encode(Bounds(3, 4, 5))) == Bounds(3, 4, 5)
    for fields in ({"length": 3}, {"length": 1, "x": 1, "y": 1, "extra": 1}):
        with pytest.raises(EncodingError, match="fields"):
            decode(framed(msgpack.ExtType(3, msgpack.packb(["Bounds", fields]))))
    with pytest.raises(EncodingError, match="unknown record"):
        decode(framed(msgpack.ExtType(3, msgpack.packb(["os.system", {}]))))


def framed(tree):
    packed = msgpack.packb(tree)
    return len(packed).to_bytes(8, "little") + packed


@pytest.mark.parametrize(
    "value",
    [object(), {1, 2}, np.array([object()]), np.array(["text"]), {1: 2}, 1j, Bounds, lambda: 0],
    ids=str,
)
def test_what_is_not_plain_cannot_cross(value):
    with pytest.raises(EncodingError):
        encode(value)


def test_nesting_is_bounded():
    deep = []
    for _ in range(40):
        deep = [deep]
    with pytest.raises(EncodingError, match="deep"):
        encode(deep)


def test_only_frozen_dataclasses_with_a_name_of_their_own_are_registered():
    @dataclass
    class Loose:
        x: int

    with pytest.raises(TypeError, match="frozen"):
        wire(Loose)
    with pytest.raises(TypeError, match="two wire classes"):
        wire(dataclass(frozen=True)(type("Bounds", (), {"__annotations__": {"x": int}})))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_frames_are_refused_and_nothing_else_happens(data):
    frame = bytearray(encode({"a": np.arange(50), "b": [1, 2**80, "text"], "c": Bounds(1, 2, 3)}).tobytes())
    if data.draw(st.booleans()):
        damaged = bytes(frame[: data.draw(st.integers(0, len(frame) - 8))])
    else:
        frame[data.draw(st.integers(0, 200))] ^= data.draw(st.integers(1, 255))
        damaged = bytes(frame)
    with contextlib.suppress(EncodingError):  # any other error fails the test
        decode(damaged)


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 20, 60, 400])
def test_a_truncated_frame_is_refused(cut):
    with pytest.raises(EncodingError):
        decode(encode({"a": np.arange(100)}).tobytes()[:cut])


@pytest.mark.parametrize(
    "array",
    [
        ["<i8", [2**40], 0, 2**43],
        ["<i8", [-1], 0, 8],
        ["|O", [1], 0, 8],
        ["<i8", [1], -64, 8],
        ["<i8", [3], 0, 8],
    ],
)
def test_an_array_that_announces_what_is_not_there_is_refused(array):
    with pytest.raises(EncodingError):
        decode(framed(msgpack.ExtType(1, msgpack.packb(array))) + bytes(64))


@pytest.mark.parametrize("depth", [2000, 100_000])
def test_deeply_nested_lists_from_a_peer_are_refused(depth):
    tree = b"\x91" * depth + b"\x01"
    with pytest.raises(EncodingError):
        decode(len(tree).to_bytes(8, "little") + tree)


def test_a_small_frame_costs_little_memory_whatever_it_announces():
    shapes = ([2**40], [2**20, 2**20, 2**20], [2**62, 4], [1] * 100)
    tracemalloc.start()
    for shape in shapes:
        with pytest.raises(EncodingError):
            decode(framed(msgpack.ExtType(1, msgpack.packb(["<i8", shape, 0, 2**40]))) + bytes(64))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_buffers_begin_at_multiples_of_64_bytes_of_the_frame():
    frame = encode({"a": np.arange(5, dtype=np.int8), "b": np.ones(3), "c": np.zeros((2, 7), np.int16)})
    start = frame.ctypes.data
    assert all((array.ctypes.data - start) % 64 == 0 for array in decode(frame).values())


def test_a_pickle_is_refused():
    with pytest.raises(EncodingError):
        decode(pickle.dumps({"a": 1}))


def test_values_are_listed_with_dtype_and_shape():
    assert describe(np.zeros((2, 3), np.int16)) == ("int16", (2, 3))
    assert (
        describe([1, 2]) == ("list", (2,))
        and describe(7) == ("int", ())
        and describe(Bounds(1, 2, 3)) == ("Bounds", ())
    )
