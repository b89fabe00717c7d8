"""Linear models on vertically split data, under functional encryption: FedV and its quadratic successor.

R. Xu, N. Baracaldo, Y. Zhou, A. Anwar, J. Joshi, H. Ludwig, *FedV*, AISec 2021, arXiv:2103.03918; S. Chen et
al., arXiv:2305.08358. Every owner holds columns of all samples, the first one their labels. The cloud C
trains a linear or a logistic model, sigma(z) ~ 1/2 + z/4, and asks the authority A for keys of its weights:

    mode       quadratic      C decrypts the gradient of a batch, g_i = sum_j (<w, x_j> - y_j) x_ji, alone
               fedv           C decrypts z_j = <w, x_j> - y_j of every sample, then <z, X_:i>
               clear          C is sent all columns and labels: the baseline, without rounding
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

A key budget (`key-budget:r`) is on the rank of the vectors that A issues keys for, of each instance: A
refuses keys that would raise it, by a message, and C returns to the weights that it has keys for and trains
no further, or the run stops there (`on_refusal`). Below B it leaves M_b open by as many dimensions; the r
steps that it grants are what training gets.

A query: the querier encrypts whole samples. Under `quadratic` they are a batch whose right side is r_ji = 1
for i = j, so that the gradient for weights w is <w, x_i>; at most n samples a ciphertext. Every key of the
training works on them too.

Deviations. Owners encrypt slices of one ciphertext with coins that they share (`crypto/shared.py`): the
papers build multi-input schemes. So owners are not protected from each other, and C with any one of them, or
with A, opens everything. `fedv` uses the scheme `ddh`, one instance for samples and one for rows of X_B^T,
without FedV's guard of A against keys that select single samples. No bias: a column of ones stands for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.crypto import ipfe_ddh, qfe, shared
from protocols.crypto.groups import workers
from protocols.crypto.ipfe_ddh import DdhCiphertext, DdhFunctionKey, DdhPublicKey
from protocols.crypto.qfe import QfeCiphertext, QfeFunctionKey, QfePublicKey
from protocols.crypto.shared import Shared
from protocols.language import relations as relation
from protocols.language.errors import ConfigError, KeysRefused, MalformedError
from protocols.language.figure import Arrow, Integers, sized
from protocols.language.roles import CLOUD_TRAINER, DATA_OWNER, KEY_AUTHORITY, Role
from protocols.language.session import Located, Session
from protocols.language.state import Authority, Cloud, Owner, State
from protocols.language.view import View
from protocols.parts import budget
from protocols.parts import column_queries as queries
from protocols.parts import columns_clear as clear
from protocols.parts import defences as defence
from protocols.parts.arrays import LABELS
from protocols.parts.budget import Refused
from protocols.parts.columns import (
    POINTS,
    Mode,
    Model,
    OnRefusal,
    Options,
    bounds,
    columns,
    error_vectors,
    forms,
    padded,
    per_upload,
    row_bounds,
    sample_bounds,
    starts,
    step_length,
    targets,
    uploads,
)
from protocols.readings import vertical

__all__ = ["Mode", "Model", "OnRefusal", "Options"]

NAME = "vertical_fe"
SUMMARY = "owners of columns encrypt them; the cloud trains a linear model from gradients that keys open"
SECURITY = "quadratic forms, or inner products, only; but keys of every step open every batch (moments)"
ROLES = (DATA_OWNER, KEY_AUTHORITY, CLOUD_TRAINER)
SPLITS = ("columns",)
_WEIGHTS = sized(Integers, "heads n")


_Public, _Encrypted, _Key = (
    QfePublicKey | DdhPublicKey,
    QfeCiphertext | DdhCiphertext,
    QfeFunctionKey | DdhFunctionKey,
)
_ENCRYPTED = "encrypts=yes"
FIGURE = (
    Arrow("setup", KEY_AUTHORITY, DATA_OWNER, "mpk", "public key", when=_ENCRYPTED, type=_Public),
    Arrow("setup", KEY_AUTHORITY, CLOUD_TRAINER, "mpk", "public key", when=_ENCRYPTED, type=_Public),
    Arrow("setup", KEY_AUTHORITY, DATA_OWNER, "mpk_batch", "of rows of X_B^T", when="mode=fedv",
          type=DdhPublicKey),
    Arrow("setup", KEY_AUTHORITY, CLOUD_TRAINER, "mpk_batch", "of rows of X_B^T", when="mode=fedv",
          type=DdhPublicKey),
    Arrow("setup", DATA_OWNER, DATA_OWNER, "shared", "coins of all owners", when=f"owners=many,{_ENCRYPTED}",
          type=Shared),
    Arrow("upload", DATA_OWNER, CLOUD_TRAINER, "ct", "Enc(X_i), of the first also Enc(y)", when=_ENCRYPTED,
          type=_Encrypted),
    Arrow("upload", DATA_OWNER, CLOUD_TRAINER, "ct_batch", "Enc of the rows of X_B^T", when="mode=fedv",
          type=DdhCiphertext),
    *clear.UPLOAD,
    Arrow("step", CLOUD_TRAINER, KEY_AUTHORITY, "w", "[w]", when=_ENCRYPTED, type=_WEIGHTS),
    Arrow("step", KEY_AUTHORITY, CLOUD_TRAINER, "refused", "in place of keys beyond the budget",
          when="budget=yes", type=Refused),
    Arrow("step", KEY_AUTHORITY, CLOUD_TRAINER, "sk", "keys of X^T (X w - y), or of X w - y", when=_ENCRYPTED,
          type=_Key),
    Arrow("step", CLOUD_TRAINER, KEY_AUTHORITY, "z", "[X_B w - y]", when="mode=fedv",
          type=sized(Integers, "heads B")),
    Arrow("step", KEY_AUTHORITY, CLOUD_TRAINER, "sk_z", "keys of z: of X_B^T z", when="mode=fedv",
          type=DdhFunctionKey),
)  # fmt: skip
PREDICT = (
    Arrow("predict", CLOUD_TRAINER, KEY_AUTHORITY, "w", "[w]", when=_ENCRYPTED, type=_WEIGHTS),
    Arrow("predict", KEY_AUTHORITY, CLOUD_TRAINER, "sk", "keys of X w", when=_ENCRYPTED, type=_Key),
    Arrow("predict", DATA_OWNER, CLOUD_TRAINER, "ct", "Enc(X)", when=_ENCRYPTED, type=_Encrypted),
    Arrow("predict", DATA_OWNER, CLOUD_TRAINER, "x", "X in the clear", when="mode=clear",
          type=sized(Integers, "m n")),
    Arrow("predict", CLOUD_TRAINER, DATA_OWNER, "classes", "X w", type=LABELS),
)  # fmt: skip


def roles(config: Options) -> tuple[Role, ...]:
    """Who takes part: nobody issues keys in the clear."""
    return ROLES if config.encrypts == "yes" else (DATA_OWNER, CLOUD_TRAINER)


def run(s: Session, config: Options) -> Iterator[Any]:
    """Train for the configured epochs; yields the weights after each, as revealed for measuring accuracy."""
    c, training = s.at(CLOUD_TRAINER), True
    one = {Mode.QUADRATIC: quadratic_step, Mode.FEDV: fedv_step, Mode.CLEAR: clear_step}[config.mode]
    with s.phase("setup"):
        if config.encrypts == "yes":
            set_up(s, config)
        c.do(start)
    for part in range(uploads(config)):
        with s.phase("upload", part):
            (upload if config.encrypts == "yes" else clear.upload)(s, config, part)
    for step in range(config.epochs * config.batches):
        with s.phase("step", step):
            if training and not one(s, config, step % config.batches):
                training = refused(config, step)
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


def quadratic_step(s: Session, config: Options, batch: int) -> bool:
    """C: the gradient alone; whether keys were granted."""
    a, c = s.at(KEY_AUTHORITY), s.at(CLOUD_TRAINER)
    w = c.send(a, w=c.do(quantised))  # C: [w]
    if not granted(s, config, "w", w):
        return False
    sk = a.send(c, sk=a.do(gradient_keys, w))  # A: sk of X^T (X w - y) by every weight
    c.do(update, c.do(gradient, sk, batch), batch)  # C: W <- W - lr g / B
    return True


def fedv_step(s: Session, config: Options, batch: int) -> bool:
    """C: the error of every sample, then the gradient; whether keys were granted."""
    a, c = s.at(KEY_AUTHORITY), s.at(CLOUD_TRAINER)
    w = c.send(a, w=c.do(quantised))  # C: [w]
    if not granted(s, config, "w", w):
        return False
    sk = a.send(c, sk=a.do(error_keys, w))  # A: sk of (w, -1) on (x_j, y_j)
    z = c.send(a, z=c.do(errors, sk, batch))  # C: z_j
    if not granted(s, config, "z", z):
        return False
    sk_z = a.send(c, sk_z=a.do(row_keys, z))  # A: sk of z
    c.do(update, c.do(summed, sk_z, batch), batch)  # C: g = X_B^T z, W <- W - lr g / B
    return True


def clear_step(s: Session, config: Options, batch: int) -> bool:
    """C: the gradient of samples that it holds."""
    c = s.at(CLOUD_TRAINER)
    c.do(update, c.do(clear.gradient, batch), batch)  # C: W <- W - lr g / B
    return True


def granted(s: Session, config: Options, name: str, rows: Located) -> bool:
    """Whether A issues keys for rows; where it does not it says so, and C returns to the last W."""
    a, c = s.at(KEY_AUTHORITY), s.at(CLOUD_TRAINER)
    if not config.key_budget or s.reveal(a.do(budget.judge, name, rows, config.key_budget), why="granted"):
        return True
    c.do(freeze, a.send(c, refused=a.do(budget.refusal, name, config.key_budget)))
    return False


def refused(config: Options, step: int) -> bool:
    """Whether training goes on without keys: it does not; `KeysRefused` where the run is to stop."""
    if config.on_refusal is OnRefusal.STOP:
        raise KeysRefused(
            f"key_authority refused the keys of step {step} (batch {step % config.batches}): the rank of "
            f"what it issued would pass the budget of {config.key_budget}; what crossed before is recorded"
        )
    return False


def predict(s: Session, config: Options, count: int) -> Iterator[Any]:
    """Ask for the classes of the querier's samples; yields those of each part."""
    derive = gradient_keys if config.mode is Mode.QUADRATIC else error_keys
    return queries.predict(s, config, count, quantised, derive)


