"""Relations of heads: small classifiers on the features of a public base, one for each owner, trained on its
few samples.

Owners are numbered as in the session; arrays have one entry for each of `owners`, first. A layer is (out, in
+ 1), the bias in the last column. Images are (m, n) with pixels in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from protocols.language.relations import Array, Later, Positions, Relation


@dataclass(frozen=True, eq=False)
class HeadTask(Relation):
    """What is public of the heads of `owners` owners, each with `shots` samples of each of `classes` classes.

    `features(images)` are those of the base, (m, d), or None where the view has no base. `recipe`: how heads
    are trained, as `protocols.network.head` takes it.
    """

    owners: int
    classes: int
    shots: int
    recipe: Any
    features: Callable[[Array], Array] | None = None
    kept: dict[Any, Any] = field(
        default_factory=dict, repr=False
    )  # what attacks on one task need not make twice


@dataclass(frozen=True, eq=False)
class HeadWeights(Relation):
    """The parameters of heads: `layers()` are arrays (V, out, in + 1)."""

    owners: Positions
    layers: Callable[[], tuple[Array, ...]]


@dataclass(frozen=True, eq=False)
class SealedHeads(Relation):
    """Ciphertexts of heads: `elements` (V, p) bytes.

    `seal(layers, key)` are those of other heads under the same public key, with coins from `key` (32 bytes).
    """

    owners: Positions
    count: int  # ciphertexts of a head
    elements: Later
    seal: Callable[[tuple[Array, ...], bytes], Array]


@dataclass(frozen=True, eq=False)
class HeadExponents(Relation):
    """Of each parameter the place of its last bit: `exponents` (V, k, d + 1), None if payloads were not
    recorded.

    `of(layers)` are those of other heads.
    """

    owners: Positions
    count: int  # parameters of a head
    exponents: Later | None
    of: Callable[[tuple[Array, ...]], Array]


@dataclass(frozen=True, eq=False)
class HeadLogits(Relation):
    """What the (first) layer of heads made of inputs: `values` (V, m, k) = features (m, d) W^T + b, integers
    exactly.

    `features` is None where the view does not tell them, or where another layer lies between; they have
    `unit` steps a unit. `quantity` names the values, which were `decrypted`, or else told.
    """

    owners: Positions
    quantity: str
    count: int  # m
    width: int  # k
    values: Later
    features: Later | None = None
    unit: int = 1
    known: bool = True  # whether the view has the inputs
    decrypted: bool = False


@dataclass(frozen=True, eq=False)
class HeadDecisions(Relation):
    """Classes (V, m) of heads on inputs that the view has, or has not: k - 1 inequalities each."""

    owners: Positions
    count: int
    classes: int
    known: bool = True


@dataclass(frozen=True, eq=False)
class HeadService(Relation):
    """A service that still answers: decisions of its heads, on whatever it is asked.

    `decide(owner, images)` are classes (m,), on `features(images)`, which the asker knows, at most `budget`
    of them. `compare(owner, columns, shifts)`: for ciphertexts of columns (m,) of a head's integers, shifted
    by `shifts` (m, k), the class of the largest; column j is bounded by `limits` (d + 1,) and has `steps` (d
    + 1,) steps a unit.
    """

    owners: Positions
    budget: int
    decide: Callable[[int, Array], Array] | None = None
    features: Callable[[Array], Array] | None = None
    compare: Callable[[int, Array, Array], Array] | None = None
    limits: Array | None = None
    steps: Array | None = None
