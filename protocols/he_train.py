"""Training under homomorphic encryption: the cloud trains on samples, labels and weights that it cannot read.

K. Mihara, R. Yamaguchi, M. Mitsuishi, Y. Maruyama, *Neural Network Training With Homomorphic Encryption*,
arXiv:2012.13552. The owner O holds the key of a CKKS instance. It encrypts its samples and first weights, and
the cloud C computes each step on ciphertexts, with polynomials where a network has a sigmoid or a ReLU:

    --hidden-units 0   logistic regression, a head for each class (one for two classes): sigma(z) is
                       1/2 + .197 z - .004 z^3, which serves |z| <= 5
    --hidden-units h   one hidden layer of h units, a power of two: `--polynomial square` (z^2) or cubic, as
                       above; outputs are linear, least squares on one-hot labels

A product takes a level of the budget, and a step takes all of it: 4 levels for logistic regression, 6
(square) or 7 (cubic) with a hidden layer. Then C sends what it has to O, which decrypts, sums, encrypts
afresh and sends it back, a **refresh**: TenSEAL has no bootstrapping, by which C could do without.

Layout. Slots are f stride + u block + j: column f of a sample, head or unit u, sample j of the batch. Columns
that do not fit go on in further ciphertexts. Products are summed over f by rotations, those of the second
layer over u. Sums over j are O's: C returns W - lr g_j for every sample j, and O takes the mean over j, as
rotations are the dearest operation. Samples enter as 2 x / x_max - 1, with a column of ones as the bias.

What the parties learn by design: C the numbers of samples, columns, classes and steps, and of their content
nothing. O the weights of every step, and each sample's share of every gradient: so the trained model is
no secret of C's.

Threat: C is honest but curious; nothing proves to O that C computed what it says. What O decrypts goes back
freshly encrypted only. CKKS is not IND-CPA^D (Li, Micciancio, EUROCRYPT 2021): weights decrypted from a
ciphertext that C has seen, and *published*, tell C its noise, from which the key follows. What is revealed
here to measure accuracy goes to the experimenter and to no party. A cloud that is told anything else, such as
whether training diverged or was stopped early, is outside of the notion.

Deviations from the paper (SEAL, CKKS, Iris): the packing above; O sums over samples; outputs of the network
with a hidden layer are linear, without a softmax; there is one owner, and it encrypts with its secret key.
`--encryption none` is the same training in the clear at C: the baseline, and with `--polynomial exact` (a
true sigmoid, a ReLU) what the polynomial costs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.crypto import ckks
from protocols.crypto.ckks import CkksCiphertext, CkksFresh, CkksKeys, CkksParams
from protocols.crypto.integers import core_svp
from protocols.language import relations as relation
from protocols.language.errors import BoundError, ConfigError, MalformedError
from protocols.language.figure import Arrow
from protocols.language.options import as_in, option
from protocols.language.roles import CLOUD_TRAINER, DATA_OWNER, role_of
from protocols.language.session import Session
from protocols.language.state import Cloud, Owner
from protocols.language.view import Kind, View
from protocols.network.config import Training
from protocols.parts.arrays import LABELS, PIXELS
from protocols.readings import samples

NAME = "he_train"
SUMMARY = "the cloud trains on samples, labels and weights under homomorphic encryption; the owner refreshes"
SECURITY = "the cloud sees ciphertexts alone (IND-CPA, not IND-CPA^D); the owner sees the model"
ROLES = (DATA_OWNER, CLOUD_TRAINER)
MANY_OWNERS = False

_SIGMOID = (0.5, 0.197, -0.004)  # 1/2 + .197 z - .004 z^3

Reals = NDArray[np.float64]


class Encryption(Enum):
    """Whether samples are encrypted."""

    CKKS = "ckks"
    NONE = "none"


class Polynomial(Enum):
    """What stands for the sigmoid, or between layers."""

    CUBIC = "cubic"
    SQUARE = "square"
    EXACT = "exact"


@dataclass(frozen=True)
class Options:
    """What a run is made of."""

    features: int = as_in(Training, "features", 1)
    classes: int = as_in(Training, "classes", 2)
    x_max: int = as_in(Training, "x_max", 1)
    counts: tuple[int, ...] = as_in(Training, "counts", ())
    encryption: Encryption = option(Encryption.CKKS, "none: the same training in the clear, a baseline.")
    hidden_units: int = option(0, "Of one hidden layer; 0: logistic regression.", panel="Network", least=0)
    polynomial: Polynomial = option(
        Polynomial.CUBIC, "Of the sigmoid, or between layers; exact, in the clear: none.", panel="Network"
    )
    batch: int = as_in(Training, "batch", 50)
    epochs: int = as_in(Training, "epochs", 4)
    lr: float = as_in(Training, "lr", 0.2)

    def __post_init__(self) -> None:
        if self.batch < 1 or self.epochs < 1 or not 0 < self.lr < float("inf"):
            raise ConfigError("--batch, --epochs and --lr must be positive")
        if self.hidden_units & (self.hidden_units - 1) or self.hidden_units < 0:
            raise ConfigError(f"--hidden-units: expected 0 or a power of two, got {self.hidden_units}")
        if self.hidden_units == 0 and self.polynomial is Polynomial.SQUARE:
            raise ConfigError("--polynomial square is for a hidden layer: a square is no sigmoid")
        if self.encryption is Encryption.CKKS and self.polynomial is Polynomial.EXACT:
            raise ConfigError("--polynomial exact cannot be encrypted: only with --encryption none")

    @property
    def heads(self) -> int:
        """Outputs: one for two classes."""
        return self.classes if self.classes > 2 else 1

    @property
    def batches(self) -> int:
        """Batches of an epoch."""
        return -(-self.counts[0] // self.batch)

    @property
    def levels(self) -> int:
        """Products that follow each other in a step."""
        if not self.hidden_units:
            return 4
        return 6 if self.polynomial is Polynomial.SQUARE else 7

    @property
    def params(self) -> CkksParams:
        """Of the encryption."""
        return ckks.parameters(self.levels)

    @property
    def sizes(self) -> dict[str, int]:
        """What the symbols of a figure's shapes stand for."""
        return {"n": self.features, "k": self.classes, "x_max": self.x_max}


