"""Every record of every scheme against malformed fields: refused in a line when it is made, or when taken."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import replace

import numpy as np
import pytest

from protocols.crypto import febo, fhipe, ipfe_ddh, ipfe_lwe, paillier, qfe
from protocols.crypto.groups.named import get_group, get_pairing
from protocols.crypto.integers.packing import HeadBounds
from protocols.crypto.records import Bounds, Record, array, named, number, record
from protocols.language import message
from protocols.language.errors import BoundError, ConfigError, EncodingError, MalformedError, SchemeError
from tests.crypto.cases import ALL, INNER, case, fresh

NAMED = [(scheme, name) for scheme in ALL for name in case(scheme).records]
TAKEN = [(scheme, name) for scheme in ALL for name in case(scheme).take]
BOUNDS, HEAD = Bounds(64, 16, 1024), HeadBounds(3, 11, 100, 15, 1000)
BATCHES = ("ct", "head", "floats", "sk")  # a shorter first axis is a smaller batch, not a malformed one


def wrong_values(value):
    """Values of another type, size or shape for a field that holds this one."""
    if isinstance(value, np.ndarray):
        other = np.int16 if value.dtype != np.int16 else np.int32
        yield from (None, value.tobytes(), value.astype(object), value[None], value.astype(np.float32))
        yield from () if value.dtype.kind == "i" and value.dtype != np.int8 else (value.astype(other),)
        if value.dtype.itemsize > 1:
            yield value.astype(value.dtype.newbyteorder(">"))
    elif isinstance(value, bool):
        yield from (None, 1, 0)
    elif isinstance(value, int):
        yield from (None, True, 1.0, -value, 0, np.int64(1), 1 << 20_000)
    elif isinstance(value, str):
        yield from (None, "", value + "x", value.encode(), [value])
    elif isinstance(value, bytes):
        yield from (None, b"", value[1:], value + b"x", np.frombuffer(value, np.uint8))
    else:
        yield from (None, dataclasses.asdict(value), type(value))


@pytest.mark.parametrize(("scheme", "name"), NAMED)
def test_a_field_of_the_wrong_type_size_or_shape_is_refused(scheme, name):
    value = case(scheme).records[name]
    for field in dataclasses.fields(value):
        for wrong in wrong_values(getattr(value, field.name)):
            with pytest.raises((MalformedError, ConfigError)) as caught:
                replace(value, **{field.name: wrong})
            assert "\n" not in str(caught.value) and len(str(caught.value)) < 250


@pytest.mark.parametrize(("scheme", "name"), NAMED)
def test_an_array_that_is_cut_along_any_axis_is_refused(scheme, name):
    value = case(scheme).records[name]
    arrays = [f.name for f in dataclasses.fields(value) if isinstance(getattr(value, f.name), np.ndarray)]
    for field in arrays:
        whole = getattr(value, field)
        for axis in range(name in BATCHES and len(arrays) == 1, whole.ndim):
            for cut in (
                np.delete(whole, 0, axis),
                np.repeat(whole, 2, axis),
                np.delete(whole, slice(None), axis),
            ):
                with pytest.raises(MalformedError):
                    case(scheme).take.get(name, lambda v: v)(replace(value, **{field: cut}))


@pytest.mark.parametrize(("scheme", "name"), [(s, n) for s, n in TAKEN if s != "lwe"])
def test_bytes_that_are_no_element_are_refused_wherever_they_hide(scheme, name):
    value = case(scheme).records[name]
    for field in dataclasses.fields(value):
        whole = getattr(value, field.name)
        if (
            isinstance(whole, np.ndarray)
            and whole.dtype == np.uint8
            and field.name not in ("sk", "commitments")
        ):
            for place in ((0,), (-1,)):
                bad = whole.copy()
                bad.reshape(-1, whole.shape[-1])[place] = 255
                with pytest.raises(MalformedError, match=r"element \d+ of"):
                    case(scheme).take[name](replace(value, **{field.name: bad}))


@pytest.mark.parametrize(("scheme", "name"), TAKEN)
def test_another_kind_of_record_is_refused(scheme, name):
    records = case(scheme).records
    for other in (None, b"", *(v for k, v in records.items() if k != name), case("febo").records["params"]):
        if type(other) is not type(records[name]):
            with pytest.raises(MalformedError, match="expected"):
                case(scheme).take[name](other)


@pytest.mark.parametrize(("scheme", "name"), [(s, n) for s, n in TAKEN if n != "mpk"])
def test_a_record_of_another_instance_gives_an_error_and_no_number(scheme, name):
    other = case(scheme, seed=2).records[name]
    if scheme in ("fhipe", "paillier", "qfe"):
        with pytest.raises(MalformedError, match="another instance: its tag differs"):
            case(scheme).take[name](other)
    elif name == "sk":
        with pytest.raises(BoundError, match="another instance|do not belong together"):
            case(scheme).take[name](other)


@pytest.mark.parametrize("scheme", ALL)
def test_a_public_key_is_compared_with_the_expected_parameters(scheme):
    it = case(scheme)
    mpk = it.records["mpk"]
    assert it.module.check(mpk, it.records["params"]) is mpk
    with pytest.raises(MalformedError, match="other parameters"):
        it.module.check(mpk, it.other)


@pytest.mark.parametrize("scheme", ALL)
def test_every_record_survives_the_wire_and_is_listed_with_its_shape(scheme):
    it = case(scheme)
    again = {name: message.decode(message.encode(value)) for name, value in it.records.items()}
    for name, value in it.records.items():
        assert bytes(message.encode(again[name])) == bytes(message.encode(value))
        assert message.describe(value) == (type(value).__name__, it.shapes.get(name, ()))
    found = it.rebuilt(again)
    assert found.dtype == np.int64 and np.array_equal(found, it.expected)


@pytest.mark.parametrize("scheme", ALL)
def test_same_coins_give_the_same_bytes_and_others_do_not(scheme):
    first, again, other = (fresh(scheme, seed).records for seed in (1, 1, 2))
    for name in first:
        frames = [bytes(message.encode(records[name])) for records in (first, again, other)]
        assert frames[0] == frames[1] and (frames[0] == frames[2]) == (name in ("params", "bounds"))


DESCRIPTIONS = [
    (ipfe_ddh, (BOUNDS, "bn254"), "ddh in bn254, about 100 bit, selective IND-CPA under XDH (DDH in G1 of a"),
    (ipfe_lwe, (BOUNDS,), "lwe, 128 bit: d 2048, q 2^64, log2(q/sigma) 52.3, compact key (heuristic)"),
    (ipfe_lwe, (BOUNDS,), "|<x, y>| <= 1048576, Delta 2^42.0, error < 2^-57 a product"),
    (ipfe_lwe, (BOUNDS, 64), "lwe, toy"),
    (fhipe, (BOUNDS,), "fhipe in bn254, about 100 bit, simulation secure and function hiding in the generic"),
    (fhipe, (BOUNDS, "bls12_381"), "about 120 bit"),
    (qfe, (qfe.QfeBounds(1, 1, 1, 1, 1),), "qfe in bn254, about 100 bit, IND-CPA in the generic bilinear"),
    (febo, (1, 1), "febo in secp256k1, about 128 bit, IND-CPA under DDH"),
    (paillier, (HEAD,), "3072-bit keys, about 128 bit: IND-CPA under DCR"),
    (paillier, (HEAD, 2048), "2048-bit keys, about 112 bit"),
    (
        paillier,
        (HEAD, 512, True),
        "toy: IND-CPA under DCR, blinding with short exponents; 3 classes in 1 ciphertext",
    ),
]


@pytest.mark.parametrize(("scheme", "asked", "said"), DESCRIPTIONS)
def test_descriptions_name_level_notion_assumption_and_what_is_carried(scheme, asked, said):
    assert said in scheme.describe(scheme.parameters(*asked))


@pytest.mark.parametrize("scheme", ALL)
def test_secrets_do_not_show(scheme):
    msk = case(scheme).records["msk"]
    assert {f.name for f in dataclasses.fields(msk) if f.repr} <= {"params", "tag", "pk"}
    assert repr(msk).startswith(type(msk).__name__) and "array" not in repr(msk)


@pytest.mark.parametrize("scheme", ("ddh", "fhipe", "paillier", "qfe"))
def test_what_was_loaded_cannot_cross_and_does_not_pass_for_what_arrives(scheme):
    it, name = case(scheme), "head" if scheme == "paillier" else "ct"
    loaded = it.take[name](it.records[name])
    with pytest.raises(EncodingError, match="cannot cross"):
        message.encode(loaded)
    with pytest.raises(MalformedError, match="got (Paillier)?Loaded"):
        it.take[name](loaded)


@pytest.mark.parametrize("scheme", ALL)
def test_integers_of_megabytes_are_refused_at_once(scheme):
    huge, start = 1 << 30_000_000, time.process_time()
    for value in case(scheme).records.values():
        for field in dataclasses.fields(value):
            if type(getattr(value, field.name)) is int:
                with pytest.raises(SchemeError):
                    replace(value, **{field.name: huge})
    assert time.process_time() - start < 1


@pytest.mark.parametrize("scheme", (*INNER, "febo", "qfe"))
def test_rows_and_concat_take_batches_apart_and_together(scheme):
    ct, other = (case(scheme, seed).records["ct"] for seed in (1, 2))
    module = case(scheme).module
    parts = [module.rows(ct, 0, 1), module.rows(ct, 1, ct.shape[0])]
    assert parts[0].shape == (1, *ct.shape[1:])
    assert bytes(message.encode(module.concat(parts))) == bytes(message.encode(ct))
    strange = case("febo" if scheme == "ddh" else "ddh").records["ct"]
    for wrong in (strange, other) if scheme in ("fhipe", "qfe") else (strange,):
        with pytest.raises(MalformedError, match="cannot be put together"):
            module.concat([ct, wrong])


def test_a_record_declares_what_it_holds_and_shapes_follow_from_fields_before():
    @record
    class Sample(Record):
        SHAPE = ("N", "n")
        count: int = number("n", bits=4)
        group: str = named(("a", "b"), lambda name: {"size": len(name)})
        rows: np.ndarray = array("uint8", "N", "n+1", "size")
        more: np.ndarray = array("int", "N")

    good = Sample(2, "a", np.zeros((5, 3, 1), np.uint8), np.zeros(5, np.int32))
    assert good.shape == (5, 2)
    with pytest.raises(
        MalformedError, match=r"rows of Sample: expected uint8 \(N, 4, 1\), got uint8 \(5, 3, "
    ):
        replace(good, count=3)
    with pytest.raises(
        MalformedError, match="count of Sample: expected a positive integer of at most 4 bits"
    ):
        replace(good, count=16)
    with pytest.raises(MalformedError, match="group of Sample: expected one of a, b"):
        replace(good, group="c")
    with pytest.raises(MalformedError, match=r"more of Sample: expected int \(5\), got int32 \(4,\)"):
        replace(good, more=np.zeros(4, np.int32))


def test_malformed_records_on_the_wire_are_an_encoding_error():
    cases = [
        ("ddh", "mpk", b"secp256k1", b"secp256r1"),
        ("fhipe", "ct", b"bn254", b"bn256"),
        ("paillier", "mpk", b"\xa3toy\xc3", b"\xa3toy\xc2"),
    ]
    for scheme, name, before, after in cases:
        value = case(scheme).records[name]
        frame = message.encode(value).copy()
        place = frame.tobytes().index(before)
        frame[place : place + len(after)] = np.frombuffer(after, np.uint8)
        with pytest.raises(EncodingError, match="MalformedError|ConfigError"):
            message.decode(frame)


def test_names_of_groups_are_refused_with_those_there_are():
    with pytest.raises(ConfigError, match="secp256k1, bn254, bls12_381, modp2048"):
        get_group("p256")
    with pytest.raises(ConfigError, match="bn254, bls12_381"):
        get_pairing("secp256k1")
    for scheme in (ipfe_ddh, fhipe):
        with pytest.raises(MalformedError, match="expected one of"):
            scheme.parameters(Bounds(1, 1, 1), "p256")
