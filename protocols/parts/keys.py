"""Samples under inner-product encryption: what a master key protects, and the function keys that C asks for
W1.

An `Instance` is an encryption of the samples: of each sample (`x`, length n), or of the rows of X_B^T of each
batch (`batch`, length B). Its master key holds for the run, for an epoch (then all samples are encrypted
anew), or for one batch:

    fresh_keys       no key of one epoch opens another, but the samples are the same, so that their equations
                     stack as before
    batch_keys       h equations a sample for each visit of its own batch, instead of for every step

`ask(s, batch)` gives C the keys of the rows of W1 for a batch. Under batch keys A sets up an instance for
each owner and batch (also of one that has no more; it stays unused).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType, ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.crypto import ipfe_ddh, ipfe_lwe, ipfe_rlwe
from protocols.crypto.integers.core_svp import Issued
from protocols.crypto.records import Bounds
from protocols.language.figure import Arrow
from protocols.language.options import derived, option
from protocols.language.roles import CLOUD_TRAINER, DATA_OWNER, KEY_AUTHORITY
from protocols.language.session import Located, Session
from protocols.language.state import Authority, Cloud, Owner, State
from protocols.network import conv, training
from protocols.network.config import Convolved, KeyScope, Rounded, Scheme
from protocols.network.schedule import Batch, chunk_rows, chunks, steps_per_epoch
from protocols.parts.arrays import ROUNDED_W1

PUBLIC_KEY = ipfe_lwe.LwePublicKey | ipfe_rlwe.RlwePublicKey | ipfe_ddh.DdhPublicKey
CIPHERTEXT = ipfe_lwe.LweCiphertext | ipfe_rlwe.RlweCiphertext | ipfe_ddh.DdhCiphertext
FUNCTION_KEY = ipfe_lwe.LweFunctionKey | ipfe_rlwe.RlweFunctionKey | ipfe_ddh.DdhFunctionKey


@dataclass(frozen=True)
class Instance:
    """Samples under one kind of master key: the labels of its public keys and ciphertexts, and the steps that
    make and keep the latter.
    """

    kind: str
    mpk: str
    ct: str
    encrypt: Callable[..., Any]
    store: Callable[..., Any]

    def set_up(self, s: Session) -> None:
        """A draws a master key for all samples and publishes the public one."""
        o, a, c = s.each(DATA_OWNER), s.at(KEY_AUTHORITY), s.at(CLOUD_TRAINER)
        mpk = a.do(set_up_instance, self.kind)
        o.do(keep_key, self.kind, a.send(o, **{self.mpk: mpk}))
        c.do(keep_key, self.kind, a.send(c, **{self.mpk: mpk}))

    def set_up_part(self, s: Session, part: int) -> None:
        """A draws a master key for the batch of this number of every owner."""
        o, a, c = s.each(DATA_OWNER), s.at(KEY_AUTHORITY), s.at(CLOUD_TRAINER)
        mpks = a.do(set_up_instances, self.kind, part)
        o.do(keep_key, self.kind, a.send(o, **{self.mpk: s.scatter(mpks, o)}))
        c.do(keep_keys, self.kind, a.send(c, **{self.mpk: mpks}))

    def upload(self, s: Session, part: int, rows: int) -> None:
        """O encrypts a chunk of its samples; C keeps the ciphertexts."""
        o, c = s.each(DATA_OWNER), s.at(CLOUD_TRAINER)
        c.do(self.store, s.gather(o.send(c, **{self.ct: o.do(self.encrypt, part, rows)})))


@dataclass(frozen=True)
class Options(Rounded, Convolved):
    """How samples are encrypted."""

    scheme: Scheme = option(
        Scheme.LWE, "What protects the samples. A key budget that leaves under 80 bit of lwe or rlwe is void."
    )
    group: str = option("secp256k1", "Group for ddh and febo.")
    keys_for: KeyScope = derived("what a master key protects", KeyScope.RUN)


class OfRun:
    """One master key of each instance for the whole run."""

    SETUP = (
        Arrow("setup", KEY_AUTHORITY, DATA_OWNER, "mpk", "(mpk, msk) <- Setup(n)", type=PUBLIC_KEY),
        Arrow("setup", KEY_AUTHORITY, CLOUD_TRAINER, "mpk", type=PUBLIC_KEY | list[PUBLIC_KEY]),
    )
    UPLOAD = (Arrow("upload", DATA_OWNER, CLOUD_TRAINER, "ct", "Enc(x_j) of every sample", type=CIPHERTEXT),)
    STEP = (
        Arrow("step", CLOUD_TRAINER, KEY_AUTHORITY, "w1", "[W1] rounded", type=ROUNDED_W1),
        # Keys are linear in their rows: those of an epoch give all others, once they have the rank.
        Arrow(
            "step",
            KEY_AUTHORITY,
            CLOUD_TRAINER,
            "sk_w1",
            "h keys; C: Z1 = W1 X_B^T",
            type=FUNCTION_KEY,
            enough="keys_for=run,budget=no,first=,gradient=owner",
        ),
    )
    PREDICT = (
        Arrow("predict", KEY_AUTHORITY, DATA_OWNER, "mpk", "an instance of their own",
              when="keys_for=batch", type=PUBLIC_KEY),
        Arrow("predict", KEY_AUTHORITY, CLOUD_TRAINER, "mpk", when="keys_for=batch", type=PUBLIC_KEY),
        Arrow("predict", CLOUD_TRAINER, KEY_AUTHORITY, "w1", "[W1] rounded",
              when="query_keys=asked", type=ROUNDED_W1),
        Arrow("predict", KEY_AUTHORITY, CLOUD_TRAINER, "sk_w1", "h keys",
              when="query_keys=asked", type=FUNCTION_KEY),
        Arrow("predict", DATA_OWNER, CLOUD_TRAINER, "ct", "Enc(x)", type=CIPHERTEXT),
    )  # fmt: skip

    def __init__(self, config: Options, instances: tuple[Instance, ...]) -> None:
        self.config, self.instances = config, (SAMPLES, *instances)

    def set_up(self, s: Session) -> None:
        """A publishes what samples are encrypted under."""
        for instance in self.instances:
            instance.set_up(s)

    def upload(self, s: Session, *more: Any, epoch: int = 0) -> None:
        """All samples, in chunks, and `more` that belongs to them."""
        rows = upload_rows(self.config)
        parts = chunks(self.config, rows)
        for part in range(parts):
            self.before(s, part)
            with s.phase("upload", epoch * parts + part):
                for item in (*self.instances, *more):
                    item.upload(s, part, rows)

    def before(self, s: Session, part: int) -> None:
        """What precedes the upload of a chunk."""

    def renew(self, s: Session, epoch: int) -> None:
        """What precedes the steps of an epoch."""

    def name(self, kind: str, batch: Batch) -> str:
        """The name under which A holds the master key of a batch."""
        return kind

    def ask(self, s: Session, batch: Batch) -> Located:
        """Keys at C for the rows of W1."""
        return self.issue(s, self.name(SAMPLES.kind, batch), self.request(s))

    def request(self, s: Session) -> Located:
        """C: [W1]."""
        a, c = s.at(KEY_AUTHORITY), s.at(CLOUD_TRAINER)
        asked: Located = c.send(a, w1=c.do(training.quantised_w1))
        return asked

    def issue(self, s: Session, name: str, w1: Located) -> Located:
        """A: sk of every row."""
        a, c = s.at(KEY_AUTHORITY), s.at(CLOUD_TRAINER)
        sk: Located = a.send(c, sk_w1=a.do(derive_first_keys, name, w1))
        return sk

    def query(self, s: Session) -> Located:
        """Keys at C for samples that the trained network is asked about: A is asked once more."""
        return self.issue(s, SAMPLES.kind, self.request(s))

    def query_with_last(self, s: Session) -> Located:
        """The same where A grants no more: the keys that C was granted last."""
        sk: Located = s.at(CLOUD_TRAINER).do(last_keys)
        return sk


class OfEpoch(OfRun):
    """A new master key each epoch, and all samples encrypted anew under it."""

    def renew(self, s: Session, epoch: int) -> None:
        """From the second epoch on: other keys, other ciphertexts."""
        if epoch == 0:
            return
        with s.phase("setup", epoch):
            self.set_up(s)
        self.upload(s, epoch=epoch)


class OfBatch(OfRun):
    """A master key for each batch, which is a chunk of its own."""

    def set_up(self, s: Session) -> None:
        """Nothing: the keys of batches follow with their uploads."""

    def before(self, s: Session, part: int) -> None:
        """A publishes what the batches of this number are encrypted under."""
        with s.phase("setup", part):
            for instance in self.instances:
                instance.set_up_part(s, part)

    def name(self, kind: str, batch: Batch) -> str:
        """Each batch of each owner has a key of its own."""
        return f"{kind}:{batch.owner}:{batch.start // self.config.batch}"

    def query(self, s: Session) -> Located:
        """Samples that are asked about are under an instance of their own."""
        SAMPLES.set_up(s)
        return super().query(s)

    query_with_last = query


def scheme_of(config: Options) -> ModuleType:
    """The module of the scheme that protects the samples."""
    if config.scheme is Scheme.DDH:
        return ipfe_ddh
    return ipfe_lwe if config.scheme is Scheme.LWE else ipfe_rlwe


def bounds_of(config: Options, kind: str = "x") -> Bounds:
    """Bounds of <w, x>, of length n; or of <dz, row of X_B^T>, of length B."""
    length = config.features if kind == "x" else config.batch
    return Bounds(length, config.x_max, config.weights.limit)


def parameters(config: Options, kind: str = "x") -> Any:
    """The scheme's parameters for the bounds of <w, x>, or of products with rows of dZ1."""
    bounds = bounds_of(config, kind)
    if config.scheme is Scheme.DDH:
        return ipfe_ddh.parameters(bounds, config.group)
    return (
        ipfe_lwe.parameters(bounds)
        if config.scheme is Scheme.LWE
        else (ipfe_rlwe.parameters(bounds, issued(config, kind)))
    )


