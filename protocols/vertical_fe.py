"""Linear models on vertically split data, under functional encryption: FedV and its quadratic successor.

R. Xu, N. Baracaldo, Y. Zhou, A. Anwar, J. Joshi, H. Ludwig, *FedV*, AISec 2021, arXiv:2103.03918; S. Chen et
al., arXiv:2305.08358. Every owner holds columns of all samples, the first one their labels. The cloud C
trains a linear or a logistic model, sigma(z) ~ 1/2 + z/4, and asks the authority A for keys of its weights:

    mode       quadratic      C decrypts the gradient of a batch, g_i = sum_j (<w, x_j> - y_j) x_ji, alone
               fedv           C decrypts z_j = <w, x_j> - y_j of every sample, then <z, X_:i>
    model      linear | logistic
    target     a class against the rest; without it a head for each class

In whole numbers: weights are w S for the weight scale S, pixels are as they are, and a label is +-x_max, so
that S x_max (<w, x_j> - k t_j) with t = +-1 is a sum of products; k = 1, and 2 for the logistic model, whose
error is (z - 2 t) / 4. The first weights are zero. A batch that is smaller than B is padded with zeros.

What the parties learn by design: C the gradients, or with `fedv` each z_j too, and W; A sees W of every step,
and with `fedv` z. But keys work on every ciphertext of their instance. The gradient of a batch b is affine in
w, M_b w - X_b^T y_b with M_b = X_b^T X_b, and the keys of every step open it on every batch: the weights of a
few steps determine M_b, and its whole-numbered root is the batch. With `fedv` the first key, that of zero
weights, shows every label, and the keys for z open the samples of every batch once they are B.

Deviations. Owners encrypt slices of one ciphertext with coins that they share (`crypto/shared.py`): the
papers build multi-input schemes. So owners are not protected from each other, and C with any one of them, or
with A, opens everything. `fedv` uses the scheme `ddh`, one instance for samples and one for rows of X_B^T,
without FedV's guard of A against keys that select single samples. No bias: a column of ones stands for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.crypto import ipfe_ddh, qfe, shared
from protocols.crypto.groups import workers
from protocols.crypto.ipfe_ddh import DdhCiphertext, DdhFunctionKey, DdhPublicKey
from protocols.crypto.qfe import QfeCiphertext, QfeFunctionKey, QfePublicKey
from protocols.crypto.records import Bounds
from protocols.crypto.shared import Shared
from protocols.language import relations as relation
from protocols.language.errors import ConfigError, MalformedError
from protocols.language.figure import Arrow, Integers, sized
from protocols.language.options import as_in, derived, option
from protocols.language.roles import CLOUD_TRAINER, DATA_OWNER, KEY_AUTHORITY
from protocols.language.session import Session
from protocols.language.state import Authority, Cloud, Owner
from protocols.language.view import View
from protocols.network.config import Rounded, Training
from protocols.network.fixedpoint import FixedPoint
from protocols.readings import vertical

NAME = "vertical_fe"
SUMMARY = "owners of columns encrypt them; the cloud trains a linear model from gradients that keys open"
SECURITY = "quadratic forms, or inner products, only; but keys of every step open every batch (moments)"
ROLES = (DATA_OWNER, KEY_AUTHORITY, CLOUD_TRAINER)
SPLITS = ("columns",)
_CHUNK = 64 << 20  # bytes of an upload, about
_POINTS = 3 * 128  # bytes of a pixel under qfe: two elements of G1, two of G2
_WEIGHTS = sized(Integers, "heads n")


class Mode(Enum):
    """What the cloud decrypts: gradients of batches, or each sample's error too."""

    QUADRATIC = "quadratic"
    FEDV = "fedv"


class Model(Enum):
    """Least squares on +-1, or logistic regression with a straight line for the sigmoid."""

    LINEAR = "linear"
    LOGISTIC = "logistic"


