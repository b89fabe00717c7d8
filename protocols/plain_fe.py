"""Training on functionally encrypted samples, as in CryptoNN and NN-EMD.

R. Xu, J. Joshi, C. Li, *CryptoNN*, ICDCS 2019, arXiv:1904.07303; R. Xu et al., *NN-EMD*, TDSC 2021,
arXiv:2012.10547; attacked in A. Ionita, A. Ionita, RAID 2025, arXiv:2509.21497. The cloud C holds samples
under inner-product encryption, asks the authority A in each step for function keys of the rows of W1, and
decrypts Z1 = W1 X_B^T.

    scheme     lwe | rlwe | ddh
                              what protects the samples
    labels     clear | febo   NN-EMD: in the clear; CryptoNN: under FEBO, where C decrypts Y - P
    gradient   owner | fe     dW1 comes from the owner, or C decrypts dZ1 X_B with keys of the rows of dZ1
    first      conv:FxRxC     the first layer is a convolution: C asks for keys of F kernels, at each position

What the parties learn by design: C learns Z1 and dW1 of every step, W1, and the labels (in the clear, or as P
+ (Y - P)). A sees W1, with `gradient=fe` dZ1, and with `labels=febo` P, in the key requests. A function key
works on every ciphertext of its master key, so with n independent keys C solves for every sample: the attacks
`stack` and `master_key` do.

A first convolution with P positions is F P inner products of an image. The image is encrypted once, as a
vector of length n, and A expands the F kernels that C asks for into the F P rows of the layer's matrix
(`conv.matrix`, public geometry). To encrypt each patch by itself would make the keys small, F a step, and the
ciphertexts P times as many. Under LWE, patches against whole images:

    digits 8 x 8, 4 kernels of 3 x 3      592 kB against 17 kB an image;   33 kB against 1.2 MB of keys a step
    MNIST 28 x 28, 6 of 5 x 5             9.6 MB against 23 kB             50 kB against 34 MB
    CIFAR gray 32 x 32, 6 of 5 x 5        13 MB against 25 kB              50 kB against 48 MB
    CIFAR RGB, 16 of 3 x 3                15 MB against 41 kB              0.1 MB against 206 MB

so that MNIST would be 570 GB of ciphertexts, which C must keep, instead of 1.4 GB; and under DDH, whose keys
are 32 bytes beside their vector, whole images are smaller at once. Decryption costs the same. The consequence
for what leaks: as F P >= n, the keys of a single step have rank n (unless the kernels have a common zero:
`parties/adversary/attacks/conv.py`); patches by themselves, each with F equations for its L pixels, would
give
the same equations to whoever knows which patches overlap.

What the parts leave open is said in their files: `parts/labels.py`, `parts/gradient.py`, and the defences
`parts/keys.py` (a master key for an epoch or for a batch) and `parts/budget.py`.

Deviations from the papers: rounding to nearest instead of two decimals; a batch that is smaller than B is
padded with zeros in the second instance (`gradient=fe`); samples are uploaded in chunks of about 64 MB, and
their `ct_batch`, which is larger, with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

from numpy.typing import NDArray

from protocols import plain
from protocols.crypto import ipfe_lwe
from protocols.crypto.groups.named import get_group
from protocols.language import relations as relation
from protocols.language.errors import ConfigError
from protocols.language.figure import Arrow
from protocols.language.roles import CLOUD_TRAINER, DATA_OWNER, KEY_AUTHORITY
from protocols.language.session import Session
from protocols.language.state import Cloud, State
from protocols.language.view import View
from protocols.network import inference, training
from protocols.network.config import Gradient, KeyScope, Labels, Scheme
from protocols.network.schedule import Batch, batches, steps_per_epoch
from protocols.parts import budget, keys, labels
from protocols.parts import defences as defence
from protocols.parts.arrays import LABELS as CLASSES
from protocols.parts.budget import BUDGETS
from protocols.parts.gradient import GRADIENTS, AtOwner, UnderKeys
from protocols.parts.keys import SCOPES, OfRun, ciphertext_nbytes, described, parameters
from protocols.parts.keys import scheme_of as scheme_of
from protocols.parts.keys import upload_rows as upload_rows
from protocols.parts.labels import LABELS, Clear, Febo
from protocols.readings import gradient, samples
from protocols.readings import keys as read

NAME = "plain_fe"
SUMMARY = "the cloud trains on functionally encrypted samples with function keys for the rows of W1"
SECURITY = "inner products only, by the scheme; but the keys of training open everything (stack, master_key)"
ROLES = (DATA_OWNER, KEY_AUTHORITY, CLOUD_TRAINER)


@dataclass(frozen=True)
class Options(labels.Options, budget.Options):
    """What a run is made of: training, the scheme, labels, the gradient, budgets."""


FIGURE = (
    *OfRun.SETUP, *UnderKeys.SETUP, *Febo.SETUP,
    *OfRun.UPLOAD, *UnderKeys.UPLOAD, *Clear.UPLOAD, *Febo.UPLOAD,
    *OfRun.STEP, *budget.STEP, *Febo.STEP, *UnderKeys.STEP, *AtOwner.STEP,
)  # fmt: skip
PREDICT = (
    *OfRun.PREDICT,
    Arrow("predict", CLOUD_TRAINER, DATA_OWNER, "classes", "C: Z1 = W1 x, layers above", type=CLASSES),
)  # fmt: skip

_POINT = 64  # bytes of a point of the default group, for estimates
_RING = 4096  # d under ring-LWE, for estimates


def run(s: Session, config: Options) -> Iterator[Any]:
    """Train for the configured epochs; yields the weights after each, as revealed for measuring accuracy."""
    c, (w1, dw1), y = s.at(CLOUD_TRAINER), under_encryption(config), LABELS[config.labels]()
    with s.phase("setup"):
        w1.set_up(s)
        y.set_up(s)
        c.do(training.start_model)
    w1.upload(s, y)
    step = 0
    for epoch in range(config.epochs):
        w1.renew(s, epoch)
        for batch in batches(config):
            with s.phase("step", step):
                train_step(s, w1, y, dw1, batch)
            step += 1
        with s.phase("accuracy", step):
            yield s.reveal(c.do(training.weights), why="accuracy")


def under_encryption(config: Options) -> tuple[Any, Any]:
    """Who issues keys of what for W1, and where dW1 comes from, as the configuration names them."""
    gradient = GRADIENTS[config.gradient]
    scope = SCOPES[config.keys_for](config, gradient.instances)
    return BUDGETS[config.budget](config, scope, gradient(scope))


def train_step(s: Session, w1: Any, y: Any, dw1: Any, batch: Batch) -> None:
    """One step on one batch: forward under functional encryption, backward in the clear."""
    c = s.at(CLOUD_TRAINER)
    # fmt: off
    sk = w1.ask(s, batch)                           # C: [W1]; A: sk of every row    w1: OfRun, OfEpoch ...
    p = c.do(forward, sk, batch)                    # C: Z1 = Dec(sk, ct), P
    error = y.error(s, p, batch)                    # C: P - Y                       y: Clear or Febo
    dz1 = c.do(training.backward_upper, error)      # C: dZ1, and the layers above
    dw1.update(s, dz1, batch)                       # C: W1 <- W1 - lr dZ1 X_B / B   dw1: AtOwner or UnderKeys
    # fmt: on


def forward(state: Cloud, sk: Any, batch: Batch) -> Any:
    """C: Z1 = Dec(sk, ct) of a batch, and the forward pass."""
    return training.forward_upper(state, training.dequantise(keys.decrypt(state, sk, batch), state.config))


def predict(s: Session, config: Options, count: int) -> Iterator[Any]:
    """Ask for the classes of the querier's samples, which stay encrypted; yields those of each part."""
    o, c, (w1, _) = s.at(DATA_OWNER), s.at(CLOUD_TRAINER), under_encryption(config)
    rows = min(upload_rows(config), inference.ROWS)
    for part in inference.parts(count, rows):
        with s.phase("predict", part):
            if part == 0:
                sk = w1.query(s)  # A: sk of every row of W1
            ct = o.send(c, ct=o.do(keys.encrypt_samples, part, rows))  # O: Enc(x)
            told = c.send(o, classes=c.do(decrypted_classes, sk, ct))  # C: Z1 = Dec(sk, ct)
            yield s.reveal(o.do(inference.take_classes, told), why="prediction")


