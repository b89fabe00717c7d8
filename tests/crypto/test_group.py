"""Groups against independent arithmetic: affine addition in plain Python, `pow`, and each other."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from protocols.crypto.groups import mcl, workers
from protocols.crypto.groups.elements import concatenate, from_bytes, small_powers, to_bytes
from protocols.crypto.groups.modp import MODULUS
from protocols.crypto.groups.named import GROUPS, get_group
from protocols.language.errors import MalformedError

CURVES = {"secp256k1": mcl.SECP256K1, "bn254": mcl.BN254}
BLS_FIELD = 0x1A0111EA397FE69A4B1BA7B6434BACD764774B84F38512BF6730D2A0F6B0F6241EABFFFEB153FFFFB9FEFFFFFFFFAAAB


def affine_add(a, b, p):
    if a is None or b is None:
        return b if a is None else a
    if a[0] == b[0] and (a[1] + b[1]) % p == 0:
        return None
    slope = 3 * a[0] ** 2 * pow(2 * a[1], -1, p) if a == b else (b[1] - a[1]) * pow(b[0] - a[0], -1, p)
    x = (slope**2 - a[0] - b[0]) % p
    return x, (slope * (a[0] - x) - a[1]) % p


def affine_mul(k, point, p):
    total = None
    while k:
        total = affine_add(total, point, p) if k & 1 else total
        point, k = affine_add(point, point, p), k >> 1
    return total


def coordinates(wire):
    return int.from_bytes(wire[:32].tobytes(), "little"), int.from_bytes(wire[32:].tobytes(), "little")


def point_wire(x, y, size=32, order="little"):
    return np.frombuffer(x.to_bytes(size, order) + y.to_bytes(size, order), np.uint8)


def sample(group, *shape, seed=0):
    rng = np.random.default_rng(seed)
    scalars = [int.from_bytes(rng.bytes(40), "big") % group.order for _ in range(int(np.prod(shape)))]
    return scalars, group.g ** np.array(scalars, object).reshape(shape)


def same(a, b):
    """Equal elements are equal arrays."""
    return a.shape == b.shape and np.array_equal(a.raw, b.raw)


@pytest.mark.parametrize("name", CURVES)
def test_curve_exponentiation_equals_affine_arithmetic_in_plain_python(name):
    group, curve = get_group(name), CURVES[name]
    scalars = [1, 2, 3, 1000, group.order - 1, group.order - 2, *sample(group, 4)[0]]
    wire = (group.g**scalars).encode()
    assert [coordinates(w) for w in wire] == [affine_mul(s, curve.generator, curve.field) for s in scalars]


@pytest.mark.parametrize("name", CURVES)
def test_curve_constants_describe_a_generator_of_the_stated_order(name):
    curve = CURVES[name]
    x, y = curve.generator
    assert (y * y - x**3 - curve.b) % curve.field == 0
    assert affine_mul(curve.order, curve.generator, curve.field) is None


def test_modp_exponentiation_equals_pow():
    group = get_group("modp2048")
    scalars, points = sample(group, 5)
    assert from_bytes(points.encode()) == [pow(2, s, MODULUS) for s in scalars]
    assert pow(2, group.order, MODULUS) == 1


@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize("n", [1, 5, 64, 130])
def test_multi_exp_equals_the_exponent_computed_in_integers(name, n):
    group = get_group(name)
    scalars, points = sample(group, 2, n)
    keys = np.random.default_rng(n).integers(-1024, 1025, (3, n)).astype(np.int16)
    keys[0], keys[1, 0], keys[2, -1] = 0, -1024, 1024
    sums = np.array(scalars, object).reshape(2, n) @ keys.T.astype(object)
    assert same(points @ keys.T, group.g**sums)


def test_multi_exp_does_not_depend_on_the_number_of_threads(monkeypatch):
    group = get_group("secp256k1")
    points, keys = sample(group, 4, 60)[1], np.random.default_rng(1).integers(-9, 10, (13, 60))
    results = []
    for cores in (1, 2, 7):
        monkeypatch.setattr(workers, "cpu_count", lambda cores=cores: cores)
        results.append(points @ keys.T)
    assert same(results[0], results[1]) and same(results[0], results[2])


@pytest.mark.parametrize("name", GROUPS)
def test_exp_reduces_scalars_and_reaches_the_neutral_element(name):
    group = get_group(name)
    q, g, one = group.order, group.g, group.one
    powers = g ** [0, q, -1, q - 1, q + 1, -q - 1]
    for power, expected in zip(powers, (one, one, g.inverse(), g.inverse(), g, g.inverse()), strict=True):
        assert same(power, expected)


@pytest.mark.parametrize("name", GROUPS)
def test_powers_are_broadcast_as_numpy_does(name):
    group = get_group(name)
    scalars, points = sample(group, 3)
    exponents = np.array([[2], [-5]], object)
    assert same(points**exponents, group.g ** (np.array(scalars, object) * exponents))
    assert same(points[0] ** exponents, points[:1] ** exponents) and same(points**2, points * points)
    assert (points ** np.zeros((0, 3), int)).shape == (0, 3) and (points[:0] ** 5).shape == (0,)


@pytest.mark.parametrize("name", GROUPS)
def test_multiplication_division_and_inversion_agree_with_exponents(name):
    group = get_group(name)
    (a, b), points = sample(group, 2)
    left, right = points
    actual = (left * right, left / right, left.inverse(), left * left)
    for one, expected in zip(actual, group.g ** [a + b, a - b, -a, 2 * a], strict=True):
        assert same(one, expected)


@pytest.mark.parametrize("name", GROUPS)
def test_neutral_element_can_be_combined_encoded_and_decoded(name):
    group = get_group(name)
    one, g = group.one, group.g
    assert same(group.decode(one.encode()), one) and same(one.inverse(), one)
    assert same(one * g, g) and same(g / g, one)
    product = concatenate([one[None], g[None]])[None] @ np.array([[7], [-3]])
    assert same(product, (g**-3)[None, None])


@pytest.mark.parametrize("name", GROUPS)
def test_decoding_inverts_encoding_for_any_shape(name):
    group = get_group(name)
    points = sample(group, 2, 3)[1]
    wire = points.encode()
    assert wire.shape == (2, 3, group.nbytes) and same(group.decode(wire), points)
    assert same(group.decode(wire[1, 2]), points[1, 2]) and group.decode(wire[:0]).shape == (0, 3)


@pytest.mark.parametrize("name", GROUPS)
def test_wrong_length_or_type_is_refused(name):
    group = get_group(name)
    wire = sample(group, 2)[1].encode()
    for bad in (wire[:, :-1], np.concatenate([wire, wire[:, :1]], axis=1), wire.astype(np.int16)):
        with pytest.raises(MalformedError, match=f"element of {name} is {group.nbytes} bytes"):
            group.decode(bad)


def no_elements(name):
    """Bytes that encode no element of a group, with the reason that is given."""
    if name == "modp2048":
        yield from ((to_bytes([v], 256)[0], "not in the subgroup") for v in (MODULUS - 1, MODULUS - 2))
        yield from ((to_bytes([v], 256)[0], r"not in \[1, p\)") for v in (0, MODULUS, MODULUS + 1))
    elif name == "bls12_381":
        x = next(x for x in range(1, 99) if pow(x**3 + 4, (BLS_FIELD - 1) // 2, BLS_FIELD) == 1)
        y = pow(
            x**3 + 4, (BLS_FIELD + 1) // 4, BLS_FIELD
        )  # on the curve, of an order that divides the cofactor
        for other, reason in (
            (y + 1, "not on the G1 curve"),
            (y, "G1 subgroup"),
            (y + BLS_FIELD, "field prime"),
        ):
            yield point_wire(x, other, 48, "big"), reason
    else:
        field, (x, y) = CURVES[name].field, CURVES[name].generator
        yield from ((point_wire(*bad), f"not a point on {name}") for bad in ((x, y ^ 1), (0, 1), (1, 0)))
        for bad in ((field, y), (x, field + 1), (2**256 - 1, y), (field, field)):
            yield point_wire(*bad), "a coordinate is not below the field prime"


@pytest.mark.parametrize("name", GROUPS)
def test_what_is_no_element_is_refused_with_the_reason_wherever_it_hides(name):
    group = get_group(name)
    for bad, reason in no_elements(name):
        wire = sample(group, 3)[1].encode().copy()
        wire[1] = bad
        with pytest.raises(MalformedError, match=f"element 1 of 3: .*{reason}"):
            group.decode(wire)
        with pytest.raises(MalformedError, match=reason):
            group.decode(bad)


@pytest.mark.parametrize("name", GROUPS)
def test_keys_tell_elements_and_inverses_apart(name):
    group = get_group(name)
    elements = small_powers(group, 200)
    assert len(np.unique(elements.keys(), axis=0)) == 401


@pytest.mark.parametrize("name", GROUPS)
def test_small_powers_agree_with_exponentiation(name):
    group = get_group(name)
    values = np.array([[-300, -1, 0], [1, 2, 300]])
    assert same(group.small(values, 300), group.g**values)
    assert same(group.small(values, 1 << 40), group.g**values)  # beyond the table


def test_threads_on_different_curves_do_not_disturb_each_other():
    expected = {name: sample(get_group(name), 40)[1] for name in CURVES}

    def agrees(turn):
        name = ("secp256k1", "bn254")[turn % 2]
        return same(sample(get_group(name), 40)[1], expected[name])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(agrees, range(16)))


def test_curve_is_restored_after_a_stranger_switched_it():
    group = get_group("secp256k1")
    before = sample(group, 3)[1]
    with mcl.active(mcl.BN254) as native:
        native.init(4, 44)  # another user of the library, without `active`
    assert same(sample(group, 3)[1], before)


def test_arrays_that_are_no_points_never_reach_the_native_library():
    group = get_group("secp256k1")
    for bad in (np.zeros((2, 11), np.uint64), np.zeros((2, 12), np.uint8), np.zeros(12, np.int64)):
        with pytest.raises(MalformedError, match="expected points"):
            group.encode(bad)