def issued(config: Options, kind: str = "x") -> Issued:
    """How many independent keys of one master key a run issues to a cloud that asks for rows of W1, or of
    dZ1; within the budget if there is one.

    Rows of W1 count as they are when training begins, uniform in +-1 / sqrt(L): later ones are longer, but
    what counts is by how much they differ from those before. Rows of dZ1: the longest that there are.
    """
    visits = {
        KeyScope.RUN: config.epochs * steps_per_epoch(config),
        KeyScope.EPOCH: steps_per_epoch(config),
        KeyScope.BATCH: config.epochs,
    }[config.keys_for]
    length, keys = bounds_of(config, kind).length, config.width if kind == "x" else config.layers[0]
    limit = getattr(config, "key_budget" if kind == "x" else "gradient_budget", 0)
    total = min(length, keys * visits, limit or length)
    weights = config.first_shape[1]
    # rounding adds 1 / 12 to the variance of a weight
    norm = math.sqrt(config.weight_scale**2 / 3 + weights / 12) if kind == "x" else None
    return Issued(min(length, keys, total), total, norm, bool(limit))


def described(config: Options, kind: str = "x") -> str:
    """The scheme's parameters and security in one line, and what the keys of the run leave of it."""
    return str(scheme_of(config).describe(parameters(config, kind), issued(config, kind)))