def decrypted_classes(state: Cloud, sk: Any, ct: Any) -> NDArray[Any]:
    """C: Z1 = Dec(sk, ct), and the class of each sample."""
    scheme, mpk = scheme_of(state.config), state.held["mpk", "x"][0]
    z1 = scheme.decrypt(mpk, sk, scheme.load(mpk, ct))
    return inference.classes(state, training.dequantise(z1, state.config))


def kept(state: State) -> dict[str, Any]:
    """What a party needs to predict: A the master key, the first owner, who asks, and C the public one, C the
    network and, under a budget, its keys.

    Where each batch has an instance, so has a query.
    """
    if state.role is KEY_AUTHORITY:
        return {"msk": state.held.get(("msk", "x"))}
    if state.role is DATA_OWNER and state.index > 0:
        return {}
    found: dict[str, Any] = {}
    if state.config.keys_for is not KeyScope.BATCH:
        found = {name: state.held[name, "x"] for name in ("mpk", "sk") if (name, "x") in state.held}
        found["mpk"] = found["mpk"][:1]  # it is that of every owner's samples
    return {**found, **inference.model(state)}


def restore(state: State, kept: dict[str, Any]) -> None:
    """Take back what `kept` returned."""
    state.held |= {(name, "x"): kept[name] for name in ("msk", "mpk", "sk") if name in kept}
    inference.load_model(state, kept)


