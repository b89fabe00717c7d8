"""What every attack takes and gives.

An attack is a module, or a row of the table in `catalogue.py`, with

    NAME        its name on the command line (with `-` for `_`) and in result.json
    SUMMARY     what it does, in a line
    CONSUMES    the types of relations that it needs, all of them; of `A | B` one of the two
    def solve(relations: Relations, prior: Prior, rng: numpy.random.Generator) -> Reconstruction

It sees what a reader of the joint view of the corrupted parties may write down
(`protocols/language/relations.py`) and a stated prior, and nothing else: it knows no protocol and no label,
and imports no data set and no other party. Where it does not fit it raises `NotApplicable`, which is a result
and not a failure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from types import UnionType
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from parties.record.view import View
from parties.registry import find_protocol
from protocols.language.errors import KeyholeError
from protocols.language.relations import Relation, Without

SHADOWS = 2000  # heads that an attack on heads trains, unless told otherwise
LIMIT = 20  # samples that an attack on one observation works on, unless told otherwise
R = TypeVar("R", bound=Relation)


class NotApplicable(KeyholeError):
    """The view does not hold what the attack consumes, or the run does not fit it; says which and why."""


class Relations:
    """The relations of a view, listed once; what is dear of them is read when it is asked for."""

    def __init__(self, listed: Callable[[], Iterable[Relation]], parties: tuple[str, ...] = ()) -> None:
        self._listed, self.parties = listed, parties

    def __iter__(self) -> Iterator[Relation]:
        return iter(self._all)

    @cached_property
    def _all(self) -> tuple[Relation, ...]:
        return tuple(self._listed())

    def of(self, kind: type[R]) -> Iterator[R]:
        """Those of one type, in order."""
        return (relation for relation in self if isinstance(relation, kind))

    def need(self, *kinds: type[Relation] | UnionType) -> None:
        """Raise `NotApplicable` unless there is a relation of every type."""
        for kind in kinds:
            if not any(isinstance(relation, kind) for relation in self):
                parts: tuple[Any, ...] = getattr(kind, "__args__", (kind,))
                names = [part.__name__ for part in parts]
                reasons = dict.fromkeys(w.why for w in self.of(Without) if w.type.__name__ in names)
                said = f"the view of {', '.join(self.parties)} holds no {' and no '.join(names)}"
                raise NotApplicable(": ".join([said, *reasons]))

    def count(self) -> int:
        """How many samples the relations are about: one more than the last position that they name."""
        named = (getattr(relation, "samples", None) for relation in self)
        blocks = (block for relation in self for block in getattr(relation, "blocks", ()))
        ends = [
            int(index.max(initial=-1)) + 1 for some in (named, blocks) for index in some if index is not None
        ]
        return max(ends, default=0)


def relations_of(view: View) -> Relations:
    """What a reader of a view may write down, by the protocol's own word; nothing where it says nothing."""
    protocol = find_protocol(view.protocol)
    return Relations(lambda: protocol.relations(view), view.parties)


class Attack(Protocol):
    """What an attack is, module or row of the table."""

    NAME: str
    SUMMARY: str
    CONSUMES: tuple[type[Relation] | UnionType, ...]

    @property
    def solve(self) -> Callable[[Relations, Prior, np.random.Generator], Reconstruction]:
        """Rebuild what the relations determine or suggest."""
        ...


class Quantity(Enum):
    """What an attack rebuilds; decides how it is scored."""

    IMAGES = "images"
    UNORDERED_IMAGES = "unordered_images"
    CLASS_IMAGES = "class_images"
    LABELS = "labels"
    CLASSES = "classes"
    MASTER_KEY = "master_key"
    GRAM = "gram"
    SPAN = "span"


@dataclass(frozen=True)
class Known:
    """Samples that the adversary is assumed to know beforehand: positions `index` (k,), integer `images` (k,
    n), and `labels` (k,).
    """

    index: NDArray[np.int64]
    images: NDArray[np.int64]
    labels: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Prior:
    """What the adversary is assumed to know besides its view; printed with every result.

    `x_max`: pixels are integers in [0, x_max]. `shape`: (rows, columns) or (rows, columns, channels) of an
    image. `public`: images of the same distribution, (P, n) in [0, 1], or None; `public_labels` their
    classes. `period` and `threshold` (in steps of this data set's pixels) belong to the smoothness rows of
    `lp`. `known`: training samples that it knows, or None. `limit`: how many samples, the first ones, an
    attack that spends up to seconds on each works on. `shadows`: how many heads an attack on heads trains
    itself on its public images, `sealed` how many of them it encrypts.
    """

    x_max: int
    shape: tuple[int, ...]
    public: NDArray[np.float64] | None = None
    period: int = 4
    threshold: float = 25.0
    known: Known | None = None
    limit: int = LIMIT
    public_labels: NDArray[np.int64] | None = None
    shadows: int = SHADOWS
    sealed: int = 0

    @property
    def pixels(self) -> int:
        """Pixels of an image, n."""
        return int(np.prod(self.shape))

    def guess(self) -> NDArray[np.float64]:
        """The best guess from the prior alone, (n,) in [0, 1]: the public mean image, or mid-range without
        one.
        """
        if self.public is None or not len(self.public):
            return np.full(self.pixels, 0.5)
        mean: NDArray[np.float64] = self.public.mean(axis=0)
        return mean

    def describe(self) -> dict[str, Any]:
        """The prior in plain data, for result.json."""
        public = 0 if self.public is None else len(self.public)
        known = 0 if self.known is None else len(self.known.index)
        return {
            "x_max": self.x_max,
            "shape": list(self.shape),
            "public_images": public,
            "period": self.period,
            "threshold": self.threshold,
            "known_samples": known,
        }


@dataclass(frozen=True)
class Reconstruction:
    """What an attack rebuilt, in the order of the ciphertexts (or values) in the view.

    `index` (m,): position of each rebuilt sample among all; scored by it. `values`: (m, n) in [0, 1] for
    images, (m,) integers for labels, and for classes, which are labels up to a renaming; empty for a key; (m,
    m) inner products of images in [0, 1] for a Gram matrix; (d, n) orthonormal rows for a span, which `index`
    says whose samples it holds. `projection`: the same shape as the images, for attacks on one observation:
    the least-norm correction of a constant image onto the same equations. `per_sample` holds arrays of length
    m (for example how far a sample's constraints were relaxed; NaN rows in `values` are failures), under
    `label` the class that the attack finds of each. `notes` is plain data and goes to result.json as it is.
    """

    quantity: Quantity
    index: NDArray[np.int64]
    values: NDArray[Any]
    solved_at_step: int | None = None
    projection: NDArray[np.float64] | None = None
    per_sample: dict[str, NDArray[Any]] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)


# What a line says of a quantity, from the least to the most.
STRENGTH = (
    "not analysed", "nothing found", "undecided", "own", "bounded", "determined", "up to", "exact", "clear"
)  # fmt: skip


@dataclass(frozen=True)
class Learned:
    """One line of the answer: what a party knows of a quantity, how, and since which round."""

    party: str
    quantity: str
    of: str
    how: str
    detail: str
    since_round: int | None
    data: dict[str, Any] = field(default_factory=dict)
