"""What a reader of a transcript may write down: typed relations between what crossed and what was to stay
secret.

A protocol file ends with `relations(view)`, which yields them; attacks and the ledger of who learned what
take relations and know no label and no protocol. The samples are the rows x of a matrix X (N, n) of whole
pixels, numbered as all of owner 0, then all of owner 1, and so on; `samples` are positions among them.
Everything is stated in these units: what enters the network divided by 255 is multiplied by 255 here.
`labels` says which labels of the view a relation was read from, `since` the round from which on it holds.
Every label that a party received belongs to some relation, or is declared `Plain` or `Opaque`; what is
neither is reported as "not analysed".

Arrays that are dear to come by (decryptions, payloads) are given as functions without arguments, so that it
costs little to list the relations of a view; `now` has the array in either case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.language.precision import Precision

Array = NDArray[Any]
Positions = NDArray[np.int64]
Later = Array | Callable[[], Array]


def now(array: Any) -> Any:
    """The array, computed if it was given as a function."""
    return array() if callable(array) else array


@dataclass(frozen=True)
class Map:
    """An unknown matrix W (h, n) at one time, of an owner or (-1) of everybody. Equal maps are equal
    matrices.
    """

    name: str
    owner: int
    time: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Relation:
    """What all relations have."""

    labels: tuple[str, ...] = ()
    since: int = 0


@dataclass(frozen=True, eq=False)
class Samples(Relation):
    """The samples themselves: X[samples] = `values` (m, n). `own`: the input of a party of the view."""

    samples: Positions
    values: Later
    own: bool = False


@dataclass(frozen=True, eq=False)
class Equations(Relation):
    """Known linear equations on each sample: X[samples] a^T = `values` (m, r), `a` (r, n), up to errors of
    about `noise`.

    Without noise they hold exactly, in integers. `once`: all of them were observed in one use of the samples.
    """

    samples: Positions
    a: Later
    values: Later
    noise: float = 0.0
    once: bool = True


@dataclass(frozen=True, eq=False)
class Combinations(Relation):
    """Known combinations of samples: `weights` (r, m) X[samples] = `values` (r, n) up to errors of at most
    `noise` + `relative` times the absolute sum of a row's weights.
    """

    samples: Positions
    weights: Later
    values: Later
    noise: float = 0.0
    relative: float = 0.0


@dataclass(frozen=True, eq=False)
class Products(Relation):
    """What a map made of samples: X[samples] W^T = `values` (m, h), up to errors of about `noise` and those
    of arithmetic whose roundings err by `roundoff`, relatively.

    With a `dither`, X here and wherever its map was trained on it is whole pixels plus the same reals within
    +-`dither` in every use.
    """

    samples: Positions
    values: Later
    map: Map
    noise: float = 0.0
    dither: float = 0.0
    roundoff: float = Precision.SINGLE.roundoff


@dataclass(frozen=True, eq=False)
class KnownMap(Relation):
    """A map W = `value` (h, n) that the view holds, up to errors of about `noise`. `own`: a party of the view
    made it. `bias` (h,): what it adds for every sample, and which moves as the weights of a pixel that is 1
    in all of them.
    """

    map: Map
    value: Later
    noise: float = 0.0
    own: bool = False
    bias: Later | None = None


_REMEMBERED = 64 << 20  # bytes of errors: solvers ask for those of the first steps again and again


def _remembering(error: Callable[[int], Array]) -> Callable[[int], Array]:
    """The same errors, each read once as long as there is room."""
    kept: dict[int, Array] = {}
    left = _REMEMBERED

    def remembered(u: int) -> Array:
        nonlocal left
        if u in kept:
            return kept[u]
        found = np.asarray(error(u)).view()
        found.flags.writeable = False
        if found.nbytes <= left:
            kept[u], left = found, left - found.nbytes
        return found

    return remembered


@dataclass(frozen=True, eq=False)
class Steps:
    """The steps by which maps move: step u used `samples[u]` (m,), and the errors dZ_u (m, h), where the view
    holds them.

    `error(u)` is dZ_u, read-only; `known` says for how many of the first steps the view holds it. `roundoff`:
    relative error of a rounding in their arithmetic.
    """

    samples: tuple[Positions, ...]
    known: int
    error: Callable[[int], Array]
    roundoff: float = Precision.SINGLE.roundoff

    def __post_init__(self) -> None:
        object.__setattr__(self, "error", _remembering(self.error))

    @cached_property
    def batches(self) -> tuple[Positions, tuple[Positions, ...]]:
        """Which batch each step used, (U,), and the batches, each once: steps use few of them, many times."""
        found: dict[bytes, tuple[int, Positions]] = {}
        which = [found.setdefault(index.tobytes(), (len(found), index))[0] for index in self.samples]
        return np.array(which, np.int64), tuple(index for _, index in found.values())

    @cached_property
    def _unions(self) -> dict[tuple[int, ...], Positions]:
        return {}

    def moved_by(self, terms: Array) -> Positions:
        """Positions of the samples that move a map by these terms (U,), in order."""
        which, batches = self.batches
        (used,) = np.nonzero(np.bincount(which[np.flatnonzero(terms)]))
        key = tuple(used.tolist())
        if key not in self._unions:
            self._unions[key] = _united([batches[k] for k in key])
        return self._unions[key]


def _united(parts: Sequence[Positions]) -> Positions:
    """Positions in any of some parts, in order; they are dense, so that counting costs less than sorting."""
    every = np.concatenate([np.zeros(0, np.int64), *parts])
    low = int(every.min(initial=0))
    found: Positions = np.flatnonzero(np.bincount(every - low)) + low
    return found


@dataclass(frozen=True, eq=False)
class Update(Relation):
    """How a map moved: W(`before`) - W(`after`) = sum_u terms[u] dZ_u^T X[steps.samples[u]], `terms` (U,) all
    public.

    `roundings`: how often the map was rounded to its type of reals in between.
    """

    before: Map
    after: Map
    terms: Array
    steps: Steps
    roundings: int = 1


@dataclass(frozen=True, eq=False)
class Noised(Relation):
    """How a map moved with noise in every step: W(before) - W(after) = sum_u terms[u] (dZ_u^T X_u + N_u), the
    entries of N_u normal and independent, of standard deviation `noise`; of the bias `bias_noise`.
    """

    update: Update
    noise: float
    bias_noise: float = 0.0


@dataclass(frozen=True, eq=False)
class Pruned(Relation):
    """How a map moved, where what moved least was set back: W(`before`) - W(`after`), where it is not 0, is
    an entry of D X[samples], D (h, m) unknown; where it is 0 that is no larger than any which is not.
    """

    samples: Positions
    before: Map
    after: Map
    roundoff: float = Precision.SINGLE.roundoff


@dataclass(frozen=True, eq=False)
class Gradient(Relation):
    """The gradient of a whole network on some samples: `gradients()` are those of its mean loss on X[samples]
    by the arrays `weights()`, one each.

    `loss(weights, x, y)` is that loss, in torch, of images x (m, n) in units of `x_max` and rows y (m, k) of
    probabilities. The last array is the bias of the outputs (k,), by which the gradient of a sample's loss is
    P - Y: below 0 for its own class alone. `exact`: up to rounding; else it is what an owner made of the
    gradient before it sent it. `noise`: standard deviation of normal noise that it added to each entry of
    their mean; infinite where more was done that may change a sign. `rounding`: error of an entry, over the
    largest weight of its array.
    """

    samples: Positions
    weights: Callable[[], list[Array]]
    gradients: Callable[[], list[Array]]
    loss: Callable[[list[Any], Any, Any], Any]
    exact: bool = True
    noise: float = 0.0
    rounding: float = 0.0


@dataclass(frozen=True, eq=False)
class Shift(Relation):
    """How the bias of the outputs (k,) moved, before - after, while X[samples] trained the network by any
    optimizer: the gradient of a sample's loss by it is P - Y, so an entry below 0 is one of their labels.

    `noise`: standard deviation of the normal noise of each step, in all, that owners added.
    """

    samples: Positions
    values: Later
    noise: float = 0.0


@dataclass(frozen=True, eq=False)
class Trained(Relation):
    """A whole network that X[samples] trained by steps along the gradients of its mean loss: the arrays at
    the `end()` and at the `start()`, which is None where the view does not hold it.

    `loss` is as in `Gradient`. `exact`: steps up to rounding; else owners changed them before they sent them.
    """

    samples: Positions
    start: Callable[[], list[Array]] | None
    end: Callable[[], list[Array]]
    loss: Callable[[list[Any], Any, Any], Any]
    exact: bool = True


@dataclass(frozen=True, eq=False)
class Replay(Relation):
    """Training that whoever knows its first map and its samples can repeat, step by step, with any optimizer.

    `run(known)` yields the `Products` of one step after the other with the map (h, n) behind them, as long as
    `known` has the samples (m, n) at all positions that the map was trained on; it returns None where it has
    not.
    """

    first: Map
    run: Callable[[Callable[[Positions], Array | None]], Iterator[tuple[Products, Array]]]


@dataclass(frozen=True, eq=False)
class Moments(Relation):
    """Inner products of samples: X[samples] X[others]^T = `matrix` (m, k), up to errors of about `noise`."""

    samples: Positions
    others: Positions
    matrix: Later
    noise: float = 0.0


@dataclass(frozen=True, eq=False)
class Gradients(Relation):
    """What gradients of linear models were on some samples: (X w^T - `scale` T)^T X = values (r, n), with X =
    X[samples] and models w = `weights` (r, n), all whole numbers, in order of `steps` (r,), their rounds.

    T (m, r) is 1 where a sample's label is the model's class `heads` (r,), and -1 elsewhere. `values(steps)`
    has those of some rounds, in order.
    """

    samples: Positions
    weights: Later
    values: Callable[[Array], Array]
    heads: Array
    steps: Array
    scale: int


@dataclass(frozen=True, eq=False)
class ClassSums(Relation):
    """T^T X[samples] = `values` (k, n), row h up to errors of `noise` (k,) at most: the sum of the samples of
    class `heads` (k,)[h] less the sum of all others. T as in `Gradients`; `classes`: how many there are.
    """

    samples: Positions
    values: Later
    noise: Later
    heads: Array
    classes: int


@dataclass(frozen=True, eq=False)
class Labels(Relation):
    """Labels y[samples] = `values` (m,), integers. `own`: they are the input of a party of the view. `how`:
    what they follow from, where several messages give them together.
    """

    samples: Positions
    values: Later
    own: bool = False
    how: str = "Y = P + (Y - P)"


@dataclass(frozen=True, eq=False)
class LabelErrors(Relation):
    """Numbers (m, c) that depend on the labels of samples: the gradient of the loss of each by something, or
    with `outputs` what the network said of them, an entry for each class. `classes`: how many there are, as
    everybody knows; 0 where that is not said.
    """

    samples: Positions
    values: Later
    classes: int = 0
    outputs: bool = False


@dataclass(frozen=True, eq=False)
class Keys:
    """Function keys of one message: for the rows of `vectors` (r, n), or, where keys hide them, of those of a
    `map`.

    `key`: as the scheme takes it, or a function that reads it.
    """

    since: int
    key: Any
    vectors: Array | None = None
    map: Map | None = None


@dataclass(frozen=True, eq=False)
class Instance(Relation):
    """One master key: every key with every ciphertext gives inner products, whatever it was asked for.

    `blocks`: positions of the samples that lie together in a ciphertext message. `messages()` reads the
    messages with keys in order of time; `rows(key, which)` has some of the keys of a message. `products(key,
    block, which)` decrypts: X[block][which] V^T (m, r) for the vectors V, with `which` None for all.
    `across`: the vectors run over the samples of a block, so that the products are X[block]^T V^T (n, r).
    `scheme` and `mpk()` are those of the encryption; `open(msk, block, which)` has the samples (m, n) of a
    block under the master key. `columns`: pixels of a sample. `hides`: a key does not tell its vectors, which
    are `rounded(W)`, about `scale` W, for the W of its map. `layer`: the convolution whose matrix the vectors
    are the rows of, public geometry, if there is one. `seconds`: about what one product costs.
    """

    blocks: tuple[Positions, ...]
    messages: Callable[[], Iterator[Keys]]
    products: Callable[[Any, int, Positions | None], Array]
    scheme: Any
    mpk: Callable[[], Any]
    rows: Callable[[Any, Positions], Any]
    open: Callable[[Any, int, Positions | None], Array]
    columns: int
    hides: bool = False
    across: bool = False
    rounded: Callable[[Array], Array] | None = None
    layer: Any = None
    scale: int = 1
    seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class MasterKey(Relation):
    """The secret of an instance, drawn by a party of the view or given to it; `secret()` is what
    `instance.open` takes.
    """

    instance: Instance
    secret: Callable[[], Any]
    how: str


@dataclass(frozen=True, eq=False)
class Asked(Relation):
    """Samples that a trained network is asked about: `count` of them, hidden as those of the training were,
    `how` in words.

    `ciphertexts()`: the first of them, where they are under the last master key of the training.
    """

    count: int
    how: str
    ciphertexts: Callable[[], Any] | None = None


@dataclass(frozen=True, eq=False)
class Own(Relation):
    """A secret of a party of the view itself: it drew it, or made it."""

    quantity: str
    party: str
    detail: str


@dataclass(frozen=True, eq=False)
class Plain(Relation):
    """Numbers in the clear of which no more is said than what they are: `quantity`, in place of the label."""

    quantity: str = ""


@dataclass(frozen=True, eq=False)
class Opaque(Relation):
    """Ciphertexts without a key, masked values, public keys: what is known of their content is nothing, and
    `why`.
    """

    why: str = ""


@dataclass(frozen=True, eq=False)
class Unopened(Relation):
    """Ciphertexts of samples, their labels, and weights trained on them, under a key that the view lacks.

    `tried()`: how each quantity shows through them after all, in words of the ledger ("nothing found",
    "bounded", "exact"), and what was looked for.
    """

    samples: Positions
    tried: Callable[[], tuple[dict[str, str], str]]


@dataclass(frozen=True, eq=False)
class Without(Relation):
    """A relation that this view does not give though its protocol has it: which type, and `why`; for what an
    attack says.
    """

    type: type[Relation] = Relation
    why: str = ""


@dataclass(frozen=True, eq=False)
class Unrelated(Relation):
    """Messages of a label, `count` of them, of which nothing is stated: where whoever recorded them states
    relations of others.
    """

    count: int = 0