FIGURE = (
    Arrow("setup", DATA_OWNER, CLOUD_TRAINER, "keys", "of products and rotations", when="encryption=ckks",
          type=CkksKeys),
    Arrow("setup", DATA_OWNER, CLOUD_TRAINER, "ct_w", "Enc(W)", when="encryption=ckks", type=CkksFresh),
    Arrow("upload", DATA_OWNER, CLOUD_TRAINER, "ct_x", "Enc(X_B)", when="encryption=ckks", type=CkksFresh),
    Arrow("upload", DATA_OWNER, CLOUD_TRAINER, "ct_y", "Enc(y)", when="encryption=ckks", type=CkksFresh),
    Arrow("step", CLOUD_TRAINER, DATA_OWNER, "ct_moved", "Enc(W - lr g_j), at level 0",
          when="encryption=ckks", type=CkksCiphertext),
    Arrow("step", DATA_OWNER, CLOUD_TRAINER, "ct_w", "Enc(W), refreshed", when="encryption=ckks",
          type=CkksFresh),
    Arrow("setup", DATA_OWNER, CLOUD_TRAINER, "w", "W as the owner draws it", when="encryption=none",
          type=list[NDArray[np.float64]]),
    Arrow("upload", DATA_OWNER, CLOUD_TRAINER, "x", "X in the clear", when="encryption=none",
          type=PIXELS),
    Arrow("upload", DATA_OWNER, CLOUD_TRAINER, "labels", "y in the clear", when="encryption=none",
          type=LABELS),
)  # fmt: skip


def run(s: Session, config: Options) -> Iterator[Any]:
    """Train for the configured epochs; yields weights and noise after each, as revealed for measuring."""
    trained_at = START[config.encryption](s, config)
    for batch in range(config.batches):
        with s.phase("upload", batch):
            UPLOAD[config.encryption](s, batch)
    for step in range(config.epochs * config.batches):
        with s.phase("step", step):
            STEP[config.encryption](s, step % config.batches)
        if (step + 1) % config.batches == 0:
            with s.phase("accuracy", step + 1):
                yield s.reveal(s.at(trained_at).do(trained), why="accuracy")


