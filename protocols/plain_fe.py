"""Training on functionally encrypted samples, as in CryptoNN and NN-EMD.

R. Xu, J. Joshi, C. Li, *CryptoNN*, ICDCS 2019, arXiv:1904.07303; R. Xu et al., *NN-EMD*, TDSC 2021, arXiv:2012.10547; attacked
in A. Ionita, A. Ionita, RAID 2025, arXiv:2509.21497. The cloud C holds samples under inner-product encryption, asks the
authority A in each step for function keys of the rows of W1, and decrypts Z1 = W1 X_B^T.

    scheme     lwe | ddh            what protects the samples
    labels     clear | febo         NN-EMD: in the clear; CryptoNN: under FEBO, where C decrypts Y - P
    gradient   owner | fe           dW1 comes from the owner, or C decrypts dZ1 X_B with keys of the rows of dZ1
    first      conv:FxRxC           the first layer is a convolution: C asks for keys of F kernels, at every position

What the parties learn by design: C learns Z1 and dW1 of every step, W1, and the labels (in the clear, or as P + (Y - P)). A
sees W1, with `gradient=fe` dZ1, and with `labels=febo` P, in the key requests. A function key works on every ciphertext of its master key, so with n
independent keys C solves for every sample: the attacks `stack` and `master_key` do.

A first convolution with P positions is F P inner products of an image. The image is encrypted once, as a vector of
length n, and A expands the F kernels that C asks for into the F P rows of the layer's matrix (`conv.matrix`, public
geometry). To encrypt each patch by itself would make the keys small, F a step, and the ciphertexts P times as many.
Under LWE, patches against whole images:

    digits 8 x 8, 4 kernels of 3 x 3         592 kB against 17 kB an image;    33 kB against 1.2 MB of keys a step
    MNIST 28 x 28, 6 of 5 x 5                9.6 MB against 23 kB              50 kB against 34 MB
    CIFAR gray 32 x 32, 6 of 5 x 5           13 MB against 25 kB               50 kB against 48 MB
    CIFAR RGB, 16 of 3 x 3                   15 MB against 41 kB               0.1 MB against 206 MB

so that MNIST would be 570 GB of ciphertexts, which C must keep, in place of 1.4 GB; and under DDH, whose keys are 32
bytes beside their vector, whole images are smaller at once. Decryption costs the same. The consequence for what
leaks: as F P >= n, the keys of a single step have rank n (unless the kernels have a common zero:
`parties/adversary/conv.py`); patches by themselves, each with F equations for its L pixels, would give the same
equations to whoever knows which patches overlap.
With `--malicious unit-keys` the cloud deviates: in its first ceil(n / h) steps it asks for keys of unit vectors in the place of [W1]
(`unit_rows` in the place of `quantised_w1`; nothing else changes, and the transcript names the step). What it then takes for Z1
are pixels of the batch, so these few steps train on what is no output of W1; all later ones are honest. The keys open every
ciphertext (attack `unit_keys`). The authority could see it: it is asked in the clear.
Defences (`defence.py`), and what they leave open:

    key_budget       A refuses keys for W1 beyond a rank (`budget.py`). C then returns to the last W1 that it was granted keys for, asks
                     no more, and trains the layers above. Says nothing of dW1, from which C learns a batch without any key for W1
    gradient_budget  the same for keys of dZ1 (`gradient=fe`), which belong to an instance of their own, of length B
    fresh_keys       a new master key each epoch, and the samples encrypted anew under it. No key of one epoch opens another, but the
                     samples are the same, so that their equations stack as before
    batch_keys       a master key for each batch: h equations a sample for each of its own visits, in place of all steps

Deviations from the papers: rounding to nearest instead of two decimals; a batch that is smaller than B is padded with zeros
in the second instance (`gradient=fe`); samples are uploaded in chunks of about 64 MB, and their `ct_batch`, which is larger, with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.crypto import febo, ipfe_ddh, ipfe_lwe
from protocols.crypto.groups.named import get_group
from protocols.crypto.records import Bounds
from protocols.language.errors import ConfigError
from protocols.language.figure import Arrow
from protocols.language.message import wire
from protocols.language.roles import CLOUD_TRAINER, DATA_OWNER, KEY_AUTHORITY
from protocols.language.session import Located, Session
from protocols.language.state import State
from protocols.network import conv, inference, training
from protocols.network.config import (
    Batch,
    Config,
    Deviation,
    Gradient,
    Init,
    KeyScope,
    Labels,
    Scheme,
    batches,
    chunk_rows,
    chunks,
    steps_per_epoch,
)
from protocols.parts import budget
from protocols.parts import defences as defence
from protocols.plain import sample_labels, samples

NAME = "plain_fe"
SUMMARY = "the cloud trains on functionally encrypted samples with function keys for the rows of W1"
SECURITY = "inner products only, by the scheme; but the keys of training open everything (stack, master_key)"
ROLES = (DATA_OWNER, KEY_AUTHORITY, CLOUD_TRAINER)

_POINT = 64  # bytes of a point of the default group, for estimates

FIGURE = (
    Arrow("setup", KEY_AUTHORITY, DATA_OWNER, "mpk", "(mpk, msk) <- Setup(n)"),
    Arrow("setup", KEY_AUTHORITY, CLOUD_TRAINER, "mpk"),
    Arrow("setup", KEY_AUTHORITY, DATA_OWNER, "mpk_batch", "Setup(B)", when="gradient=fe"),
    Arrow("setup", KEY_AUTHORITY, CLOUD_TRAINER, "mpk_batch", when="gradient=fe"),
    Arrow("setup", KEY_AUTHORITY, DATA_OWNER, "mpk_labels", "FEBO.Setup()", when="labels=febo"),
    Arrow("setup", KEY_AUTHORITY, CLOUD_TRAINER, "mpk_labels", when="labels=febo"),
    Arrow("upload", DATA_OWNER, CLOUD_TRAINER, "ct", "Enc(x_j) of every sample"),
    Arrow(
        "upload",
        DATA_OWNER,
        CLOUD_TRAINER,
        "ct_batch",
        "Enc(rows of X_B^T) of every batch",
        when="gradient=fe",
    ),
    Arrow("upload", DATA_OWNER, CLOUD_TRAINER, "labels", "y in the clear", when="labels=clear"),
    Arrow("upload", DATA_OWNER, CLOUD_TRAINER, "ct_labels", "FEBO(Y)", when="labels=febo"),
    Arrow("step", CLOUD_TRAINER, KEY_AUTHORITY, "w1", "[W1] rounded"),
    Arrow("step", KEY_AUTHORITY, CLOUD_TRAINER, "sk_w1", "h keys; C: Z1 = W1 X_B^T"),
    Arrow(
        "step",
        KEY_AUTHORITY,
        CLOUD_TRAINER,
        "refused",
        "in place of keys beyond the budget",
        when="budget=yes",
    ),
    Arrow("step", CLOUD_TRAINER, KEY_AUTHORITY, "p", "(commitment, -, P)", when="labels=febo"),
    Arrow("step", KEY_AUTHORITY, CLOUD_TRAINER, "sk_labels", "k B keys; C: Y - P", when="labels=febo"),
    Arrow("step", CLOUD_TRAINER, KEY_AUTHORITY, "dz1", "[dZ1] rounded", when="gradient=fe"),
    Arrow("step", KEY_AUTHORITY, CLOUD_TRAINER, "sk_dz1", "h keys; C: dZ1 X_B", when="gradient=fe"),
    Arrow("step", CLOUD_TRAINER, DATA_OWNER, "dz1", "dZ1", when="gradient=owner"),
    Arrow("step", DATA_OWNER, CLOUD_TRAINER, "dw1", "dW1 = dZ1 X_B / B", when="gradient=owner"),
)

PREDICT = (
    Arrow("predict", KEY_AUTHORITY, DATA_OWNER, "mpk", "an instance of their own", when="keys_for=batch"),
    Arrow("predict", KEY_AUTHORITY, CLOUD_TRAINER, "mpk", when="keys_for=batch"),
    Arrow("predict", CLOUD_TRAINER, KEY_AUTHORITY, "w1", "[W1] rounded", when="query_keys=asked"),
    Arrow("predict", KEY_AUTHORITY, CLOUD_TRAINER, "sk_w1", "h keys", when="query_keys=asked"),
    Arrow("predict", DATA_OWNER, CLOUD_TRAINER, "ct", "Enc(x)"),
    Arrow("predict", CLOUD_TRAINER, DATA_OWNER, "classes", "C: Z1 = W1 x, layers above"),
)


@wire
@dataclass(frozen=True)
class LabelRequest:
    """What C asks keys for, element by element: (commitment, -, P), with P (B, k) in fixed point."""

    commitments: NDArray[np.uint8]
    p: NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.p.shape


def run(s: Session, config: Config) -> Iterator[dict[str, Any]]:
    """Train for the configured epochs; yields the weights after each, as revealed for measuring accuracy."""
    c = s.at(CLOUD_TRAINER)
    with s.phase("setup"):
        set_up(s, config)
        c.do(training.start_model)
    upload_all(s, config, 0)
    step, granted = 0, Granted()
    for epoch in range(config.epochs):
        if epoch and config.keys_for is KeyScope.EPOCH and not granted.frozen:
            with s.phase("setup", epoch):
                set_up_samples(s, config)
            upload_all(s, config, epoch)
        for batch in batches(config):
            with s.phase("step", step):
                train_step(s, config, batch, step, granted)
            step += 1
        with s.phase("accuracy", step):
            yield s.reveal(c.do(training.weights), why="accuracy")


class Granted:
    """Handles of the keys at C, by instance, and whether A has refused more: then W1 is frozen."""

    def __init__(self) -> None:
        self.keys: dict[str, Located] = {}
        self.frozen = False


def set_up(s: Session, config: Config) -> None:
    """A draws the master keys and publishes the public ones; those of batches follow with their uploads."""
    if config.keys_for is not KeyScope.BATCH:
        set_up_samples(s, config)
    if config.labels is Labels.FEBO:
        o, a, c = s.each(DATA_OWNER), s.at(KEY_AUTHORITY), s.at(CLOUD_TRAINER)
        mpk = a.do(setup_labels)
        o.do(keep_key, "labels", a.send(o, mpk_labels=mpk))
        c.do(keep_key, "labels", a.send(c, mpk_labels=mpk))


def set_up_samples(s: Session, config: Config) -> None:
    """An instance for all samples, and with `gradient=fe` one for their batches."""
    o, a, c = s.each(DATA_OWNER), s.at(KEY_AUTHORITY), s.at(CLOUD_TRAINER)
    mpk = a.do(setup_samples)
    o.do(keep_key, "x", a.send(o, mpk=mpk))
    c.do(keep_key, "x", a.send(c, mpk=mpk))
    if config.gradient is Gradient.FE:
        mpk = a.do(setup_batches)
        o.do(keep_key, "batch", a.send(o, mpk_batch=mpk))
        c.do(keep_key, "batch", a.send(c, mpk_batch=mpk))


def set_up_part(s: Session, config: Config, part: int) -> None:
    """`batch_keys`: an instance for the batch of this number of every owner (also of one that has no more; it stays unused)."""
    o, a, c = s.each(DATA_OWNER), s.at(KEY_AUTHORITY), s.at(CLOUD_TRAINER)
    mpks = a.do(setup_part, "x", part)
    o.do(keep_key, "x", a.send(o, mpk=s.scatter(mpks, o)))
    c.do(keep_part_keys, "x", part, a.send(c, mpk=mpks))
    if config.gradient is Gradient.FE:
        mpks = a.do(setup_part, "batch", part)
        o.do(keep_key, "batch", a.send(o, mpk_batch=s.scatter(mpks, o)))
        c.do(keep_part_keys, "batch", part, a.send(c, mpk_batch=mpks))


def upload_all(s: Session, config: Config, epoch: int) -> None:
    """All samples, in chunks; of an epoch with a fresh master key, in uploads of its own."""
    rows = upload_rows(config)
    parts = chunks(config, rows)
    for part in range(parts):
        if config.keys_for is KeyScope.BATCH:
            with s.phase("setup", part):
                set_up_part(s, config, part)
        with s.phase("upload", epoch * parts + part):
            upload(s, config, part, rows)
            if epoch == 0:
                upload_labels(s, config, part, rows)


def upload(s: Session, config: Config, part: int, rows: int) -> None:
    """O encrypts a chunk of its samples; C keeps the ciphertexts."""
    o, c = s.each(DATA_OWNER), s.at(CLOUD_TRAINER)
    c.do(store_ct, part, s.gather(o.send(c, ct=o.do(encrypt_samples, part, rows))))
    if config.gradient is Gradient.FE:
        c.do(store_ct_batches, part, s.gather(o.send(c, ct_batch=o.do(encrypt_batches, part, rows))))


def upload_labels(s: Session, config: Config, part: int, rows: int) -> None:
    """O hands over the labels of a chunk, in the clear or under FEBO."""
    o, c = s.each(DATA_OWNER), s.at(CLOUD_TRAINER)
    if config.labels is Labels.CLEAR:
        c.do(store_labels, s.gather(o.send(c, labels=o.do(sample_labels, part, rows))))
    else:
        c.do(store_ct_labels, s.gather(o.send(c, ct_labels=o.do(encrypt_labels, part, rows))))


def train_step(s: Session, config: Config, batch: Batch, step: int, granted: Granted) -> None:
    """One step on one batch: forward under functional encryption, backward in the clear."""
    o, a, c = s.at(DATA_OWNER, batch.owner), s.at(KEY_AUTHORITY), s.at(CLOUD_TRAINER)
    # fmt: off
    if not granted.frozen or instance(config, "x", batch) not in granted.keys:
        ask_keys(s, config, batch, step, granted)                               # C: [W1]; A: sk of every row
    p = c.do(forward, granted.keys[instance(config, "x", batch)], batch)        # C: Z1 = Dec(sk, ct), P
    if config.labels is Labels.CLEAR:
        dz1 = c.do(backward, p, batch)                                          # C: dZ1 from P - y
    else:
        asked = c.send(a, p=c.do(ask_labels, p, batch))                         # C: (commitment, -, P)
        sk = a.send(c, sk_labels=a.do(derive_label_keys, asked))                # A: a key for each element
        dz1 = c.do(backward_encrypted, sk, batch)                               # C: Y - P = Dec(sk, ct), dZ1
    if granted.frozen:
        return                                                                  # W1 stays: nobody is asked for dW1
    if config.gradient is Gradient.OWNER:
        dw1 = o.send(c, dw1=o.do(owner_gradient, c.send(o, dz1=dz1), batch))    # O: dW1 = dZ1 X_B / B
        c.do(update_from_owner, dw1)                                            # C: W1 <- W1 - lr v
    elif within_budget(s, config, "batch", batch, rows := c.send(a, dz1=c.do(rounded_dz1, dz1)), granted):  # C: [dZ1]
        sk = a.send(c, sk_dz1=a.do(derive_keys, instance(config, "batch", batch), rows))  # A: sk of every row of dZ1
        c.do(update_from_ct, sk, batch)                                         # C: dW1 = Dec(sk, ct) / B, W1
    # fmt: on


def deviates(config: Config, step: int) -> bool:
    """Whether the cloud is malicious in a step."""
    return config.deviation is Deviation.UNIT_KEYS and step < deviating_steps(config)


def deviating_steps(config: Config) -> int:
    """Steps until keys of all n unit vectors were asked for, h a step."""
    return -(-config.features // config.layers[0])


def unit_rows(state: State, step: int) -> NDArray[Any]:
    """C, malicious: the next h unit vectors (h, n); after the last one it begins anew."""
    config: Config = state.config
    h, n = config.layers[0], config.features
    units: NDArray[Any] = np.eye(n, dtype=config.weights.dtype)[(step * h + np.arange(h)) % n]
    return units


def ask_keys(s: Session, config: Config, batch: Batch, step: int, granted: Granted) -> None:
    """C asks for keys of W1, which it is granted or, beyond the budget, refused."""
    a, c = s.at(KEY_AUTHORITY), s.at(CLOUD_TRAINER)
    name = instance(config, "x", batch)
    w1 = (
        c.do(unit_rows, step) if deviates(config, step) else c.do(training.quantised_w1)
    )  # a malicious C asks for unit vectors
    w1 = c.send(a, w1=w1)
    if not within_budget(s, config, "x", batch, w1, granted):
        return
    if config.budget == "no":
        granted.keys.clear()
    sk = granted.keys[name] = a.send(c, sk_w1=a.do(derive_first_keys, name, w1))
    if config.budget == "yes":
        c.do(keep_granted, sk)


def within_budget(
    s: Session, config: Config, kind: str, batch: Batch, rows: Located, granted: Granted
) -> bool:
    """Whether A grants keys for these rows; if not, it says so, and C freezes W1."""
    a, c, name = s.at(KEY_AUTHORITY), s.at(CLOUD_TRAINER), instance(config, kind, batch)
    limit = config.key_budget if kind == "x" else config.gradient_budget
    if not limit or s.reveal(a.do(budget.judge, name, rows, limit), why="granted"):
        return True
    c.do(freeze, a.send(c, refused=a.do(budget.refusal, name, limit)))
    granted.frozen = True
    return False


def instance(config: Config, kind: str, batch: Batch) -> str:
    """The name of the instance that a batch is encrypted under, of the samples (`x`) or for their gradient (`batch`)."""
    return (
        f"{kind}:{batch.owner}:{batch.start // config.batch}" if config.keys_for is KeyScope.BATCH else kind
    )


def predict(s: Session, config: Config, count: int) -> Iterator[NDArray[Any]]:
    """Ask for the classes of the querier's samples, which stay encrypted; yields those of each part."""
    o, a, c = s.at(DATA_OWNER), s.at(KEY_AUTHORITY), s.at(CLOUD_TRAINER)
    rows = min(upload_rows(config), inference.ROWS)
    for part in inference.parts(count, rows):
        with s.phase("predict", part):
            # fmt: off
            if part == 0 and config.keys_for is KeyScope.BATCH:
                mpk = a.do(setup_samples)                                       # A: Setup(n), for what is asked
                o.do(keep_key, "x", a.send(o, mpk=mpk))
                c.do(keep_key, "x", a.send(c, mpk=mpk))
            if part == 0 and config.query_keys == "asked":
                w1 = c.do(training.quantised_w1)                                # C: [W1]
                sk = a.send(c, sk_w1=a.do(derive_first_keys, "x", c.send(a, w1=w1)))  # A: sk of every row
            elif part == 0:
                sk = c.do(granted_keys)                                         # C: the last that it was granted
            ct = o.send(c, ct=o.do(encrypt_samples, part, rows))                # O: Enc(x)
            told = c.send(o, classes=c.do(decrypted_classes, sk, ct))           # C: Z1 = Dec(sk, ct)
            # fmt: on
            yield s.reveal(o.do(inference.take_classes, told), why="prediction")