def _mine(state: Owner, part: int) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """O: columns (batches, B, n_i) of an upload, and targets (batches, heads, B) of whoever has labels."""
    config, size = state.config, state.config.batch
    count = per_upload(config)
    rows = slice(part * count * size, min((part + 1) * count * size, config.counts[0]))
    x = padded(state.inputs["images"][rows], size)
    if "labels" not in state.inputs:
        return x, None
    return x, padded(targets(config, state.inputs["labels"][rows]), size).swapaxes(1, 2)


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
    state.held["ct"], state.held["ct_batch"], state.held["x"], state.held["t"] = [], [], [], []


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
    expected = min(per_upload(config), config.batches - before)
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


def freeze(state: Cloud, said: Refused) -> None:
    """C: return to the last W that it has keys for."""
    state.w = state.held["granted"]


def update(state: Cloud, g: NDArray[Any], batch: int) -> None:
    """C: W <- W - lr g / B."""
    state.held["granted"] = state.w
    state.w = moved(state.config, state.w, g, batch)


def moved(config: Options, w: NDArray[Any], g: NDArray[Any], batch: int) -> NDArray[np.float64]:
    """W after a step by the whole-numbered gradient g (heads, n) of a batch."""
    return w - g * step_length(config, batch)


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
    if config.mode is not Mode.CLEAR:
        scheme_of(config)
    if config.mode is Mode.FEDV:
        ipfe_ddh.parameters(row_bounds(config))
    if len(config.counts) > config.features:
        raise ConfigError(
            f"--owners: expected at most {config.features}, one for each column, got {len(config.counts)}"
        )
    most = config.batch if config.mode is Mode.QUADRATIC else config.features
    if config.key_budget and config.mode is Mode.CLEAR:
        raise ConfigError("--defence key-budget: nobody issues keys in the clear")
    if config.on_refusal is OnRefusal.STOP and not config.key_budget:
        raise ConfigError("--on-refusal stop: without --defence key-budget:R no key is refused")
    if config.key_budget >= max(most, config.features):
        raise ConfigError(
            f"--defence key-budget would never refuse: n = {config.features} is the largest rank"
        )


