"""MITIG1: the owner keeps the first layer, and the cloud computes Z1 under function-hiding encryption.

A. Ionita, A. Ionita, RAID 2025, arXiv:2509.21497 (their public code calls it mitigation 2). The owner O holds W1. The cloud C
holds samples under a function-hiding scheme, so that a key hides the row of W1 that it stands for; with the keys of a step C
decrypts Z1 = W1 X_B^T, runs the layers above and returns dZ1, and O updates W1 with dZ1 X_B / B.

    authority   party | owner       who holds the master key: a party of its own, or each owner for itself

What the parties learn by design: C learns Z1 and its own weights, and the labels. A sees the rounded W1 of every step in the
key requests, and holds the master key that it shares with O (the scheme is secret-key): with a ciphertext it would
read the sample. Each owner has an instance of its own, because a shared master key would let every owner open all
others' ciphertexts. Like every key, one of this scheme works on every ciphertext of its instance: C can compute
Z1 of all samples in every step, not of the batch alone.

With many owners each trains a copy of W1, and A averages the copies (`split.py`). What this adds:

* A sees each owner's W1 before and after its steps, so W1 - W1' = (lr / B) sum_t dZ1_t X_t: the span of the samples of these steps.
* A + C know dZ1 too, and X_B exactly while an owner's samples since the last average are at most h. With
  `authority=party` they need not: A's master keys open the ciphertexts that C holds.
* C + one owner know the W1 that all begin a round with: exact equations Z1 = W1 X^T on every sample of every other owner, because
  the keys of that step work on all of its ciphertexts.

Deviations from the paper: rounding to nearest in place of two decimals; the mean over the batch and a generator of each party's own
(its code divides gradients by 10 and seeds both sides alike). Many owners are an addition.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from protocols.crypto import fhipe
from protocols.crypto.groups import workers
from protocols.crypto.groups.named import get_pairing
from protocols.crypto.records import Bounds
from protocols.language.errors import ConfigError
from protocols.language.figure import Arrow
from protocols.language.roles import CLOUD_TRAINER, DATA_OWNER, KEY_AUTHORITY, Role
from protocols.language.session import At, Located, Session
from protocols.language.state import State
from protocols.network import inference, training
from protocols.network.config import (
    Aggregation,
    Authority,
    Config,
    Labels,
    Visit,
    chunk_rows,
    chunks,
    round_count,
)
from protocols.parts import split
from protocols.plain import sample_labels, samples

NAME = "mitig1"
SUMMARY = "the owner keeps W1, the cloud decrypts Z1 with function-hiding keys"
SECURITY = "inner products only, of hidden vectors, by the scheme; the cloud sees Z1 of every step"
ROLES = (DATA_OWNER, KEY_AUTHORITY, CLOUD_TRAINER)

FIGURE = (
    Arrow(
        "setup",
        KEY_AUTHORITY,
        DATA_OWNER,
        "msk",
        "(pp, msk) <- Setup(n), for each owner",
        when="authority=party",
    ),
    Arrow("setup", KEY_AUTHORITY, CLOUD_TRAINER, "pp", when="authority=party"),
    Arrow("setup", DATA_OWNER, CLOUD_TRAINER, "pp", "O: (pp, msk) <- Setup(n)", when="authority=owner"),
    *split.KEY_ARROWS,
    Arrow("upload", DATA_OWNER, CLOUD_TRAINER, "ct", "Enc(x_j) of every sample"),
    Arrow("upload", DATA_OWNER, CLOUD_TRAINER, "labels", "y in the clear"),
    Arrow(
        "average", KEY_AUTHORITY, DATA_OWNER, "w1_mean", "W1, for the owners of a round", when="owners=many"
    ),
    Arrow("step", DATA_OWNER, KEY_AUTHORITY, "w1", "[W1] rounded", when="authority=party"),
    Arrow(
        "step",
        KEY_AUTHORITY,
        CLOUD_TRAINER,
        "sk_w1",
        "h hiding keys; C: Z1 = W1 X_B^T",
        when="authority=party",
    ),
    Arrow(
        "step", DATA_OWNER, CLOUD_TRAINER, "sk_w1", "h hiding keys; C: Z1 = W1 X_B^T", when="authority=owner"
    ),
    Arrow("step", CLOUD_TRAINER, DATA_OWNER, "dz1", "dZ1; O: W1 <- W1 - lr dZ1 X_B / B"),
    *split.COPY_ARROWS[:2],
)

PREDICT = (
    Arrow("predict", KEY_AUTHORITY, DATA_OWNER, "w1_mean", "W1", when="owners=many"),
    Arrow("predict", DATA_OWNER, KEY_AUTHORITY, "w1", "[W1] rounded", when="authority=party"),
    Arrow("predict", KEY_AUTHORITY, CLOUD_TRAINER, "sk_w1", "h hiding keys", when="authority=party"),
    Arrow("predict", DATA_OWNER, CLOUD_TRAINER, "sk_w1", "h hiding keys", when="authority=owner"),
    Arrow("predict", DATA_OWNER, CLOUD_TRAINER, "ct", "Enc(x)"),
    Arrow("predict", CLOUD_TRAINER, DATA_OWNER, "classes", "C: Z1 = W1 x, layers above"),
)


def roles(config: Config) -> tuple[Role, ...]:
    """Who takes part: an owner that is its own authority, and alone, needs no other."""
    alone = config.owners == "one" and config.authority is Authority.OWNER
    return (DATA_OWNER, CLOUD_TRAINER) if alone else ROLES


def run(s: Session, config: Config) -> Iterator[dict[str, Any]]:
    """Train; yields the weights after each epoch and at the end, as revealed for measuring accuracy."""
    with s.phase("setup"):
        set_up(s, config)
        split.start(s, config)
    rows = upload_rows(config)
    for part in range(chunks(config, rows)):
        with s.phase("upload", part):
            upload(s, part, rows)
    yield from split.train(s, config, train_step)


def set_up(s: Session, config: Config) -> None:
    """An instance for each owner."""
    o, c = s.each(DATA_OWNER), s.at(CLOUD_TRAINER)
    if config.authority is Authority.PARTY:
        a = s.at(KEY_AUTHORITY)
        msk, pp = a.do(set_up_instances)
        o.do(keep_key, a.send(o, msk=s.scatter(msk, o)))
        c.do(keep_instances, a.send(c, pp=pp))
    else:
        c.do(keep_instances, s.gather(o.send(c, pp=o.do(set_up_own))))


def upload(s: Session, part: int, rows: int) -> None:
    """O encrypts a chunk of its samples; C keeps the ciphertexts and the labels."""
    o, c = s.each(DATA_OWNER), s.at(CLOUD_TRAINER)
    c.do(store_ct, s.gather(o.send(c, ct=o.do(encrypt_samples, part, rows))))
    c.do(split.store_labels, s.gather(o.send(c, labels=o.do(sample_labels, part, rows))))


def train_step(s: Session, config: Config, o: At, visit: Visit) -> None:
    """One step of the owners of a round, each on a batch of its own."""
    c = s.at(CLOUD_TRAINER)
    # fmt: off
    sk = keys(s, config, o, visit)                                          # O, A: hiding keys of [W1]
    dz1 = c.do(upper_layers, sk, visit)                                     # C: Z1 = Dec(sk, ct), dZ1
    o.do(split.update_first, c.send(o, dz1=s.scatter(dz1, o)), visit)       # O: W1 <- W1 - lr dZ1 X_B / B
    # fmt: on


def keys(s: Session, config: Config, o: At, visit: Visit) -> Located:
    """Hiding keys of each owner's W1, at C."""
    c = s.at(CLOUD_TRAINER)
    # fmt: off
    w1 = o.do(training.quantised_w1)                                        # O: [W1]
    if config.authority is Authority.OWNER:
        return s.gather(o.send(c, sk_w1=o.do(derive_own, w1)))              # O: sk of every row
    a = s.at(KEY_AUTHORITY)
    asked = s.gather(o.send(a, w1=w1))
    sk: Located = a.send(c, sk_w1=a.do(derive_keys, asked, visit))          # A: sk of every row
    # fmt: on
    return sk