def decrypted_classes(state: State, sk: Any, ct: Any) -> NDArray[Any]:
    """C: Z1 = Dec(sk, ct), and the class of each sample."""
    scheme, mpk = scheme_of(state.config), state.held["mpk", "x"]
    z1 = scheme.decrypt(mpk, sk, scheme.load(mpk, ct))
    return inference.classes(state, training.dequantise(z1, state.config))


def kept(state: State) -> dict[str, Any]:
    """What a party needs to predict: A the master key, O and C the public one, C the network and, under a budget, its keys."""
    model = inference.model(state) if state.role is CLOUD_TRAINER else {}
    if state.config.keys_for is KeyScope.BATCH:
        return {"msk": None} if state.role is KEY_AUTHORITY else model  # a query has an instance of its own
    if state.role is KEY_AUTHORITY:
        return {"msk": state.held["msk", "x"]}
    return {
        "mpk": state.held["mpk", "x"],
        **model,
        **({"sk": state.held["sk", "x"]} if ("sk", "x") in state.held else {}),
    }


def restore(state: State, kept: dict[str, Any]) -> None:
    """Take back what `kept` returned."""
    for name in ("msk", "mpk", "sk"):
        if name in kept:
            state.held[name, "x"] = kept[name]
    inference.load_model(state, kept)


