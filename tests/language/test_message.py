"""The wire encoding: canonical, plain, and safe to decode."""

import functools
import pickle
import time
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
    ids="object set objects texts keys complex class function".split(),
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


def ext(code, *content):
    return msgpack.ExtType(code, msgpack.packb(list(content)))


@pytest.mark.parametrize(
    "array",
    [["<i8", [2**40], 0, 2**43], ["<i8", [-1], 0, 8], ["|O", [1], 0, 8], ["<i8", [1], -64, 8],
     ["<i8", [3], 0, 8], ["<i8", [2**20, 2**20, 2**20], 0, 2**40],
     ["<i8", [2**62, 4], 0, 2**40], ["<i8", [1] * 100, 0, 8],
     ["<i8", [2**63] * 100_000, 0, 8], ["<i8", [0, 2**40], 0, 0], [["<i8"], [1], 0, 8], ["<f16", [1], 0, 16]],
    ids=lambda array: str(array)[:40],
)  # fmt: skip
def test_an_array_that_announces_what_is_not_there_is_refused_at_once(array):
    started = time.process_time()
    tracemalloc.start()
    with pytest.raises(EncodingError):
        decode(framed(ext(1, *array)) + bytes(64))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 24 and time.process_time() - started < 1


HOSTILE = {
    "a long integer": msgpack.packb(msgpack.ExtType(2, b"\0" + b"\xff" * 5000)),
    "lists in lists": b"\x91" * 1_000_000 + b"\x01",
    "some lists in lists": b"\x91" * 20 + b"\x01",
    "many values": b"\xdd" + (1 << 20).to_bytes(4, "big") + b"\x80" * (1 << 20),
    "many records": msgpack.packb([ext(3, "Bounds", {"length": 1, "x": 1, "y": 1})] * 40_000),
    "a long text": msgpack.packb("x" * (1 << 21)),
    "a record within itself": functools.reduce(
        lambda tree, _: msgpack.packb(msgpack.ExtType(3, tree)), range(60), b"\xc0"),
    "an unknown extension": msgpack.packb(ext(9)),
    "a time": msgpack.packb(msgpack.Timestamp(1)),
}  # fmt: skip


@pytest.mark.parametrize("tree", HOSTILE.values(), ids=HOSTILE)
def test_what_is_too_long_too_deep_or_too_much_is_refused_in_bounded_time(tree):
    started = time.process_time()
    with pytest.raises(EncodingError) as refusal:
        decode(len(tree).to_bytes(8, "little") + tree)
    assert time.process_time() - started < 5 and len(str(refusal.value)) < 150


@pytest.mark.parametrize(
    "value", [1 << 40_000, "x" * (1 << 21), [0] * (1 << 18), np.zeros((0, 1 << 40))], ids=type
)
def test_the_limits_hold_for_the_sender_too(value):
    with pytest.raises(EncodingError):
        encode(value)


TWICE = {
    "keys out of order": framed({"b": 1, "a": 2}),
    "a key that comes twice": b"\x07" + bytes(7) + b"\x82\xa1a\x01\xa1a\x02",
    "a small integer as a big one": framed(msgpack.ExtType(2, b"\0\x05")),
    "a big one with zeros before it": framed(msgpack.ExtType(2, b"\0\0" + b"\xff" * 9)),
    "a float of 32 bits": b"\x05" + bytes(7) + b"\xca" + bytes(4),
    "a wide integer": b"\x03" + bytes(7) + b"\xcd\x00\x01",
    "something behind it": framed(1) + b"\0",
    "the other byte order": framed(ext(1, ">i2", [1], 0, 2)).ljust(64, b"\0") + bytes(64),
    "a truth value of 2": framed(ext(1, "|b1", [1], 0, 1)).ljust(64, b"\0") + b"\2" + bytes(63),
    "an array elsewhere": framed(ext(1, "|u1", [1], 64, 1)).ljust(64, b"\0") + bytes(128),
    "arrays that share their bytes": framed([ext(1, "|u1", [1], 0, 1)] * 2).ljust(64, b"\0") + bytes(64),
    "padding that is not zero": framed(ext(1, "|u1", [1], 0, 1)).ljust(64, b"\1") + bytes(64),
    "padding at the end that is not zero": framed(ext(1, "|u1", [1], 0, 1)).ljust(64, b"\0")
    + bytes(63)
    + b"\1",
    "no padding at the end": framed(ext(1, "|u1", [1], 0, 1)).ljust(64, b"\0") + bytes(1),
}


@pytest.mark.parametrize("frame", TWICE.values(), ids=TWICE)
def test_a_second_way_to_write_a_value_is_refused(frame):
    with pytest.raises(EncodingError):
        decode(frame)


def test_one_canonical_array_written_by_hand_is_accepted():
    assert decode(framed(ext(1, "|u1", [1], 0, 1)).ljust(64, b"\0") + b"\7" + bytes(63)) == [7]


def test_encoding_is_linear_in_the_number_of_arrays():
    started = time.process_time()
    decode(encode([np.arange(3)] * 30_000))
    assert time.process_time() - started < 15  # when each array looked at those before it: 90 s for one way


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
