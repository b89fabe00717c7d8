"""MITIG1: the owner keeps the first layer, and the cloud computes Z1 under function-hiding encryption.

A. Ionita, A. Ionita, RAID 2025, arXiv:2509.21497 (their public code calls it mitigation 2). The owner O holds
W1. The cloud C holds samples under a function-hiding scheme, so that a key hides the row of W1 that it stands
for; with the keys of a step C decrypts Z1 = W1 X_B^T, runs the layers above and returns dZ1, and O updates W1
with dZ1 X_B / B.

    authority   party | owner       who holds the master key: a party of its own, or each owner for itself

What the parties learn by design: C learns Z1 and its own weights, and the labels. A sees the rounded W1 of
every step in the key requests, and holds the master key that it shares with O (the scheme is secret-key):
with a ciphertext it would read the sample. Each owner has an instance of its own, because a shared master key
would let every owner open all others' ciphertexts. Like every key, one of this scheme works on every
ciphertext of its instance: C can compute Z1 of all samples in every step, not of the batch alone.

With many owners each trains a copy of W1, and A averages the copies (`split.py`). What this adds:

* A sees each owner's W1 before and after its steps, so W1 - W1' = (lr / B) sum_t dZ1_t X_t: the span of the
  samples of these steps.
* A + C know dZ1 too, and X_B exactly while an owner's samples since the last average are at most h. With
  `authority=party` they need not: A's master keys open the ciphertexts that C holds.
* C + one owner know the W1 that all begin a round with: exact equations Z1 = W1 X^T on every sample of every
  other owner, because the keys of that step work on all of its ciphertexts.

Deviations from the paper: rounding to nearest in place of two decimals; the mean over the batch and a
generator of each party's own (its code divides gradients by 10 and seeds both sides alike). Many owners are
an addition.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from numpy.typing import NDArray

from protocols import mitig2
from protocols.crypto import fhipe
from protocols.crypto.groups import workers
from protocols.crypto.groups.named import get_pairing
from protocols.language import relations as relation
from protocols.language.errors import ConfigError
from protocols.language.figure import Arrow
from protocols.language.options import as_in
from protocols.language.roles import CLOUD_TRAINER, DATA_OWNER, KEY_AUTHORITY, Role
from protocols.language.session import At, Session
from protocols.language.state import Cloud, State
from protocols.language.view import View
from protocols.network import inference, training
from protocols.network.config import Aggregation, Authority, Labels, Order, Training
from protocols.network.schedule import Visit, chunks, round_count
from protocols.parts import averaging, hiding, split
from protocols.parts.arrays import LABELS
from protocols.parts.averaging import InClear, Masked
from protocols.parts.hiding import AUTHORITIES, AtAuthority, AtOwner
from protocols.parts.hiding import upload_rows as upload_rows
from protocols.parts.recovery import Recoverable
from protocols.readings import hiding as read
from protocols.readings import samples
from protocols.readings import split as first_layer

NAME = "mitig1"
SUMMARY = "the owner keeps W1, the cloud decrypts Z1 with function-hiding keys"
SECURITY = "inner products only, of hidden vectors, by the scheme; the cloud sees Z1 of every step"
ROLES = (DATA_OWNER, KEY_AUTHORITY, CLOUD_TRAINER)


@dataclass(frozen=True)
class Options(averaging.Options, hiding.Options):
    """What a run is made of: training, rounds and averages, hiding keys."""

    layers: tuple[int, ...] = as_in(Training, "layers", (16,), large=(300,))
    epochs: int = as_in(Training, "epochs", 5)

    first: ClassVar[str] = ""
    shape: ClassVar[tuple[int, ...]] = ()
    labels: ClassVar[Labels] = Labels.CLEAR
    order: ClassVar[Order] = Order.FIXED


FIGURE = (
    *AtAuthority.SETUP, *AtOwner.SETUP, *Masked.SETUP, *Recoverable.SETUP,
    *hiding.Samples.UPLOAD,
    Arrow("upload", DATA_OWNER, CLOUD_TRAINER, "labels", "y in the clear", type=LABELS),
    *split.AVERAGE,
    *AtAuthority.STEP, *AtOwner.STEP, *split.STEP,
    *InClear.AVERAGE, *Masked.AVERAGE, *Recoverable.AVERAGE,
)  # fmt: skip
PREDICT = (
    *split.PREDICT, *AtAuthority.PREDICT, *AtOwner.PREDICT,
    Arrow("predict", DATA_OWNER, CLOUD_TRAINER, "ct", "Enc(x)", type=fhipe.FhipeCiphertext),
    Arrow("predict", CLOUD_TRAINER, DATA_OWNER, "classes", "C: Z1 = W1 x, layers above", type=LABELS),
)  # fmt: skip


def roles(config: Options) -> tuple[Role, ...]:
    """Who takes part: an owner that is its own authority, and alone, needs no other."""
    alone = config.owners == "one" and config.authority is Authority.OWNER
    return (DATA_OWNER, CLOUD_TRAINER) if alone else ROLES


def run(s: Session, config: Options) -> Iterator[Any]:
    """Train; yields the weights after each epoch and at the end, as revealed for measuring accuracy."""
    keys, x, upper = AUTHORITIES[config.authority](), hiding.Samples(), split.AtCloud(config)
    with s.phase("setup"):
        keys.set_up(s)
        upper.set_up(s)
    rows = upload_rows(config)
    for part in range(chunks(config, rows)):
        with s.phase("upload", part):
            x.upload(s, part, rows)
            upper.upload(s, part, rows)
    yield from split.train(s, config, upper, partial(train_step, s, keys, upper))


def train_step(s: Session, keys: Any, upper: split.AtCloud, o: At, visit: Visit) -> None:
    """One step of the owners of a round, each on a batch of its own."""
    c = s.at(CLOUD_TRAINER)
    # fmt: off
    sk = keys.ask(s, o, visit)                                          # O: [W1]; A or O: hiding keys
    z1 = c.do(decrypt, sk, visit)                                       # C: Z1 = Dec(sk, ct)
    dz1 = upper.backward(s, o, z1, visit)                               # C: forward, backward
    o.do(split.update_first, c.send(o, dz1=s.scatter(dz1, o)), visit)   # O: W1 <- W1 - lr dZ1 X_B / B
    # fmt: on


def decrypt(state: Cloud, sks: list[Any], visit: Visit) -> list[split.Float]:
    """C: Z1 (B, h) of each owner's batch."""
    config: Options = state.config
    products = (hiding.decrypt(state, sk, i, visit) for sk, i in zip(sks, visit.owners(config), strict=True))
    return [training.dequantise(own, config).numpy() for own in products]