def upload_rows(config: Config) -> int:
    """Samples in a chunk; whole batches, or one that has a master key of its own."""
    if config.keys_for is KeyScope.BATCH:
        return config.batch
    words = 2048 + config.features if config.scheme is Scheme.LWE else 9 * (config.features + 1)
    return chunk_rows(config, 8 * words)


def payload_nbytes(config: Config) -> int:
    """About how many bytes full transcripts take: every message at both ends, equal payloads of a party once."""
    n, h, size, samples = config.features, config.width, config.batch, sum(config.counts)
    first = prod(config.first_shape)
    fe, encrypted_labels = config.gradient is Gradient.FE, config.labels is Labels.FEBO
    lwe = config.scheme is Scheme.LWE

    def ciphertexts(count: int, length: int) -> int:
        return count * (8 * (ipfe_lwe.DIMENSION + length) if lwe else _POINT * (length + 1))

    def keys(length: int) -> int:
        return h * (2 * length + (4 * ipfe_lwe.DIMENSION if lwe else 32))

    instances = {KeyScope.RUN: 1, KeyScope.EPOCH: config.epochs, KeyScope.BATCH: steps_per_epoch(config)}[
        config.keys_for
    ]
    uploads = config.epochs if config.keys_for is KeyScope.EPOCH else 1
    upload = ciphertexts(samples, n) + (ciphertexts(samples // size * n, size) if fe else 0)
    labels = samples * config.classes * 2 * _POINT if encrypted_labels else 8 * samples
    public = (8 * ipfe_lwe.DIMENSION if lwe else _POINT) * (n + (size if fe else 0))
    step = 2 * first + keys(n) + (2 * h * size + keys(size) if fe else 4 * (h * size + first))
    step += size * config.classes * (2 * _POINT + 2) if encrypted_labels else 0
    return 3 * instances * public + 2 * (
        uploads * upload + labels + config.epochs * steps_per_epoch(config) * step
    )


def scheme_of(config: Config) -> ModuleType:
    """The module of the scheme that protects the samples."""
    return ipfe_ddh if config.scheme is Scheme.DDH else ipfe_lwe


def sample_bounds(config: Config) -> Bounds:
    """Bounds of <w, x>: length n."""
    return Bounds(config.features, config.x_max, config.weights.limit)


def batch_bounds(config: Config) -> Bounds:
    """Bounds of <dz, row of X_B^T>: length B."""
    return Bounds(config.batch, config.x_max, config.weights.limit)


def parameters(config: Config, bounds: Bounds) -> Any:
    """The scheme's parameters for these bounds."""
    if config.scheme is Scheme.DDH:
        return ipfe_ddh.parameters(bounds, config.group)
    return ipfe_lwe.parameters(bounds)


def check(config: Config) -> None:
    """Refuse, before anything is started, a configuration that the schemes cannot carry."""
    if not config.weight_scale:
        raise ConfigError("plain-fe encrypts integers: --weight-scale must be at least 1")
    if config.labels is Labels.OWNER or config.init is not Init.CLOUD:
        raise ConfigError("in plain-fe the cloud holds the whole network: --labels clear or febo")
    if config.first and config.deviation is not Deviation.NONE:
        raise ConfigError("--malicious unit-keys asks for rows of a dense W1: not with --first")
    if config.first and (config.key_budget or config.gradient_budget or config.keys_for is not KeyScope.RUN):
        raise ConfigError(
            "--first: the keys of one step open every sample already; --defence with keys is for a dense W1"
        )
    if config.keys_for is KeyScope.BATCH and config.deviation is not Deviation.NONE:
        raise ConfigError(
            "--malicious unit-keys asks for keys of one instance: not with --defence batch-keys"
        )
    if 0 < config.key_budget < config.layers[0]:
        raise ConfigError(
            f"--defence key-budget:{config.key_budget} would refuse the first h = {config.layers[0]} keys"
        )
    if config.key_budget >= config.features or config.gradient_budget >= config.batch:
        sizes = f"n = {config.features} for keys of W1, B = {config.batch} for keys of dZ1"
        raise ConfigError(
            f"--defence key-budget and gradient-budget would never refuse: ranks are at most {sizes}"
        )
    if config.gradient_budget and config.gradient is not Gradient.FE:
        raise ConfigError("--defence gradient-budget is for --gradient fe: else nobody asks keys for dZ1")
    get_group(config.group)
    describe(config)


def describe(config: Config) -> dict[str, str]:
    """Parameters and security of what protects this run, a line each."""
    lines = {"scheme": scheme_of(config).describe(parameters(config, sample_bounds(config)))}
    if config.gradient is Gradient.FE:
        lines["scheme of batches"] = scheme_of(config).describe(parameters(config, batch_bounds(config)))
    clear = "in the clear to the cloud"
    if config.first:
        lines["first layer"] = f"{config.first}: {config.width} keys a step, for {config.features} pixels"
    if config.deviation is Deviation.UNIT_KEYS:
        steps = min(deviating_steps(config), config.epochs * steps_per_epoch(config))
        lines["cloud"] = (
            f"MALICIOUS: asks for keys of unit vectors in the place of W1, in the first {steps} steps"
        )
    lines["labels"] = clear if config.labels is Labels.CLEAR else febo.describe(label_parameters(config))
    return {**lines, **defence.described(config)}


def setup_samples(state: State) -> Any:
    """A: (mpk, msk) <- Setup(n)."""
    return _setup(state, "x", sample_bounds(state.config))


def setup_batches(state: State) -> Any:
    """A: a second instance of length B, for the gradient."""
    return _setup(state, "batch", batch_bounds(state.config))


def setup_part(state: State, kind: str, part: int) -> list[Any]:
    """A: an instance for the batch of this number of every owner, of the samples (`x`) or for their gradient (`batch`)."""
    config: Config = state.config
    bounds = sample_bounds(config) if kind == "x" else batch_bounds(config)
    return [_setup(state, f"{kind}:{owner}:{part}", bounds) for owner in range(len(config.counts))]


def _setup(state: State, name: str, bounds: Bounds) -> Any:
    scheme = scheme_of(state.config)
    mpk, msk = scheme.setup(parameters(state.config, bounds), state.coins)
    state.held["msk", name] = msk
    return mpk


def setup_labels(state: State) -> Any:
    """A: FEBO for the labels."""
    mpk, state.held["msk", "labels"] = febo.setup(label_parameters(state.config), state.coins)
    return mpk


def keep_key(state: State, name: str, mpk: Any) -> None:
    """O, C: keep a public key; what was encrypted under the one before is of no use any more."""
    state.held["mpk", name] = mpk
    state.held.pop({"x": "ct", "batch": "ct_batch"}.get(name), None)


def keep_part_keys(state: State, kind: str, part: int, mpks: list[Any]) -> None:
    """C: keep the public keys of the batch of this number of every owner."""
    state.held |= {("mpk", f"{kind}:{owner}:{part}"): mpk for owner, mpk in enumerate(mpks)}


def encrypt_samples(state: State, part: int, rows: int) -> Any:
    """O: Enc(x_j) for a chunk of rows."""
    scheme = scheme_of(state.config)
    return scheme.encrypt(state.held["mpk", "x"], samples(state, part, rows), state.coins)


def encrypt_batches(state: State, part: int, rows: int) -> list[Any]:
    """O: Enc of the n rows of X_B^T, for every batch of a chunk; zeros fill a smaller batch."""
    config: Config = state.config
    scheme, x = scheme_of(config), samples(state, part, rows)
    cts = []
    for start in range(0, len(x), config.batch):
        block = np.zeros((config.features, config.batch), dtype=np.int64)
        columns = x[start : start + config.batch].T
        block[:, : columns.shape[1]] = columns
        cts.append(scheme.encrypt(state.held["mpk", "batch"], block, state.coins))
    return cts


def encrypt_labels(state: State, part: int, rows: int) -> Any:
    """O: FEBO(Y), element by element, of one-hot labels in fixed point."""
    y = training.rounded_labels(sample_labels(state, part, rows), state.config)
    return febo.encrypt(state.held["mpk", "labels"], y, state.coins)


def store_ct(state: State, part: int, cts: list[Any]) -> None:
    """C: check and keep each owner's ciphertexts."""
    scheme = scheme_of(state.config)
    _store(state, "ct", [scheme.load(_uploaded(state, "x", owner, part), ct) for owner, ct in enumerate(cts)])


def store_ct_batches(state: State, part: int, cts: list[list[Any]]) -> None:
    """C: check and keep each owner's ciphertexts of batches."""
    scheme = scheme_of(state.config)
    mpks = [_uploaded(state, "batch", owner, part) for owner in range(len(cts))]
    _store(
        state,
        "ct_batch",
        [[scheme.load(mpk, ct) for ct in some] for mpk, some in zip(mpks, cts, strict=True)],
    )


def _uploaded(state: State, kind: str, owner: int, part: int) -> Any:
    """C: the public key of an upload."""
    scope = state.config.keys_for
    return state.held["mpk", f"{kind}:{owner}:{part}" if scope is KeyScope.BATCH else kind]


def store_ct_labels(state: State, cts: list[Any]) -> None:
    """C: keep each owner's encrypted labels; decryption checks their elements."""
    _store(state, "ct_labels", cts)


def store_labels(state: State, labels: list[NDArray[Any]]) -> None:
    """C: keep each owner's labels."""
    _store(state, "labels", labels)


def _store(state: State, name: str, items: list[Any]) -> None:
    """Append one item for each owner."""
    for parts, item in zip(state.held.setdefault(name, [[] for _ in items]), items, strict=True):
        parts.append(item)


def derive_keys(state: State, name: str, rows: NDArray[Any]) -> Any:
    """A: a function key for each row."""
    return scheme_of(state.config).key_derive(state.held["msk", name], rows)


def derive_first_keys(state: State, name: str, w1: NDArray[Any]) -> Any:
    """A: a function key for each row of W1; of a convolution, for each kernel at each position."""
    layer = state.config.conv
    return derive_keys(state, name, w1 if layer is None else conv.matrix(w1, layer))


def forward(state: State, sk: Any, batch: Batch) -> Any:
    """C: Z1 = Dec(sk, ct) of a batch, and the forward pass."""
    config: Config = state.config
    scheme = scheme_of(config)
    z1 = scheme.decrypt(state.held["mpk", instance(config, "x", batch)], sk, batch_ct(state, scheme, batch))
    return training.forward_upper(state, training.dequantise(z1, config))


def batch_ct(state: State, scheme: ModuleType, batch: Batch) -> Any:
    """C: the ciphertexts of a batch, out of the chunk that holds it."""
    chunk, start = divmod(batch.start, upload_rows(state.config))
    return scheme.rows(state.held["ct"][batch.owner][chunk], start, start + batch.size)


def backward(state: State, p: Any, batch: Batch) -> NDArray[np.float32]:
    """C: dZ1, with labels in the clear."""
    chunk, start = divmod(batch.start, upload_rows(state.config))
    labels = state.held["labels"][batch.owner][chunk][start : start + batch.size]
    return training.backward_upper(state, training.output_error(p, labels, state.config))


def ask_labels(state: State, p: Any, batch: Batch) -> LabelRequest:
    """C: the request (commitment, -, P) for each element."""
    return LabelRequest(label_ct(state, batch).commitments, training.rounded_p(p, state.config))


def label_ct(state: State, batch: Batch) -> Any:
    """C: the encrypted labels of a batch."""
    chunk, start = divmod(batch.start, upload_rows(state.config))
    return febo.rows(state.held["ct_labels"][batch.owner][chunk], start, start + batch.size)


def derive_label_keys(state: State, asked: LabelRequest) -> Any:
    """A: cmt^s g^P for each element."""
    return febo.key_derive(state.held["msk", "labels"], asked.commitments, febo.Operation.SUB, asked.p)


def backward_encrypted(state: State, sk: Any, batch: Batch) -> NDArray[np.float32]:
    """C: Y - P of a batch, and dZ1."""
    y_minus_p = febo.decrypt(state.held["mpk", "labels"], sk, label_ct(state, batch))
    return training.backward_upper(state, training.restored_error(y_minus_p, state.config))


def owner_gradient(state: State, dz1: NDArray[np.float32], batch: Batch) -> NDArray[np.float32]:
    """O: dW1 = dZ1 X_B / B of its own batch."""
    x = training.batch_slice(state.inputs["images"], batch)
    dw1: NDArray[np.float32] = training.first_layer_gradient(dz1, x, state.config).numpy()
    return dw1


def update_from_owner(state: State, dw1: NDArray[np.float32]) -> None:
    """C: update W1 with the owner's dW1."""
    training.update_w1(state, training.tensor(dw1))


def rounded_dz1(state: State, dz1: NDArray[np.float32]) -> NDArray[Any]:
    """C: the rows of dZ1 (h, B) as integers, zeros beyond a smaller batch."""
    config: Config = state.config
    rows = np.zeros((config.width, config.batch), dtype=config.weights.dtype)
    rows[:, : len(dz1)] = training.quantise(dz1, config, "dZ1").T
    return rows


def update_from_ct(state: State, sk: Any, batch: Batch) -> None:
    """C: dW1 = dZ1 X_B / B by decryption, and the update of W1."""
    config: Config = state.config
    chunk, start = divmod(batch.start, upload_rows(config))
    ct = state.held["ct_batch"][batch.owner][chunk][start // config.batch]
    products = scheme_of(config).decrypt(state.held["mpk", instance(config, "batch", batch)], sk, ct).T
    layer = config.conv
    whole = (
        products if layer is None else conv.folded(products, layer)
    )  # C learns a sum for each position before it adds them
    training.update_w1(state, training.rounded_dw1(whole, batch.size, config))


def keep_granted(state: State, sk: Any) -> None:
    """C: keep the keys that it was granted, and the W1 that they are for."""
    state.held["sk", "x"], state.held["granted"] = sk, training.give_first(state).copy()


def granted_keys(state: State) -> Any:
    """C: the keys that it was granted last."""
    return state.held["sk", "x"]


def freeze(state: State, refused: budget.Refused) -> None:
    """C: return to the last W1 that it has keys for."""
    training.take_first(state, state.held["granted"])


def label_parameters(config: Config) -> Any:
    """FEBO over the same group; 0 <= Y, P <= label_scale."""
    return febo.parameters(config.label_scale, config.label_scale, config.group)