def bounds(config: Config) -> Bounds:
    """Bounds of <w, x>: length n."""
    return Bounds(config.features, config.x_max, config.weights.limit)


def set_up_instances(state: State) -> tuple[list[Any], list[Any]]:
    """A: an instance for each owner; master keys and public parameters."""
    config: Config = state.config
    made = [fhipe.setup(fhipe.parameters(bounds(config), config.group), state.coins) for _ in config.counts]
    state.held["msk"] = [msk for _, msk in made]
    return state.held["msk"], [pp for pp, _ in made]


def set_up_own(state: State) -> Any:
    """O: its own instance; returns the public parameters."""
    config: Config = state.config
    pp, state.held["msk"] = fhipe.setup(fhipe.parameters(bounds(config), config.group), state.coins)
    return pp


def keep_key(state: State, msk: Any) -> None:
    """O: keep its master key."""
    state.held["msk"] = msk


def keep_instances(state: State, pp: list[Any]) -> None:
    """C: keep the public parameters of every owner's instance."""
    state.held["pp"] = pp


def encrypt_samples(state: State, part: int, rows: int) -> Any:
    """O: Enc(x_j) for a chunk of rows."""
    return fhipe.encrypt(state.held["msk"], samples(state, part, rows), state.coins)


def store_ct(state: State, cts: list[Any]) -> None:
    """C: check and keep each owner's ciphertexts."""
    held = state.held.setdefault("ct", [[] for _ in cts])
    for parts, pp, ct in zip(held, state.held["pp"], cts, strict=True):
        parts.append(fhipe.load(pp, ct))