unprotected = plain.unprotected


def payload_nbytes(config: Options) -> int:
    """Bytes of full transcripts, about, before they are compressed: each message once."""
    n, h, size, samples = config.features, config.width, config.batch, sum(config.counts)
    first = prod(config.first_shape)
    fe, encrypted_labels = config.gradient is Gradient.FE, config.labels is Labels.FEBO
    element = {Scheme.LWE: 8 * ipfe_lwe.DIMENSION, Scheme.RLWE: 12 * _RING, Scheme.DDH: _POINT}[config.scheme]
    secret = {Scheme.LWE: 4 * ipfe_lwe.DIMENSION, Scheme.RLWE: 6 * _RING, Scheme.DDH: 32}[config.scheme]

    def ciphertexts(count: int, length: int) -> int:
        return count * (
            _POINT * (length + 1) if config.scheme is Scheme.DDH else ciphertext_nbytes(config, length)
        )

    def keys(length: int) -> int:
        return h * (2 * length + secret)

    instances = {KeyScope.RUN: 1, KeyScope.EPOCH: config.epochs, KeyScope.BATCH: steps_per_epoch(config)}[
        config.keys_for
    ]
    uploads = config.epochs if config.keys_for is KeyScope.EPOCH else 1
    upload = ciphertexts(samples, n) + (ciphertexts(samples // size * n, size) if fe else 0)
    labels = samples * config.classes * 2 * _POINT if encrypted_labels else 8 * samples
    public = element * (n + (size if fe else 0))
    step = 2 * first + keys(n) + (2 * h * size + keys(size) if fe else 4 * (h * size + first))
    step += size * config.classes * (2 * _POINT + 2) if encrypted_labels else 0
    return instances * public + uploads * upload + labels + config.epochs * steps_per_epoch(config) * step


def check(config: Options) -> None:
    """Refuse, before anything is started, a configuration that the schemes cannot carry."""
    if not config.weight_scale:
        raise ConfigError("plain-fe encrypts integers: --weight-scale must be at least 1")
    if config.labels is Labels.OWNER:
        raise ConfigError("in plain-fe the cloud holds the whole network: --labels clear or febo")
    if config.first and (config.budget == "yes" or config.keys_for is not KeyScope.RUN):
        raise ConfigError(
            "--first: the keys of one step open every sample already; --defence with keys is for a dense W1"
        )
    budget.check(config)
    get_group(config.group)
    describe(config)


def describe(config: Options) -> dict[str, str]:
    """Parameters and security of what protects this run, a line each."""
    lines = {"scheme": described(config)}
    if config.gradient is Gradient.FE:
        lines["scheme of batches"] = described(config, "batch")
    if config.first:
        lines["first layer"] = f"{config.first}: {config.width} keys a step, for {config.features} pixels"
    lines["labels"] = LABELS[config.labels].describe(config)
    return {**lines, **defence.described(config)}


def relations(view: View) -> Iterator[relation.Relation]:
    """What a reader of a transcript may write down."""
    config = view.config
    rows = upload_rows(config)
    of_samples = read.Encryption(scheme_of(config), parameters(config), rows)
    of_batches = read.Encryption(
        scheme_of(config), None, rows, "mpk_batch", "ct_batch", "sk_dz1", across=True
    )
    yield from samples.own(view)
    yield from samples.clear(view, "labels", relation.Labels)
    yield from samples.under_febo(view, rows)
    yield from read.instances(view, of_samples)
    yield from read.instances(view, of_batches)
    yield from read.observations(view, of_samples)
    yield from gradient.from_owner(view)
    yield from gradient.maps(view)
    yield from gradient.updates(view)
    yield relation.Plain(labels=("classes",))