def start_encrypted(s: Session, config: Options) -> Any:
    """O: keys and first weights, under encryption; it will hold what is trained."""
    o, c = s.at(DATA_OWNER), s.at(CLOUD_TRAINER)
    with s.phase("setup"):
        keys = o.send(c, keys=o.do(draw_keys))
        c.do(take_keys, keys)
        o.do(draw_weights)
        c.do(take_weights, o.send(c, ct_w=o.do(encrypt_weights)))
    return DATA_OWNER


def upload_encrypted(s: Session, batch: int) -> None:
    """O: a batch and its labels, under encryption."""
    o, c = s.at(DATA_OWNER), s.at(CLOUD_TRAINER)
    x, y = o.do(encrypt_samples, batch), o.do(encrypt_labels, batch)
    c.do(store_batch, *o.send(c, ct_x=x, ct_y=y))


def encrypted_step(s: Session, batch: int) -> None:
    """C: a step on ciphertexts; O: the refresh."""
    o, c = s.at(DATA_OWNER), s.at(CLOUD_TRAINER)
    moved = c.send(o, ct_moved=c.do(move_encrypted, batch))  # C: Enc(W - lr g_j)
    o.do(take_moved, moved, batch)  # O: W <- mean over j
    c.do(take_weights, o.send(c, ct_w=o.do(encrypt_weights)))


def start_clear(s: Session, config: Options) -> Any:
    """O: first weights; C will hold what is trained."""
    o, c = s.at(DATA_OWNER), s.at(CLOUD_TRAINER)
    with s.phase("setup"):
        o.do(draw_weights)
        c.do(take_clear_weights, o.send(c, w=o.do(give_weights)))
    return CLOUD_TRAINER


def upload_clear(s: Session, batch: int) -> None:
    """O: a batch and its labels."""
    o, c = s.at(DATA_OWNER), s.at(CLOUD_TRAINER)
    c.do(store_clear, *o.send(c, x=o.do(own_rows, batch), labels=o.do(own_labels, batch)))


def clear_step(s: Session, batch: int) -> None:
    """C: the same step in the clear."""
    s.at(CLOUD_TRAINER).do(move_clear, batch)


START = MappingProxyType({Encryption.CKKS: start_encrypted, Encryption.NONE: start_clear})
UPLOAD = MappingProxyType({Encryption.CKKS: upload_encrypted, Encryption.NONE: upload_clear})
STEP = MappingProxyType({Encryption.CKKS: encrypted_step, Encryption.NONE: clear_step})


# --- where what stands in slots


@dataclass(frozen=True)
class Layout:
    """Slot f `stride` + u `block` + j: `columns` of a sample in a ciphertext, of which there are `parts`."""

    slots: int
    columns: int
    parts: int
    units: int
    block: int

    @property
    def stride(self) -> int:
        """Slots of a column."""
        return self.slots // self.columns

    @property
    def rotations(self) -> list[int]:
        """Those that sums take: over columns, and over units where they fill a stride."""
        over_units = ckks.rotations(self.block, self.units) if self.units * self.block == self.stride else []
        return [*ckks.rotations(self.stride, self.columns), *over_units]

    def place(self, values: Any) -> Reals:
        """Slots (parts, slots) of values (columns in all, units, block), which may have fewer of each."""
        values = np.asarray(values, np.float64)
        columns, units, rows = values.shape
        found = np.zeros((self.parts * self.columns, self.stride))
        padded = np.zeros((columns, self.units, self.block))
        padded[:, :units, :rows] = values
        found[:columns, : self.units * self.block] = padded.reshape(columns, -1)
        return found.reshape(self.parts, self.slots)

    def everywhere(self, values: Any) -> Reals:
        """Slots (slots,) of values (units, block), the same in every column."""
        values = np.asarray(values, np.float64)
        found: Reals = self.place(np.repeat(values[None], self.columns, axis=0))[0]
        return found

    def read(self, slots: Reals, columns: int, rows: int) -> Reals:
        """Values (columns, units, rows) of slots (parts, slots)."""
        each: Reals = slots.reshape(-1, self.stride)[:columns, : self.units * self.block]
        return each.reshape(columns, self.units, self.block)[:, :, :rows]