def upload_rows(config: Options) -> int:
    """Samples in a chunk; whole batches, or one that has a master key of its own."""
    if config.keys_for is KeyScope.BATCH:
        return config.batch
    return chunk_rows(config, ciphertext_nbytes(config, config.features))


def ciphertext_nbytes(config: Options, length: int) -> int:
    """Bytes of a ciphertext of a vector, about; under ring-LWE of one among very many."""
    if config.scheme is Scheme.RLWE:
        return 12 * (length + 1)
    return 8 * (ipfe_lwe.DIMENSION + length if config.scheme is Scheme.LWE else 9 * (length + 1))


def uploaded_chunk(held: list[list[Any]], batch: Batch, config: Options) -> tuple[Any, int]:
    """What the owner of a batch uploaded in the chunk that holds it, and the first row of the batch in it."""
    chunk, start = divmod(batch.start, upload_rows(config))
    return held[batch.owner][chunk], start


# -- O --


def encrypt_samples(state: Owner, part: int, rows: int) -> Any:
    """O: Enc(x_j) for a chunk of rows."""
    x = training.own_samples(state, part, rows)
    return scheme_of(state.config).encrypt(state.held["mpk", "x"][0], x, state.coins)


def encrypt_batches(state: Owner, part: int, rows: int) -> list[Any]:
    """O: Enc of the n rows of X_B^T, for every batch of a chunk; zeros fill a smaller batch."""
    config: Options = state.config
    scheme, mpk = scheme_of(config), state.held["mpk", "batch"][0]
    x, cts = training.own_samples(state, part, rows), []
    for start in range(0, len(x), config.batch):
        columns = x[start : start + config.batch].T
        block = np.zeros((config.features, config.batch), dtype=np.result_type(x, np.int64))
        block[:, : columns.shape[1]] = columns
        cts.append(scheme.encrypt(mpk, block, state.coins))
    return cts


