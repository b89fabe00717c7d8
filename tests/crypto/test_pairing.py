"""Pairings against arithmetic in plain Python: exponents, curve equations over F_p^2, powers by products."""

from __future__ import annotations

import numpy as np
import pytest

from protocols.crypto.groups import mcl, mcl_pairing, workers
from protocols.crypto.groups.named import PAIRINGS, get_group, get_pairing
from protocols.crypto.groups.pairing import logarithms
from protocols.language.errors import MalformedError

BLS_FIELD = 0x1A0111EA397FE69A4B1BA7B6434BACD764774B84F38512BF6730D2A0F6B0F6241EABFFFEB153FFFFB9FEFFFFFFFFAAAB
# field prime, bytes of a coordinate, their order, b of y^2 = x^3 + b on G1 and (in F_p^2, u^2 = -1) on G2
BN_TWIST = (1, mcl.BN254.field - 1)  # 2 / (1 + u) = 1 - u
CURVES = {
    "bn254": (mcl.BN254.field, 32, "little", 2, BN_TWIST),
    "bls12_381": (BLS_FIELD, 48, "big", 4, (4, 4)),
}


def times(a, b, p):
    return (a[0] * b[0] - a[1] * b[1]) % p, (a[0] * b[1] + a[1] * b[0]) % p