def derive_keys(state: State, w1: list[NDArray[Any]], visit: Visit) -> list[Any]:
    """A: a key for each row, under the instance of the owner that asks."""
    msks = (state.held["msk"][i] for i in visit.owners(state.config))
    return [fhipe.key_derive(msk, rows, state.coins) for msk, rows in zip(msks, w1, strict=True)]


def derive_own(state: State, w1: NDArray[Any]) -> Any:
    """O: a key for each row, under its own instance."""
    return fhipe.key_derive(state.held["msk"], w1, state.coins)


def upper_layers(state: State, sks: list[Any], visit: Visit) -> list[split.Float]:
    """C: Z1 = Dec(sk, ct) for each owner's batch, then forward and backward; dZ1 for each."""
    owners = visit.owners(state.config)
    return split.upper_layers(
        state, [z1(state, sk, i, visit) for sk, i in zip(sks, owners, strict=True)], visit
    )


def z1(state: State, sk: Any, owner: int, visit: Visit) -> split.Float:
    """C: Z1 (B, h) of an owner's batch, by decryption on all processors."""
    config: Config = state.config
    _, batch = visit.position(config, owner)
    part, start = divmod(batch.start, upload_rows(config))
    ct = fhipe.rows(state.held["ct"][owner][part], start, start + batch.stop - batch.start)
    products = fhipe.decrypt(state.held["pp"][owner], sk, ct, workers.available())
    decrypted: split.Float = training.dequantise(products, config).numpy()
    return decrypted


def predict(s: Session, config: Config, count: int) -> Iterator[Any]:
    """Ask for the classes of the querier's samples, under its own instance; yields those of each part."""
    o, c = s.each(DATA_OWNER, (0,)), s.at(CLOUD_TRAINER)
    rows, querier = min(upload_rows(config), 256), s.at(DATA_OWNER)
    for part in inference.parts(count, rows):
        with s.phase("predict", part):
            if part == 0:
                split.hand_out_weights(s, config, o)
                sk = keys(s, config, o, Visit(turn=0, members=1, local=0))
            ct = s.gather(o.send(c, ct=o.do(encrypt_samples, part, rows)))
            told = c.send(querier, classes=c.do(decrypted_classes, sk, ct))
            yield s.reveal(querier.do(inference.take_classes, told), why="prediction")


def decrypted_classes(state: State, sks: list[Any], cts: list[Any]) -> NDArray[Any]:
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


def steps(config: Config) -> int:
    """Training steps of a run."""
    return split.steps(config)


def upload_rows(config: Config) -> int:
    """Samples in a chunk; whole batches."""
    return chunk_rows(config, get_pairing(config.group).g2_bytes * (config.features + 1))


def check(config: Config) -> None:
    """Refuse, before anything is started, a configuration that the scheme cannot carry."""
    split.check(config)
    if not config.weight_scale:
        raise ConfigError("mitig1 encrypts integers: --weight-scale must be at least 1")
    if config.labels is not Labels.CLEAR:
        raise ConfigError("mitig1 has its labels at the cloud: --labels clear")
    if config.first:
        raise ConfigError("mitig1 has a dense first layer: --first is for plain, plain-fe and mitig2")
    if config.aggregation is Aggregation.SECURE and config.authority is Authority.PARTY:
        raise ConfigError(
            "--defence secure-aggregation hides nothing from an authority that is asked for keys: --authority owner"
        )
    describe(config)


def describe(config: Config) -> dict[str, str]:
    """Parameters and security of what protects this run, a line each."""
    holder = (
        "a party of its own, and each owner its own"
        if config.authority is Authority.PARTY
        else "each owner its own"
    )
    return {
        "scheme": fhipe.describe(fhipe.parameters(bounds(config), config.group)),
        "master keys": holder,
        "labels": "in the clear to the cloud",
        **split.described(config),
    }


def payload_nbytes(config: Config) -> int:
    """About how many bytes full transcripts take: every message at both ends, equal payloads of a party once."""
    n, h, members = config.features, config.layers[0], config.per_round or len(config.counts)
    pairing = get_pairing(config.group)
    msk = len(config.counts) * 2 * n * n * pairing.scalar_bytes
    upload = sum(config.counts) * (pairing.g2_bytes * (n + 1) + 8)
    step = members * (h * (pairing.g1_bytes * (n + 1) + 2 * n) + 4 * config.batch * h)
    copies = 4 * h * n * (members + 1) if config.owners == "many" else 0
    return 2 * (msk + upload + round_count(config) * (config.local_steps * step + copies))