# -- A --


def set_up_instance(state: Authority, kind: str) -> Any:
    """A: (mpk, msk) <- Setup, for all samples."""
    return _set_up(state, kind, kind)


def set_up_instances(state: Authority, kind: str, part: int) -> list[Any]:
    """A: the same for the batch of this number of every owner."""
    return [_set_up(state, kind, f"{kind}:{owner}:{part}") for owner in range(len(state.config.counts))]


def _set_up(state: State, kind: str, name: str) -> Any:
    config: Options = state.config
    mpk, state.held["msk", name] = scheme_of(config).setup(parameters(config, kind), state.coins)
    return mpk


def derive_keys(state: Authority, name: str, rows: NDArray[Any]) -> Any:
    """A: a function key for each row."""
    return scheme_of(state.config).key_derive(state.held["msk", name], rows)


def derive_first_keys(state: Authority, name: str, w1: NDArray[Any]) -> Any:
    """A: a function key for each row of W1; of a convolution, for each kernel at each position."""
    layer = state.config.conv
    return derive_keys(state, name, w1 if layer is None else conv.matrix(w1, layer))


# -- C --


def keep_key(state: Owner | Cloud, kind: str, mpk: Any) -> None:
    """O, C: keep the public key of every owner's samples; what was encrypted under the one before is of no
    use any more.
    """
    keep_keys(state, kind, [mpk])
    state.held["mpk", kind] *= len(state.config.counts)
    state.held.pop(("ct", kind), None)


def keep_keys(state: Owner | Cloud, kind: str, mpks: list[Any]) -> None:
    """C: keep the public keys of the batches that come next, one of each owner."""
    scheme, expected = scheme_of(state.config), parameters(state.config, kind)
    state.held["mpk", kind] = [scheme.check(mpk, expected) for mpk in mpks]


def store_ct(state: Cloud, cts: list[Any]) -> None:
    """C: check and keep each owner's ciphertexts, with the key that they are under."""
    load, held = scheme_of(state.config).load, state.held.setdefault(("ct", "x"), [[] for _ in cts])
    for parts, mpk, ct in zip(held, state.held["mpk", "x"], cts, strict=True):
        parts.append((mpk, load(mpk, ct)))


def store_ct_batches(state: Cloud, cts: list[list[Any]]) -> None:
    """C: check and keep each owner's ciphertexts of batches, with the key that they are under."""
    load, held = scheme_of(state.config).load, state.held.setdefault(("ct", "batch"), [[] for _ in cts])
    for parts, mpk, some in zip(held, state.held["mpk", "batch"], cts, strict=True):
        parts.append((mpk, [load(mpk, ct) for ct in some]))


def decrypt(state: Cloud, sk: Any, batch: Batch) -> NDArray[np.int64]:
    """C: the products of a batch with the rows that keys are for, (B, rows)."""
    config: Options = state.config
    (mpk, ct), start = uploaded_chunk(state.held["ct", "x"], batch, config)
    scheme = scheme_of(config)
    products: NDArray[np.int64] = scheme.decrypt(mpk, sk, scheme.rows(ct, start, start + batch.size))
    return products


def decrypt_gradient(state: Cloud, sk: Any, batch: Batch) -> NDArray[np.int64]:
    """C: dZ1 X_B of a batch (h, n), from keys of the rows of dZ1."""
    config: Options = state.config
    (mpk, cts), start = uploaded_chunk(state.held["ct", "batch"], batch, config)
    products: NDArray[np.int64] = scheme_of(config).decrypt(mpk, sk, cts[start // config.batch]).T
    return products


def keep_last(state: Cloud, sk: Any) -> None:
    """C: keep the keys that it was granted, and the W1 that they are for."""
    state.held["sk", "x"], state.held["granted"] = sk, training.give_first(state).copy()


def last_keys(state: Cloud) -> Any:
    """C: the keys that it was granted last."""
    return state.held["sk", "x"]


SAMPLES = Instance("x", "mpk", "ct", encrypt_samples, store_ct)
BATCHES = Instance("batch", "mpk_batch", "ct_batch", encrypt_batches, store_ct_batches)
SCOPES: MappingProxyType[KeyScope, type[OfRun]] = MappingProxyType({
    KeyScope.RUN: OfRun, KeyScope.EPOCH: OfEpoch, KeyScope.BATCH: OfBatch,
})  # fmt: skip