def root(a, p):
    """A square root in F_p^2 for p = 3 mod 4 (complex method), or None."""
    norm = (a[0] ** 2 + a[1] ** 2) % p
    for s in (pow(norm, (p + 1) // 4, p), -pow(norm, (p + 1) // 4, p)):
        half = (a[0] + s) * pow(2, -1, p) % p
        re = pow(half, (p + 1) // 4, p)
        if re:
            candidate = (re, a[1] * pow(2 * re, -1, p) % p)
            if times(candidate, candidate, p) == (a[0] % p, a[1] % p):
                return candidate
    return None


def equation(x, p, b):
    cube = times(x, times(x, x, p), p)
    return (cube[0] + b[0]) % p, (cube[1] + b[1]) % p


def coordinates(name, wire):
    _, size, order, _, _ = CURVES[name]
    data = wire.tobytes()
    return [int.from_bytes(data[at : at + size], order) for at in range(0, len(data), size)]


def wire_of(name, *values):
    _, size, order, _, _ = CURVES[name]
    return np.frombuffer(b"".join(v.to_bytes(size, order) for v in values), np.uint8)


def outside_g2(name):
    """A point on the curve of G2 with a small x; it is in G2 with probability below 2^-250."""
    p, _, _, _, b = CURVES[name]
    x, y = next(((re, 1), y) for re in range(1, 99) if (y := root(equation((re, 1), p, b), p)))
    return wire_of(name, *x, *y)


def draw(pairing, *shape, seed=0):
    rng = np.random.default_rng(seed)
    numbers = [int.from_bytes(rng.bytes(40), "big") % pairing.order for _ in range(int(np.prod(shape)))]
    return np.array(numbers, object).reshape(shape)


def g1(pairing, exponents):
    return pairing.decode_g1(pairing.exp_g1(exponents))


def g2(pairing, exponents):
    return pairing.decode_g2(pairing.exp_g2(exponents))


def power(target, base, exponent):
    """By squarings and products; of the inverse, if the exponent is negative."""
    base, result = base if exponent >= 0 else target.invert(base[None])[0], target.one()
    for bit in f"{abs(int(exponent)):b}":
        result = target.mul(result, result)
        result = target.mul(result, base) if bit == "1" else result
    return result


@pytest.mark.parametrize("name", PAIRINGS)
def test_pairing_is_bilinear_and_does_not_vanish(name):
    pairing = get_pairing(name)
    a, b = draw(pairing, 2)
    with pairing.target() as target:
        base, value = (
            target.products(g1(pairing, [[u]]), g2(pairing, [[v]]))[0, 0] for u, v in ((1, 1), (a, b))
        )
        assert not np.array_equal(base, target.one())
        assert np.array_equal(value, power(target, base, a * b % pairing.order))
        assert np.array_equal(power(target, base, pairing.order), target.one())


SHAPES = [
    ("bls12_381", 2, 3, 2),
    *(("bn254", *s) for s in ((1, 1, 1), (3, 2, 5), (7, 5, 19), (4, 16, 16), (8, 9, 33))),
]


@pytest.mark.parametrize("name, h, count, n", SHAPES)
def test_products_of_pairings_are_the_matrix_product_of_the_exponents(name, h, count, n):
    pairing = get_pairing(name)
    a, b = draw(pairing, h, n), draw(pairing, count, n, seed=1)
    with pairing.target() as target:
        products = target.products(g1(pairing, a), g2(pairing, b))
        expected = target.products(g1(pairing, (a @ b.T).reshape(-1, 1)), g2(pairing, [[1]]))
        assert np.array_equal(products, expected.reshape(products.shape))


def test_strassen_survives_neutral_and_equal_and_opposite_points():
    pairing, rng = get_pairing("bn254"), np.random.default_rng(3)
    a, b = rng.integers(-1, 2, (4, 16)), rng.integers(-1, 2, (6, 16))
    with pairing.target() as target:
        products = target.products(g1(pairing, a), g2(pairing, b))
        base = target.products(g1(pairing, [[1]]), g2(pairing, [[1]]))[0, 0]
        assert np.array_equal(products, [[power(target, base, z) for z in row] for row in a @ b.T])


@pytest.mark.parametrize("name", PAIRINGS)
def test_inverse_and_product_in_the_target_cancel_and_fingerprints_ignore_inversion(name):
    pairing = get_pairing(name)
    with pairing.target() as target:
        values = target.products(g1(pairing, draw(pairing, 3, 1)), g2(pairing, [[1]]))[:, 0]
        inverses = target.invert(values)
        assert (target.mul(values, inverses) == target.one()).all()
        assert not (values == inverses).all(axis=1).any()
        assert np.array_equal(target.keys(values), target.keys(inverses))
        assert len(set(target.keys(values).tolist())) == 3


@pytest.mark.parametrize("name, exponents, bound", [
    ("bn254", [0, 1, -1, 48, -48, 49, -97, 145, 2351, -2400, 30000, -262143, 262144, -262144], 262144),
    ("bls12_381", [0, -1, 48, -49, 150, -2400], 2400)])  # fmt: skip
def test_logarithms_are_found_up_to_the_bound_in_both_directions(name, exponents, bound):
    pairing = get_pairing(name)
    with pairing.target() as target:
        bases = target.products(g1(pairing, draw(pairing, len(exponents), 1)), g2(pairing, [[1]]))[:, 0]
        elements = np.stack([power(target, base, z) for base, z in zip(bases, exponents, strict=True)])
        values, found = logarithms(target, bases, elements, bound)
        assert found.all() and values.tolist() == exponents


def test_no_logarithm_is_skipped_between_two_strides_or_growths_of_the_table():
    pairing = get_pairing("bn254")
    with pairing.target() as target:
        base = target.products(g1(pairing, [[5]]), g2(pairing, [[1]]))[0, 0]
        elements, step = [target.one()], power(target, base, 13)
        while len(elements) < 750:
            elements.append(target.mul(elements[-1], step))
        values, found = logarithms(target, np.tile(base, (750, 1)), np.array(elements), 13 * 749)
        assert found.all() and values.tolist() == list(range(0, 13 * 750, 13))


@pytest.mark.parametrize("bound", [1, 30, 48, 60, 4000])
def test_logarithms_beyond_the_bound_are_not_found(bound):
    pairing = get_pairing("bn254")
    with pairing.target() as target:
        base = target.products(g1(pairing, [[7]]), g2(pairing, [[1]]))[0, 0]
        elements = np.stack([power(target, base, z) for z in (bound, bound + 1, -bound, -bound - 1)])
        values, found = logarithms(target, np.tile(base, (4, 1)), elements, bound)
        assert found.tolist() == [True, False, True, False] and values[[0, 2]].tolist() == [bound, -bound]


@pytest.mark.parametrize("name", PAIRINGS)
def test_powers_lie_on_the_curves(name):
    pairing, (p, _, _, b, twist) = get_pairing(name), CURVES[name]
    exponents = [1, *draw(pairing, 2)]
    for x, y in (coordinates(name, w) for w in pairing.exp_g1(exponents)):
        assert (y * y - x**3 - b) % p == 0
    for re, im, *y in (coordinates(name, w) for w in pairing.exp_g2(exponents)):
        assert times(y, y, p) == equation((re, im), p, twist)


@pytest.mark.parametrize("name", PAIRINGS)
def test_fixed_base_exponents_are_taken_modulo_the_order_and_keep_their_shape(name):
    pairing = get_pairing(name)
    q = pairing.order
    for exp, nbytes in ((pairing.exp_g1, pairing.g1_bytes), (pairing.exp_g2, pairing.g2_bytes)):
        wire = exp([5, 5 + q, 5 - q, 0, q, 2**300, 2**300 % q])
        assert wire.shape == (7, nbytes) and exp(np.zeros((2, 0, 3), int)).shape == (2, 0, 3, nbytes)
        assert (wire[1:3] == wire[0]).all() and not wire[3:5].any() and np.array_equal(wire[5], wire[6])


def test_fixed_base_exponentiation_is_the_librarys_own():
    pairing, group = get_pairing("bn254"), get_group("bn254")
    exponents = [1, 2, 1023, 1024, *draw(pairing, 5), pairing.order - 1]
    points = group.g**exponents
    assert np.array_equal(pairing.exp_g1(exponents), points.encode())
    assert np.array_equal(g1(pairing, exponents), points.raw)


@pytest.mark.parametrize("name", PAIRINGS)
def test_neutral_element_decodes_and_pairs_to_one(name):
    pairing = get_pairing(name)
    with pairing.target() as target:
        for a, b in ((0, 3), (3, 0), (0, 0)):
            product = target.products(g1(pairing, [[a]]), g2(pairing, [[b]]))[0, 0]
            assert np.array_equal(product, target.one())


@pytest.mark.parametrize("name", PAIRINGS)
def test_points_off_the_curve_and_unreduced_coordinates_are_refused(name):
    pairing, p = get_pairing(name), CURVES[name][0]
    for exp, decode in ((pairing.exp_g1, pairing.decode_g1), (pairing.exp_g2, pairing.decode_g2)):
        good = exp(draw(pairing, 3))
        first, *rest, last = coordinates(name, good[1])
        cases = [
            ((first, *rest, (last + 1) % p), "not (a point|on the)"),
            ((0, *(0 for _ in rest), 1), "not (a point|on the)"),
            ((first, *rest, last + p), "below the field prime"),
            ((p, *rest, last), "below the field prime"),
        ]
        for bad, reason in cases:
            with pytest.raises(MalformedError, match=f"element 1 of 3.*{reason}"):
                decode(np.stack([good[0], wire_of(name, *bad), good[2]]))


@pytest.mark.parametrize("name", PAIRINGS)
def test_point_of_the_twist_outside_of_the_subgroup_is_refused(name):
    pairing, (p, _, _, _, twist) = get_pairing(name), CURVES[name]
    bad = outside_g2(name)
    re, im, *y = coordinates(name, bad)
    assert times(y, y, p) == equation((re, im), p, twist)  # it is on the curve
    for where in (0, 70, 99):
        wire = np.tile(pairing.exp_g2([3]), (100, 1))
        wire[where] = bad
        with pytest.raises(MalformedError, match=f"element {where} of 100.*subgroup"):
            pairing.decode_g2(wire)


def test_point_of_g1_outside_of_the_subgroup_is_refused_where_there_is_one():
    x = next(x for x in range(1, 99) if pow(x**3 + 4, (BLS_FIELD - 1) // 2, BLS_FIELD) == 1)
    y = pow(x**3 + 4, (BLS_FIELD + 1) // 4, BLS_FIELD)
    with pytest.raises(MalformedError, match="subgroup"):
        get_pairing("bls12_381").decode_g1(wire_of("bls12_381", x, y)[None])


@pytest.mark.parametrize("name", PAIRINGS)
def test_wrong_length_or_type_is_refused_before_it_reaches_a_library(name):
    pairing = get_pairing(name)
    cases = ((pairing.exp_g1([1]), pairing.decode_g1, 1), (pairing.exp_g2([1]), pairing.decode_g2, 2))
    for wire, decode, number in cases:
        for bad in (wire[:, :-1], wire.astype(np.int16), wire.tobytes()):
            with pytest.raises(MalformedError, match=f"element of G{number} of {name}"):
                decode(bad)


def test_products_refuse_arrays_that_are_no_points():
    pairing = get_pairing("bn254")
    a, b = g1(pairing, [[1]]), g2(pairing, [[1]])
    cases = [(b, a), (a.astype(np.int64), b), (a[0], b), (a, b[..., :12]), (a, np.repeat(b, 2, axis=1))]
    with pairing.target() as target:
        for left, right in cases:
            with pytest.raises(MalformedError):
                target.products(left, right)


def test_pairing_works_after_another_curve_was_used():
    pairing = get_pairing("bn254")
    before = pairing.exp_g2([9])
    with mcl.active(mcl.SECP256K1):
        pass
    assert np.array_equal(pairing.exp_g2([9]), before)
    assert np.array_equal(pairing.decode_g2(before), g2(pairing, [9]))


def test_table_of_a_fixed_base_cannot_be_written():
    with pytest.raises(ValueError, match="read-only"):
        mcl_pairing._fixed_base(True)[0, 0] = 1


@pytest.mark.parametrize("count", [1, 2, 5])
def test_work_is_spread_in_order_whatever_the_number_of_workers(count):
    assert workers.spread(lambda item: item * item, list(range(7)), count) == [0, 1, 4, 9, 16, 25, 36]
    assert workers.spread(lambda item: item, [], count) == []


def test_error_of_a_task_reaches_the_caller():
    with pytest.raises(ZeroDivisionError):
        workers.spread(lambda item: 1 // item, [1, 0, 1], 2)


def test_ranges_cover_everything_once_and_are_never_empty():
    for count, pieces in ((0, 3), (1, 3), (7, 3), (8, 1), (5, 9)):
        parts = workers.ranges(count, pieces)
        assert [i for start, stop in parts for i in range(start, stop)] == list(range(count))
        assert len(parts) == min(count, pieces) and all(stop > start for start, stop in parts)