def describe(config: Options) -> dict[str, str]:
    """Parameters and security of what protects this run, a line each."""
    if config.mode is Mode.CLEAR:
        return {}
    scheme, params = scheme_of(config)
    return {"scheme": scheme.describe(params), **defence.described(config)}


def payload_nbytes(config: Options) -> int:
    """Bytes of full transcripts, about: ciphertexts, and keys of every step."""
    rows, heads = config.batches * config.batch, len(config.heads)
    if config.mode is Mode.CLEAR:
        return rows * config.features
    if config.mode is Mode.FEDV:
        return 64 * (rows * (config.features + heads) * 2 + len(config.counts) * config.features)
    keys = heads * config.features * 128
    return rows * (POINTS * config.features + 128 * heads) + steps(config) * keys


def unprotected(config: Options) -> tuple[str, Options]:
    """The baseline: the same training in the clear."""
    return NAME, replace(config, mode=Mode.CLEAR, key_budget=0, on_refusal=OnRefusal.FREEZE)


def kept(state: State) -> dict[str, Any]:
    """What a party needs to predict: C the weights, A the master key, C and who asks the public one."""
    if state.role is DATA_OWNER and state.index > 0:
        return {}
    found = {name: state.held[name] for name in ("mpk", "msk") if name in state.held}
    return {**found, "w": state.w} if state.role is CLOUD_TRAINER else found


def restore(state: State, kept: dict[str, Any]) -> None:
    """Take back what `kept` returned."""
    state.held |= {name: kept[name] for name in ("mpk", "msk") if name in kept}
    if "w" in kept:
        state.w = kept["w"]


def relations(view: View) -> Iterator[relation.Relation]:
    """What a reader of a transcript may write down."""
    config: Options = view.config
    if config.mode is Mode.CLEAR:
        yield from vertical.clear(view)
        return
    _, params = scheme_of(config)
    yield from vertical.relations(
        view,
        vertical.Layout(
            quadratic=config.mode is Mode.QUADRATIC,
            params=params,
            starts=partial(starts, config),
            widths=[len(mine) for mine in columns(config)],
            per_upload=per_upload(config),
            length=partial(step_length, config),
        ),
    )