@dataclass(frozen=True)
class Options:
    """What a run is made of."""

    features: int = as_in(Training, "features", 1)
    classes: int = as_in(Training, "classes", 2)
    x_max: int = as_in(Training, "x_max", 1)
    counts: tuple[int, ...] = as_in(Training, "counts", ())
    shape: tuple[int, ...] = derived("rows, columns and, in colour, channels of an image", (), least=1)
    mode: Mode = option(Mode.QUADRATIC, "quadratic: gradients of batches; fedv: each sample's error too.")
    model: Model = option(Model.LINEAR, "linear: least squares; logistic: 1/2 + z/4.", panel="Network")
    target: int = option(-1, "One class against the rest; -1: a head for each.", panel="Network", least=-1)
    batch: int = as_in(Training, "batch", 16)
    epochs: int = as_in(Training, "epochs", 2)
    lr: float = as_in(Training, "lr", 0.05)
    weight_scale: int = as_in(Rounded, "weight_scale", 256)
    weight_bound: float = as_in(Rounded, "weight_bound", 4.0)

    def __post_init__(self) -> None:
        if self.batch < 1 or self.epochs < 1 or not 0 < self.lr < float("inf"):
            raise ConfigError("--batch, --epochs and --lr must be positive")
        if self.weight_scale < 1 or not 0 < self.weight_bound < float("inf") or not self.weights.limit:
            raise ConfigError("--weight-scale and --weight-bound must be positive, and give a weight a step")
        if not -1 <= self.target < self.classes:
            raise ConfigError(f"--target: expected a class below {self.classes}, or -1")

    @property
    def weights(self) -> FixedPoint:
        """The fixed-point format of the weights."""
        return FixedPoint(self.weight_scale, self.weight_bound)

    @property
    def heads(self) -> tuple[int, ...]:
        """The class of each head."""
        return tuple(range(self.classes)) if self.target < 0 else (self.target,)

    @property
    def column_samples(self) -> tuple[int, ...]:
        """Samples, which all owners hold: each has columns of all."""
        return self.counts[:1]

    @property
    def batches(self) -> int:
        """Batches of an epoch."""
        return -(-self.counts[0] // self.batch)

    @property
    def times(self) -> int:
        """k: z - k t is what the gradient sums."""
        return 1 if self.model is Model.LINEAR else 2

    @property
    def label_weight(self) -> int:
        """The weight of a label, in steps."""
        return self.times * self.weight_scale

    @property
    def largest(self) -> int:
        """The largest error of a sample, in whole numbers."""
        return self.x_max * (self.features * self.weights.limit + self.label_weight)

    @property
    def owners(self) -> str:
        """`one` or `many`."""
        return "one" if len(self.counts) == 1 else "many"

    @property
    def sizes(self) -> dict[str, int]:
        """What the symbols of a figure's shapes stand for."""
        return {"n": self.features, "heads": len(self.heads), "B": self.batch}


_Public, _Encrypted, _Key = (
    QfePublicKey | DdhPublicKey,
    QfeCiphertext | DdhCiphertext,
    QfeFunctionKey | DdhFunctionKey,
)
FIGURE = (
    Arrow("setup", KEY_AUTHORITY, DATA_OWNER, "mpk", "public key", type=_Public),
    Arrow("setup", KEY_AUTHORITY, CLOUD_TRAINER, "mpk", "public key", type=_Public),
    Arrow("setup", KEY_AUTHORITY, DATA_OWNER, "mpk_batch", "of rows of X_B^T", when="mode=fedv",
          type=DdhPublicKey),
    Arrow("setup", KEY_AUTHORITY, CLOUD_TRAINER, "mpk_batch", "of rows of X_B^T", when="mode=fedv",
          type=DdhPublicKey),
    Arrow("setup", DATA_OWNER, DATA_OWNER, "shared", "coins of all owners", when="owners=many", type=Shared),
    Arrow("upload", DATA_OWNER, CLOUD_TRAINER, "ct", "Enc(X_i), of the first also Enc(y)", type=_Encrypted),
    Arrow("upload", DATA_OWNER, CLOUD_TRAINER, "ct_batch", "Enc of the rows of X_B^T", when="mode=fedv",
          type=DdhCiphertext),
    Arrow("step", CLOUD_TRAINER, KEY_AUTHORITY, "w", "[w]", type=_WEIGHTS),
    Arrow("step", KEY_AUTHORITY, CLOUD_TRAINER, "sk", "keys of X^T (X w - y), or of X w - y", type=_Key),
    Arrow("step", CLOUD_TRAINER, KEY_AUTHORITY, "z", "[X_B w - y]", when="mode=fedv",
          type=sized(Integers, "heads B")),
    Arrow("step", KEY_AUTHORITY, CLOUD_TRAINER, "sk_z", "keys of z: of X_B^T z", when="mode=fedv",
          type=DdhFunctionKey),
)  # fmt: skip


def run(s: Session, config: Options) -> Iterator[Any]:
    """Train for the configured epochs; yields the weights after each, as revealed for measuring accuracy."""
    a, c = s.at(KEY_AUTHORITY), s.at(CLOUD_TRAINER)
    steps = {Mode.QUADRATIC: quadratic_step, Mode.FEDV: fedv_step}[config.mode]
    with s.phase("setup"):
        set_up(s, config)
        c.do(start)
    for part in range(uploads(config)):
        with s.phase("upload", part):
            upload(s, config, part)
    for step in range(config.epochs * config.batches):
        with s.phase("step", step):
            w = c.send(a, w=c.do(quantised))
            steps(s, w, step % config.batches)
        if (step + 1) % config.batches == 0:
            with s.phase("accuracy", step + 1):
                yield s.reveal(c.do(trained), why="accuracy")


def set_up(s: Session, config: Options) -> None:
    """A: public keys to everybody; the first owner: coins for all owners."""
    o, a, c = s.each(DATA_OWNER), s.at(KEY_AUTHORITY), s.at(CLOUD_TRAINER)
    mpk = a.do(draw_keys)
    for whom in (o, c):
        whom.do(take_key, a.send(whom, mpk=mpk))
    if config.mode is Mode.FEDV:
        mpk = a.do(draw_batch_keys)
        for whom in (o, c):
            whom.do(take_batch_key, a.send(whom, mpk_batch=mpk))
    first = s.at(DATA_OWNER)
    drawn = first.do(draw_shared)
    if config.owners == "many":
        others = s.each(DATA_OWNER, range(1, len(config.counts)))
        others.do(take_shared, first.send(others, shared=drawn))


def upload(s: Session, config: Options, part: int) -> None:
    """O: slices of ciphertexts; C: whole ones, loaded."""
    o, c = s.each(DATA_OWNER), s.at(CLOUD_TRAINER)
    encrypt = {Mode.QUADRATIC: encrypt_batches, Mode.FEDV: encrypt_samples}[config.mode]
    c.do(store, s.gather(o.send(c, ct=o.do(encrypt, part))))
    if config.mode is Mode.FEDV:
        c.do(store_batches, s.gather(o.send(c, ct_batch=o.do(encrypt_rows, part))))


def quadratic_step(s: Session, w: Any, batch: int) -> None:
    """C: the gradient alone."""
    a, c = s.at(KEY_AUTHORITY), s.at(CLOUD_TRAINER)
    sk = a.send(c, sk=a.do(gradient_keys, w))  # A: sk of X^T (X w - y) by every weight
    c.do(update, c.do(gradient, sk, batch), batch)  # C: W <- W - lr g / B


def fedv_step(s: Session, w: Any, batch: int) -> None:
    """C: the error of every sample, then the gradient."""
    a, c = s.at(KEY_AUTHORITY), s.at(CLOUD_TRAINER)
    sk = a.send(c, sk=a.do(error_keys, w))  # A: sk of (w, -1) on (x_j, y_j)
    z = c.send(a, z=c.do(errors, sk, batch))  # C: z_j
    sk_z = a.send(c, sk_z=a.do(row_keys, z))  # A: sk of z
    c.do(update, c.do(summed, sk_z, batch), batch)  # C: g = X_B^T z, W <- W - lr g / B


# --- who holds which columns, and where they stand in a ciphertext


def columns(config: Options) -> list[NDArray[np.int64]]:
    """The columns of each owner."""
    return np.array_split(np.arange(config.features), len(config.counts))


def widths(config: Options, rows: int, labels: bool) -> list[int]:
    """Entries of each owner's slice, for so many rows of its columns, and for labels at the first owner."""
    found = [rows * len(mine) for mine in columns(config)]
    return [found[0] + labels * rows * len(config.heads), *found[1:]]


def starts(config: Options, rows: int, labels: bool) -> list[int]:
    """Where each owner's slice begins."""
    return [0, *np.cumsum(widths(config, rows, labels)).tolist()]


def forms(config: Options, w: NDArray[Any]) -> qfe.Forms:
    """X^T (X w - y) of a batch by every weight, for every head: weights w (heads, n) in steps."""
    rows, heads = config.batch, len(config.heads)
    left, right = (np.zeros((rows, config.features), np.int64) for _ in range(2))
    for mine, x, y in zip(
        columns(config), starts(config, rows, True), starts(config, rows, False), strict=False
    ):
        inside = np.arange(rows)[:, None] * len(mine) + np.arange(len(mine))
        left[:, mine], right[:, mine] = x + inside, y + inside
    labels = rows * len(columns(config)[0]) + np.arange(heads * rows).reshape(heads, rows, 1)
    places = np.concatenate([np.broadcast_to(left, (heads, *left.shape)), labels], axis=2)
    weights = np.concatenate([w, np.full((heads, 1), -config.label_weight)], axis=1)
    return qfe.Forms(np.repeat(weights[:, None], rows, axis=1), places, right.T)


def bounds(config: Options) -> qfe.QfeBounds:
    """What a gradient under quadratic encryption must carry."""
    left, right = (starts(config, config.batch, labels)[-1] for labels in (True, False))
    return qfe.QfeBounds(
        left, right, config.x_max, config.x_max, config.batch * config.largest * config.x_max
    )


def sample_bounds(config: Options) -> Bounds:
    """What an error must carry."""
    largest = max(config.weights.limit, config.label_weight)
    return Bounds(config.features + len(config.heads), config.x_max, largest)


def row_bounds(config: Options) -> Bounds:
    """What a sum over a batch must carry."""
    return Bounds(config.batch, config.x_max, config.largest)


def uploads(config: Options) -> int:
    """Messages of each owner."""
    return -(-config.batches // _per_upload(config))


def _per_upload(config: Options) -> int:
    return max(1, _CHUNK // (_POINTS * config.batch * config.features))


def targets(config: Options, labels: NDArray[Any]) -> NDArray[Any]:
    """+-x_max (N, heads): whether each sample is of a head's class; of rows of reals in an audit too."""
    hot = labels if labels.dtype.kind == "f" else np.eye(config.classes, dtype=np.int64)[labels]
    return (2 * hot[:, list(config.heads)] - 1) * config.x_max


def _mine(state: Owner, part: int) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """O: columns (batches, B, n_i) of an upload, and targets (batches, heads, B) of whoever has labels."""
    config, size = state.config, state.config.batch
    count = _per_upload(config)
    rows = slice(part * count * size, min((part + 1) * count * size, config.counts[0]))
    x = _padded(state.inputs["images"][rows], size)
    if "labels" not in state.inputs:
        return x, None
    return x, _padded(targets(config, state.inputs["labels"][rows]), size).swapaxes(1, 2)


def _padded(values: NDArray[Any], size: int) -> NDArray[Any]:
    """Rows (m, k) as batches (b, size, k), the last one filled with zeros."""
    short = np.zeros((-len(values) % size, values.shape[1]), values.dtype)
    return np.concatenate([values, short]).reshape(-1, size, values.shape[1])


# --- A


def draw_keys(state: Authority) -> Any:
    """A: the instance for batches, or for samples."""
    scheme, params = scheme_of(state.config)
    mpk, state.held["msk"] = scheme.setup(params, state.coins)
    return mpk


def draw_batch_keys(state: Authority) -> Any:
    """A: the instance for rows of X_B^T."""
    mpk, state.held["msk_batch"] = ipfe_ddh.setup(ipfe_ddh.parameters(row_bounds(state.config)), state.coins)
    return mpk


def gradient_keys(state: Authority, w: NDArray[Any]) -> Any:
    """A: keys of the gradient by every weight."""
    return qfe.key_derive(state.held["msk"], forms(state.config, w))


def error_keys(state: Authority, w: NDArray[Any]) -> Any:
    """A: keys of (w, -y) for every head."""
    return ipfe_ddh.key_derive(state.held["msk"], error_vectors(state.config, w))


def row_keys(state: Authority, z: NDArray[Any]) -> Any:
    """A: keys of the errors of a batch."""
    return ipfe_ddh.key_derive(state.held["msk_batch"], z)


def error_vectors(config: Options, w: NDArray[Any]) -> NDArray[Any]:
    """(heads, n + heads): the first owner's columns, its labels, the other columns."""
    first, labels = len(columns(config)[0]), -config.label_weight * np.eye(len(w), dtype=np.int64)
    return np.concatenate([w[:, :first], labels, w[:, first:]], axis=1)


def scheme_of(config: Options) -> tuple[Any, Any]:
    """The scheme of what C decrypts first, and its parameters."""
    if config.mode is Mode.FEDV:
        return ipfe_ddh, ipfe_ddh.parameters(sample_bounds(config))
    return qfe, qfe.parameters(bounds(config))


# --- O


def take_key(state: Owner | Cloud, mpk: Any) -> None:
    """O, C: the public key."""
    scheme, params = scheme_of(state.config)
    state.held["mpk"] = scheme.check(mpk, params)


def take_batch_key(state: Owner | Cloud, mpk: Any) -> None:
    """O, C: the public key for rows of X_B^T."""
    state.held["mpk_batch"] = ipfe_ddh.check(mpk, ipfe_ddh.parameters(row_bounds(state.config)))


def draw_shared(state: Owner) -> Any:
    """O: what all owners are to share."""
    state.held["shared"] = shared.share(state.held["mpk"], state.coins)
    return state.held["shared"]


def take_shared(state: Owner, drawn: Any) -> None:
    """O: what all owners share."""
    state.held["shared"] = drawn


def encrypt_batches(state: Owner, part: int) -> Any:
    """O: its slice of one ciphertext for each batch."""
    config, (x, labels) = state.config, _mine(state, part)
    right = x.reshape(len(x), -1)
    left = right if labels is None else np.concatenate([right, labels.reshape(len(x), -1)], axis=1)
    masks = qfe.masks(shared.coins_of(state.held["shared"], part).stream("qfe encrypt"), len(x))
    places = (starts(config, config.batch, which)[state.index] for which in (True, False))
    return qfe.encrypt_part(state.held["mpk"], left, right, masks, *places)


def encrypt_samples(state: Owner, part: int) -> Any:
    """O: its slice of every sample, padding too."""
    config, (x, labels) = state.config, _mine(state, part)
    rows = x.reshape(-1, x.shape[2])
    if labels is not None:
        rows = np.concatenate([rows, labels.swapaxes(1, 2).reshape(len(rows), -1)], axis=1)
    start = starts(config, 1, True)[state.index]
    mpk = ipfe_ddh.part(state.held["mpk"], start, start + rows.shape[1])
    return ipfe_ddh.encrypt(mpk, rows, shared.coins_of(state.held["shared"], part))


def encrypt_rows(state: Owner, part: int) -> Any:
    """O: its rows of X_B^T of every batch, batch by batch."""
    x, _ = _mine(state, part)
    rows = x.swapaxes(1, 2).reshape(-1, x.shape[1])
    return ipfe_ddh.encrypt(state.held["mpk_batch"], rows, state.coins)


# --- C


def start(state: Cloud) -> None:
    """C: W = 0."""
    state.w = np.zeros((len(state.config.heads), state.config.features))
    state.held["ct"], state.held["ct_batch"] = [], []


def store(state: Cloud, parts: list[Any]) -> None:
    """C: slices put together and validated; a batch, or a batch of samples, an item."""
    config, (scheme, _) = state.config, scheme_of(state.config)
    whole = scheme.join(state.held["mpk"], parts)
    each = 1 if config.mode is Mode.QUADRATIC else config.batch
    loaded = scheme.load(state.held["mpk"], whole)
    here = range(0, whole.shape[0], each)
    _count(state, "ct", len(here))
    state.held["ct"] += [scheme.rows(loaded, at, at + each) for at in here]


def store_batches(state: Cloud, parts: list[Any]) -> None:
    """C: the rows of X_B^T of all owners, a list an item."""
    config, mpk = state.config, state.held["mpk_batch"]
    sizes = [len(mine) for mine in columns(config)]
    loaded = [ipfe_ddh.load(mpk, part) for part in parts]
    counts = {part.shape[0] / size for part, size in zip(parts, sizes, strict=True)}
    if len(counts) != 1 or not max(counts).is_integer():
        raise MalformedError("owners sent rows of different batches")
    _count(state, "ct_batch", int(max(counts)))
    state.held["ct_batch"] += [
        [ipfe_ddh.rows(each, k * n, (k + 1) * n) for each, n in zip(loaded, sizes, strict=True)]
        for k in range(int(max(counts)))
    ]


def _count(state: Cloud, label: str, more: int) -> None:
    """Refuse an upload of other batches than the configuration has."""
    config, before = state.config, len(state.held[label])
    expected = min(_per_upload(config), config.batches - before)
    if more != expected:
        raise MalformedError(f"{label}: expected {expected} batches, got {more}")


def quantised(state: Cloud) -> NDArray[Any]:
    """C: W in steps of the weight scale, whole."""
    steps: NDArray[Any] = state.config.weights.quantise(state.w, "w")
    return steps


def gradient(state: Cloud, sk: Any, batch: int) -> NDArray[Any]:
    """C: X^T (X w - y) of a batch, (heads, n), in whole numbers."""
    found: NDArray[Any] = qfe.decrypt(
        state.held["mpk"], sk, state.held["ct"][batch], workers=workers.available()
    )[0]
    return found


def errors(state: Cloud, sk: Any, batch: int) -> NDArray[Any]:
    """C: z (heads, B), in whole numbers."""
    found: NDArray[Any] = ipfe_ddh.decrypt(state.held["mpk"], sk, state.held["ct"][batch])
    return found.T


def summed(state: Cloud, sk: Any, batch: int) -> NDArray[Any]:
    """C: X_B^T z (heads, n), in whole numbers."""
    mpk = state.held["mpk_batch"]
    parts = [ipfe_ddh.decrypt(mpk, sk, ct) for ct in state.held["ct_batch"][batch]]
    return np.concatenate(parts).T


def update(state: Cloud, g: NDArray[Any], batch: int) -> None:
    """C: W <- W - lr g / B."""
    state.w = moved(state.config, state.w, g, batch)


def moved(config: Options, w: NDArray[Any], g: NDArray[Any], batch: int) -> NDArray[np.float64]:
    """W after a step by the whole-numbered gradient g (heads, n) of a batch."""
    return w - g * step_length(config, batch)


def step_length(config: Options, batch: int) -> float:
    """By what a whole-numbered gradient moves W."""
    size = min(config.batch, config.counts[0] - batch * config.batch)
    slope = 1 if config.model is Model.LINEAR else 4
    return config.lr / (slope * size * config.weight_scale * config.x_max**2)


def trained(state: Cloud) -> NDArray[np.float64]:
    """C: W (heads, n), for the experimenter who measures accuracy."""
    w: NDArray[np.float64] = state.w.copy()
    return w


def accuracy(revealed: Any, config: Options, x: NDArray[Any], y: NDArray[Any]) -> float:
    """Share of samples whose class, or whether they are of the one class, is right."""
    scores = np.asarray(x, np.float64) @ np.asarray(revealed).T
    if config.target >= 0:
        return float(((scores[:, 0] > 0) == (y == config.target)).mean())
    return float((scores.argmax(axis=1) == y).mean())


def steps(config: Options) -> int:
    """Training steps of a run: all owners take part in each."""
    return config.epochs * config.batches


def check(config: Options) -> None:
    """Refuse, before anything is started, what the schemes cannot carry."""
    scheme_of(config)
    if config.mode is Mode.FEDV:
        ipfe_ddh.parameters(row_bounds(config))
    if len(config.counts) > config.features:
        raise ConfigError(
            f"--owners: expected at most {config.features}, one for each column, got {len(config.counts)}"
        )


def describe(config: Options) -> dict[str, str]:
    """Parameters and security of what protects this run, a line each."""
    scheme, params = scheme_of(config)
    return {"scheme": scheme.describe(params)}


def payload_nbytes(config: Options) -> int:
    """Bytes of full transcripts, about: ciphertexts, and keys of every step."""
    rows, heads = config.batches * config.batch, len(config.heads)
    if config.mode is Mode.FEDV:
        return 64 * (rows * (config.features + heads) * 2 + len(config.counts) * config.features)
    keys = heads * config.features * 128
    return rows * (_POINTS * config.features + 128 * heads) + steps(config) * keys


def relations(view: View) -> Iterator[relation.Relation]:
    """What a reader of a transcript may write down."""
    config: Options = view.config
    _, params = scheme_of(config)
    yield from vertical.relations(
        view,
        vertical.Layout(
            quadratic=config.mode is Mode.QUADRATIC,
            params=params,
            starts=partial(starts, config),
            widths=[len(mine) for mine in columns(config)],
            per_upload=_per_upload(config),
            length=partial(step_length, config),
        ),
    )