def layout(config: Options) -> Layout:
    """The one that takes the fewest ciphertexts; `ConfigError` where a batch does not fit."""
    slots, columns = config.params.slots, config.features + 1
    units = config.hidden_units or config.heads
    block = 1 << (config.batch - 1).bit_length() if config.hidden_units else config.batch
    if units * block > slots:
        raise ConfigError(
            f"--batch: {units} times {block} samples exceed the {slots} slots of a ciphertext; "
            f"expected at most {slots // units}"
        )
    most = 1 << (slots // (units * block)).bit_length() - 1
    inside = min(most, 1 << (columns - 1).bit_length())
    if config.hidden_units:
        block = slots // inside // units  # units fill a stride, so that sums over them go round
    return Layout(slots, inside, -(-columns // inside), units, block)


# --- O


def draw_keys(state: Owner) -> Any:
    """O: an instance, and what C needs to compute under it."""
    config: Options = state.config
    keys, state.held["sk"] = ckks.setup(config.params, state.coins, layout(config).rotations)
    return keys


def draw_weights(state: Owner) -> None:
    """O: W = 0 of logistic regression; W1 (h, n + 1) and W2 (k, h) uniform."""
    config: Options = state.config
    columns, h, k = config.features + 1, config.hidden_units, config.heads
    state.noise = []
    if not h:
        state.w = [np.zeros((k, columns))]
        return
    shapes = ((h, columns), (k, h))
    state.w = [state.rng.uniform(-1, 1, shape) / np.sqrt(shape[1]) for shape in shapes]


def encrypt_weights(state: Owner) -> Any:
    """O: Enc(W), each weight in the slot of every sample."""
    config: Options = state.config
    where, w = layout(config), state.w
    slots = where.place(np.repeat(w[0].T[:, :, None], where.block, axis=2))
    upper = [
        where.everywhere(np.repeat(row[:, None], where.block, axis=1)) for matrix in w[1:] for row in matrix
    ]
    return ckks.encrypt(state.held["sk"], np.vstack([slots, *upper]), state.coins)


def encrypt_samples(state: Owner, batch: int) -> Any:
    """O: Enc(X_B), the same for every head or unit."""
    config: Options = state.config
    x, where = entering(config, own_rows(state, batch)), layout(config)
    slots = where.place(np.repeat(x.T[:, None], where.units, axis=1))
    return ckks.encrypt(state.held["sk"], slots, state.coins)


def encrypt_labels(state: Owner, batch: int) -> Any:
    """O: Enc of what outputs lack: y - 1/2 of each head at its slots, or y, a vector for each class."""
    config: Options = state.config
    where, y = layout(config), targets(config, own_labels(state, batch))
    if not config.hidden_units:
        slots = where.everywhere(y.T - _SIGMOID[0])[None]
    else:
        every = np.zeros((config.heads, where.units, where.block))
        every[:, :, : len(y)] = y.T[:, None]
        slots = np.stack([where.everywhere(each) for each in every])
    return ckks.encrypt(state.held["sk"], slots, state.coins, label_level(config))


def take_moved(state: Owner, moved: Any, batch: int) -> None:
    """O: W, the mean of what C made of it for each sample."""
    config: Options = state.config
    where, size = layout(config), batch_size(config, batch)
    expected = where.parts + (config.heads if config.hidden_units else 0)
    if moved.shape[0] != expected:
        raise MalformedError(f"expected {expected} ciphertexts of weights, got {moved.shape[0]}")
    found, noise = ckks.decrypt(state.held["sk"], moved)
    state.noise.append(noise)
    first = where.read(found[: where.parts], config.features + 1, size).mean(axis=2).T
    state.w[0] = first
    for row, slots in enumerate(found[where.parts :]):
        state.w[1][row] = where.read(slots[None], 1, size)[0].mean(axis=1)


def own_rows(state: Owner, batch: int) -> NDArray[Any]:
    """O: the samples of a batch (m, n)."""
    return state.inputs["images"][rows_of(state.config, batch)]


def own_labels(state: Owner, batch: int) -> NDArray[Any]:
    """O: their labels (m,)."""
    return state.inputs["labels"][rows_of(state.config, batch)]


def give_weights(state: Owner) -> list[Reals]:
    """O: its first weights."""
    given: list[Reals] = state.w
    return given


# --- C, on ciphertexts


def take_keys(state: Cloud, keys: Any) -> None:
    """C: keys of this instance, loaded."""
    config: Options = state.config
    state.held["engine"] = ckks.Engine(ckks.check(keys, config.params, layout(config).rotations))
    state.held["batches"] = []


def take_weights(state: Cloud, ct: Any) -> None:
    """C: Enc(W), at the top level."""
    config: Options = state.config
    upper = config.heads if config.hidden_units else 0
    state.held["w"] = loaded(state, ct, layout(config).parts + upper, config.levels)


def store_batch(state: Cloud, x: Any, y: Any) -> None:
    """C: a batch under encryption."""
    config: Options = state.config
    outputs = config.heads if config.hidden_units else 1
    batch = (
        loaded(state, x, layout(config).parts, config.levels),
        loaded(state, y, outputs, label_level(config)),
    )
    state.held["batches"].append(batch)


def loaded(state: Cloud, ct: Any, count: int, level: int) -> list[Any]:
    """C: so many vectors at a level, of this instance."""
    vectors: list[Any] = state.held["engine"].load(ct)
    if len(vectors) != count or any(each.level != level for each in vectors):
        raise MalformedError(f"expected {count} vectors at level {level}, got {len(vectors)}")
    return vectors


def move_encrypted(state: Cloud, batch: int) -> Any:
    """C: Enc(W - lr g_j) for every sample j of a batch."""
    config: Options = state.config
    step = hidden_step if config.hidden_units else logistic_step
    moved = step(config, state.held["engine"], state.held["w"], *state.held["batches"][batch])
    return state.held["engine"].store(moved)


def logistic_step(config: Options, engine: Any, w: list[Any], x: list[Any], y: list[Any]) -> list[Any]:
    """W - lr (sigma(z_j) - y_j) x_j: four levels."""
    where, (cubic, slope, lr) = layout(config), factors(config)
    z = engine.total(w, x).summed(where.stride, where.columns)  # level 3
    error = z * cubic * (z * z) + z * slope - y[0] * lr  # level 1
    return [mine - error * column for mine, column in zip(w, x, strict=True)]


def factors(config: Options) -> tuple[float, ...]:
    """Public reals of a step that lr is in: of its polynomial, or of the derivative of it, and lr."""
    (_, linear, cubic), lr = _SIGMOID, config.lr
    if not config.hidden_units:
        return cubic * lr, linear * lr, lr
    return (2 * lr, lr) if config.polynomial is Polynomial.SQUARE else (3 * cubic * lr, linear * lr, lr)


def hidden_step(config: Options, engine: Any, w: list[Any], x: list[Any], y: list[Any]) -> list[Any]:
    """The same through a hidden layer, of both layers: six levels, or seven."""
    where, (*slopes, lr) = layout(config), factors(config)
    w1, w2 = w[: where.parts], w[where.parts :]
    z = engine.total(w1, x).summed(where.stride, where.columns)
    square = z * z
    if config.polynomial is Polynomial.SQUARE:
        a, slope = square, z * slopes[0]  # lr times the derivative
    else:
        constant, linear, cubic = _SIGMOID
        a = z * cubic * square + z * linear + constant
        slope = square * slopes[0] + slopes[1]
    errors = [(a * row).summed(where.block, where.units) - target for row, target in zip(w2, y, strict=True)]
    back = engine.total(errors, w2) * slope
    return [
        *(mine - back * column for mine, column in zip(w1, x, strict=True)),
        *(row - error * lr * a for row, error in zip(w2, errors, strict=True)),
    ]


# --- C, in the clear


def take_clear_weights(state: Cloud, w: list[Reals]) -> None:
    """C: first weights."""
    state.w, state.noise = [each.copy() for each in w], []
    state.held["batches"] = []


def store_clear(state: Cloud, x: NDArray[Any], labels: NDArray[Any]) -> None:
    """C: a batch in the clear."""
    expected = batch_size(state.config, len(state.held["batches"]))
    if not len(x) == len(labels) == expected:
        raise MalformedError(f"expected {expected} samples and labels, got {len(x)} and {len(labels)}")
    state.held["batches"].append((entering(state.config, x), targets(state.config, labels)))


def move_clear(state: Cloud, batch: int) -> None:
    """C: W <- W - lr g."""
    config: Options = state.config
    x, y = state.held["batches"][batch]
    a = x @ state.w[0].T
    if config.hidden_units:
        hidden, slope = activated(config, a)
        error = hidden @ state.w[1].T - y
        back = error @ state.w[1] * slope
        state.w = [
            state.w[0] - config.lr / len(x) * back.T @ x,
            state.w[1] - config.lr / len(x) * error.T @ hidden,
        ]
    else:
        state.w = [state.w[0] - config.lr / len(x) * (activated(config, a)[0] - y).T @ x]


# --- everybody


def activated(config: Options, z: Reals) -> tuple[Reals, Reals]:
    """What is applied to z, and its derivative."""
    constant, linear, cubic = _SIGMOID
    if config.polynomial is Polynomial.SQUARE:
        return z * z, 2 * z
    if config.polynomial is Polynomial.CUBIC:
        return constant + linear * z + cubic * z**3, linear + 3 * cubic * z**2
    if config.hidden_units:
        return np.maximum(z, 0), (z > 0).astype(np.float64)
    p = 1 / (1 + np.exp(-z))
    return p, p * (1 - p)


def entering(config: Options, x: NDArray[Any]) -> Reals:
    """Samples (m, n + 1) as they enter: within +-1, and a column of ones."""
    return np.hstack([2 * np.asarray(x, np.float64) / config.x_max - 1, np.ones((len(x), 1))])


def targets(config: Options, labels: NDArray[Any]) -> Reals:
    """y (m, heads), 0 or 1; of rows of reals in an audit too."""
    hot = labels if labels.dtype.kind == "f" else np.eye(config.classes)[labels]
    return np.asarray(hot[:, -config.heads :], np.float64)


def rows_of(config: Options, batch: int) -> slice:
    """Where the samples of a batch stand."""
    return slice(batch * config.batch, min((batch + 1) * config.batch, config.counts[0]))


def batch_size(config: Options, batch: int) -> int:
    """Samples of a batch."""
    rows = rows_of(config, batch)
    return int(rows.stop - rows.start)


def label_level(config: Options) -> int:
    """At which level labels are subtracted: before the product with lr, or from the outputs."""
    if not config.hidden_units:
        return 2
    return 3


def trained(state: Owner | Cloud) -> dict[str, Reals]:
    """O, or C in the clear: the layers, and the noise of every refresh, for the experimenter."""
    layers = {f"w{k}": each.copy() for k, each in enumerate(state.w, 1)}
    return {**layers, "noise": np.array(state.noise, np.float64)}


def accuracy(revealed: Any, config: Options, x: NDArray[Any], y: NDArray[Any]) -> float:
    """Share of samples whose class is right."""
    scores = entering(config, x) @ revealed["w1"].T
    if config.hidden_units:
        scores = activated(config, scores)[0] @ revealed["w2"].T
    if config.heads > 1:
        return float((scores.argmax(axis=1) == y).mean())
    return float(((scores[:, 0] > (0.5 if config.hidden_units else 0)) == (y == 1)).mean())


def measured(revealed: Any, config: Options) -> dict[str, float]:
    """What O saw of the refreshes: how many, and the largest noise of a slot."""
    noise = revealed["noise"]
    if config.encryption is Encryption.NONE:
        return {}
    return {
        "refreshes": float(len(noise)),
        "levels a step": float(config.levels),
        "noise of a slot": float(max(noise)),
    }


def steps(config: Options) -> int:
    """Training steps of a run."""
    return config.epochs * config.batches


def check(config: Options) -> None:
    """Refuse, before anything is started, what cannot be encrypted here."""
    if len(config.counts) > 1:
        raise ConfigError(f"he-train has one owner, who holds the key: --owners 1, got {len(config.counts)}")
    if config.encryption is Encryption.NONE:
        return
    layout(config)
    for factor in factors(config):
        try:
            ckks.check_factor(factor)
        except BoundError as cause:
            raise ConfigError(f"--lr {config.lr:g} gives {cause}") from None
    if not ckks.available():
        raise ConfigError(f"he-train computes with TenSEAL, which is not installed: {ckks.INSTALL}")


def unprotected(config: Options) -> tuple[str, Options]:
    """The baseline: the same polynomials in the clear."""
    return NAME, replace(config, encryption=Encryption.NONE)


def describe(config: Options) -> dict[str, str]:
    """What protects a run, one line each."""
    if config.encryption is Encryption.NONE:
        return {"scheme": "NONE: samples and weights are in the clear at the cloud"}
    where = layout(config)
    return {
        "scheme": ckks.describe(config.params),
        "level budget": f"{config.levels} levels, which a step takes: a refresh at the owner after each, "
        f"{steps(config)} in all",
        "slots": f"{where.columns} columns of {where.units} x {config.batch} in {config.params.slots} slots, "
        f"{where.parts} ciphertexts a batch",
    }


def payload_nbytes(config: Options) -> int:
    """Bytes of full transcripts, about."""
    if config.encryption is Encryption.NONE:
        return config.counts[0] * config.features
    where, params = layout(config), config.params
    upper = config.heads if config.hidden_units else 0
    polynomial = 4 * params.dimension
    keys = (1 + len(where.rotations)) * params.moduli * (params.moduli + 1) * polynomial
    fresh = params.moduli * polynomial
    uploads = config.batches * (where.parts + max(1, upper)) * fresh
    return int(keys + uploads + (steps(config) + 1) * (where.parts + upper) * (fresh + 4 * polynomial))


def relations(view: View) -> Iterator[relation.Relation]:
    """What a reader of a transcript may write down."""
    yield from samples.own(view)
    if view.config.encryption is Encryption.NONE:
        yield from samples.clear(view, "x", relation.Samples)
        yield from samples.clear(view, "labels", relation.Labels)
        yield from samples.owned("weights", CLOUD_TRAINER.value, view, "it trains the network itself")
        yield relation.Plain(labels=("w",))
        return
    yield from samples.owned("weights", DATA_OWNER.value, view, "it decrypts them at every refresh")
    yield from samples.owned("master key", DATA_OWNER.value, view, "drawn by the owner itself")
    if view.parties == (CLOUD_TRAINER.value,):
        yield relation.Unopened(np.arange(view.config.counts[0]), lambda: looked_for(view))
    sealed = ["keys", "ct_w", "ct_x", "ct_y"]
    if any(role_of(party) is DATA_OWNER for party in view.parties):
        yield relation.Plain(labels=("ct_moved",), quantity="weights of every step, by sample")
    else:
        sealed.append("ct_moved")
    yield relation.Opaque(
        labels=tuple(sealed),
        why="CKKS ciphertexts, and keys for products and rotations, without the key that opens them",
    )


def looked_for(view: View) -> tuple[dict[str, str], str]:
    """How samples, labels, weights, and the key if it is found, show through the messages of a view without
    the key, and what was tried.
    """
    config: Options = view.config
    count, zeros, sealed = 0, list[bytes](), list[tuple[str, bytes]]()  # seeds of masks, by what they hide
    found = dict.fromkeys(_SEALED.values(), "nothing found")
    read, opened = False, False
    for row in view.rows("keys", Kind.RECEIVED):
        keys = view.value(row)
        zeros.append(keys.seed)
        opened = opened or ckks.opens_keys(keys)
    for label, quantity in _SEALED.items():
        for k, row in enumerate(view.rows(label, Kind.RECEIVED)):
            ct = view.value(row)
            count += ct.shape[0]
            if ckks.shows_through(ct):
                read, found[quantity] = True, "exact"
            if label == "ct_w" and k == 0 and not config.hidden_units:  # W = 0, as everybody knows
                opened = opened or ckks.opens_zeros(ct)
                zeros.append(ct.seed)
            else:
                sealed.append((quantity, ct.seed))
    masks = [*zeros, *(seed for _, seed in sealed)]
    again = len(set(masks)) < len(masks)
    if again:
        found = {quantity: "bounded" if how == "nothing found" else how for quantity, how in found.items()}
    found |= {quantity: "exact" for quantity, seed in sealed if seed in zeros}  # the difference is plain
    if opened:
        found = dict.fromkeys((*found, "master key"), "exact")
    tried = "digits of keys" if config.hidden_units else "digits of keys, and W = 0"
    beta = ckks.block_size(config.params)
    said = (
        f"{count} ciphertexts: {'a mask comes twice' if again else 'no mask comes twice'}, "
        f"{'one is' if read else 'none is'} read without a key; encryptions of zero ({tried}) "
        f"{'open the key' if opened else 'do not open the key'}; not tried: "
        f"to find it by BKZ of block size {beta} (core-SVP {core_svp.bits(beta):.0f} bit: {_MODELS})"
    )
    return found, said


_SEALED = MappingProxyType({"ct_x": "samples", "ct_y": "labels", "ct_w": "weights"})
_MODELS = (
    "of one call of a sieve; the standard's 128 bit count all calls and their steps, and are 99 of these"
)