def predict(s: Session, config: Options, count: int) -> Iterator[Any]:
    """Ask for the classes of the querier's samples, under its own instance; yields those of each part."""
    o, c, querier = s.each(DATA_OWNER, (0,)), s.at(CLOUD_TRAINER), s.at(DATA_OWNER)
    keys, upper, rows = AUTHORITIES[config.authority](), split.AtCloud(config), min(upload_rows(config), 256)
    for part in inference.parts(count, rows):
        with s.phase("predict", part):
            if part == 0:
                upper.mean.give(s, o)
                sk = keys.ask(s, o, Visit(turn=0, members=1, local=0))
            ct = s.gather(o.send(c, ct=o.do(hiding.encrypt_samples, part, rows)))
            told = c.send(querier, classes=c.do(decrypted_classes, sk, ct))
            yield s.reveal(querier.do(inference.take_classes, told), why="prediction")


def decrypted_classes(state: Cloud, sks: list[Any], cts: list[Any]) -> NDArray[Any]:
    """C: Z1 = Dec(sk, ct), and the class of each sample."""
    pp = state.held["pp"][0]
    products = fhipe.decrypt(pp, sks[0], fhipe.load(pp, cts[0]), workers.available())
    return inference.classes(state, training.dequantise(products, state.config))


def kept(state: State) -> dict[str, Any]:
    """What a party needs to predict: master keys, public parameters, its layers."""
    return {**{name: state.held[name] for name in ("msk", "pp") if name in state.held}, **split.kept(state)}


def restore(state: State, kept: dict[str, Any]) -> None:
    """Take back what `kept` returned."""
    state.held |= {name: kept[name] for name in ("msk", "pp") if name in kept}
    inference.load_model(state, kept)


steps = split.steps
unprotected = mitig2.unprotected


def check(config: Options) -> None:
    """Refuse, before anything is started, a configuration that the scheme cannot carry."""
    split.check(config)
    if not config.weight_scale:
        raise ConfigError("mitig1 encrypts integers: --weight-scale must be at least 1")
    if config.aggregation is Aggregation.SECURE and config.authority is Authority.PARTY:
        raise ConfigError(
            "--defence secure-aggregation hides nothing from an authority that is asked for keys: "
            "--authority owner"
        )
    describe(config)


def describe(config: Options) -> dict[str, str]:
    """Parameters and security of what protects this run, a line each."""
    return {
        "scheme": fhipe.describe(hiding.parameters(config)),
        "master keys": AUTHORITIES[config.authority].described,
        **split.described(config, split.AtCloud),
    }


def payload_nbytes(config: Options) -> int:
    """Bytes of full transcripts, about, before they are compressed: each message once."""
    n, h, members = config.features, config.layers[0], config.per_round or len(config.counts)
    pairing = get_pairing(config.group)
    msk = len(config.counts) * 2 * n * n * pairing.scalar_bytes
    upload = sum(config.counts) * (pairing.g2_bytes * (n + 1) + 8)
    step = members * (h * (pairing.g1_bytes * (n + 1) + 2 * n) + 4 * config.batch * h)
    copies = 4 * h * n * (members + 1) if config.owners == "many" else 0
    return msk + upload + round_count(config) * (config.local_steps * step + copies)


def relations(view: View) -> Iterator[relation.Relation]:
    """What a reader of a transcript may write down."""
    yield from samples.own(view)
    yield from samples.clear(view, "labels", relation.Labels)
    yield from read.instances(view, upload_rows(view.config))
    yield from first_layer.requests(view)
    yield from first_layer.maps(view)
    yield from first_layer.updates(view)
    yield from first_layer.rest(view)
