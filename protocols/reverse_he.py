"""Reverse homomorphic encryption: a classifier whose transfer-learned head is encrypted, its inputs not.

R. Allison, T. Maciazek, H. Bourne, *Securing Transfer-Learned Networks with Reverse Homomorphic Encryption*,
arXiv:2505.14323. The owner O trains a small head on a few private samples, on features phi(x) of a public
frozen base, encrypts it under the authority's key, sends it to the server C, and forgets it. A querier Q
sends x in the clear; C computes Enc(logits) from phi(x) and the encrypted head, blinds it afresh, and the
authority A decrypts. The decision goes to the consumer T, which is trusted with it. Many owners have a head
each, all under one key, and every head answers every query.

    encoding   int | float               integers with one fixed exponent; phe's floats, which LEAK the
                                         exponent of every weight to C
    release    none | decision | logits  what A tells C of its answers. The querier is never told anything:
                                         who asks and is told the answers can extract the head as C can, with
                                         no ciphertext at all
    depth      one | two                 `--head 64-10`: all of the head is encrypted; `--head 64-16-10`: its
                                         hidden layer is

What the parties learn by design: C the queries, and what is released; A the logits of every query, but
neither x nor the weights, unless C hands it ciphertexts; T the decisions. A and C together open the head. O
keeps its samples and coins, from which the head could be trained again: what it forgets is the head itself
(the memory is freed, not overwritten).

**With a hidden layer** A decrypts pre-activations, applies the ReLU, and evaluates the last layer, which O
sends to A in the clear. The extra trust in A: it sees one number for each hidden unit instead of one a class,
and holds the last layer. The other way, in which A returns activations for C to go on with, hands C the first
layer: d + 1 queries of its choice, solved. C stays blind here, and nobody needs a second round. More hidden
layers would need it, and are refused.

**Refused answers.** The bounds hold for every image, so that nothing an honest server sends overflows. A
result beyond the bound means a forged one. Whether it was refused is an answer too (an oracle, with which a
server that scales its products bisects a logit), so it goes to T and to the experimenter, as the decision -1,
and not to C: with `release=decision` C gets class 0 in its place, with `release=logits` zeros. That hides
little from a malicious C that is told decisions: it may ask about any linear function of the head
(malleability), and a decision about it is a bit. With `release=none` C is told nothing whatever it sends. A
malformed ciphertext stops the run, which C can foresee from public data.

Deviations from the paper: it uses CKKS by TenSEAL and approximate arithmetic; here Paillier on integers, so
that encrypted logits equal the integer head's exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.crypto import paillier
from protocols.crypto.paillier_keys import PaillierFloats, PaillierHead, PaillierLogits, PaillierPublicKey
from protocols.language.errors import BoundError, ConfigError, MalformedError
from protocols.language.figure import Arrow, Integers, sized
from protocols.language.precision import real
from protocols.language.relations import Plain, Relation
from protocols.language.roles import CONSUMER, DATA_OWNER, KEY_AUTHORITY, QUERIER, SERVER
from protocols.language.session import Located, Session
from protocols.language.state import State
from protocols.language.view import View
from protocols.network.dp import epsilon_for, usual_delta
from protocols.network.fixedpoint import FixedPoint
from protocols.network.head import Protect, coin_noise, train_heads
from protocols.network.head_config import Encoding, HeadConfig, Release
from protocols.network.head_integers import integer_logits, quantise_features, quantise_head
from protocols.network.public_base import FeatureTable, base_of, fingerprint
from protocols.readings import heads, samples

NAME = "reverse_he"
SUMMARY = (
    "a transfer-learned head is encrypted at the server; inputs are in the clear, decisions go to a trusted "
    "consumer"
)
SECURITY = (
    "the head is encrypted by Paillier; server and authority together open it, "
    "and answers fed back give it away"
)
ROLES = (DATA_OWNER, KEY_AUTHORITY, SERVER, QUERIER, CONSUMER)
Options = HeadConfig
REFUSED = -1  # the decision about a result beyond its bound

Ints = NDArray[np.int64]

FIGURE = (
    Arrow("setup", KEY_AUTHORITY, DATA_OWNER, "pk", "(pk, sk) <- Setup()", type=PaillierPublicKey),
    Arrow("setup", KEY_AUTHORITY, SERVER, "pk", type=PaillierPublicKey),
    Arrow("upload", DATA_OWNER, SERVER, "head", "Enc(W, b); O forgets W, b",
          type=PaillierHead | PaillierFloats),
    Arrow("upload", DATA_OWNER, KEY_AUTHORITY, "last_layer", "W2, b2 in the clear",
          when="depth=two", type=NDArray[np.number]),
    Arrow("query", QUERIER, SERVER, "x", "x in the clear", type=sized(Integers, "m n", below="x_max+1")),
    Arrow("query", SERVER, KEY_AUTHORITY, "r", "C: R = Enc(W phi(x) + b), blinded afresh",
          type=PaillierLogits | PaillierFloats),
    Arrow("query", KEY_AUTHORITY, CONSUMER, "decision", "A: argmax Dec(R)", type=sized(Integers, "m")),
    Arrow("query", KEY_AUTHORITY, SERVER, "decision", "fed back", when="release=decision",
          type=sized(Integers, "m", below="k")),
    Arrow("query", KEY_AUTHORITY, SERVER, "logits", "fed back",
          when="release=logits", type=sized(NDArray[np.number], "m k")),
)  # fmt: skip


def run(s: Session, config: HeadConfig) -> Iterator[Any]:
    """Set up, upload, answer; yields per message the `decisions` (m,) of every head, -1 if refused."""
    o, a, c = s.each(DATA_OWNER), s.at(KEY_AUTHORITY), s.at(SERVER)
    with s.phase("setup"):
        pk = a.do(draw_keys)
        o.do(keep_key, a.send(o, pk=pk))
        c.do(keep_key, a.send(c, pk=pk))
        o.do(check_base)
        c.do(check_base)
    with s.phase("upload"):
        o.do(train_head)
        c.do(keep_heads, s.gather(o.send(c, head=o.do(encrypt_head))))
        if config.depth == "two":
            a.do(keep_last_layers, s.gather(o.send(a, last_layer=o.do(last_layer))))
        o.do(forget_head)
    for part in range(steps(config)):
        with s.phase("query", part):
            x = s.at(QUERIER).send(c, x=s.at(QUERIER).do(asked, part))
            told = [answer(s, config, x, owner) for owner in range(len(config.counts))]
            decisions = [s.reveal(s.at(CONSUMER).do(take_decision, each), why="decision") for each in told]
            yield {"decisions": decisions}


def answer(s: Session, config: HeadConfig, x: Located, owner: int) -> Located:
    """What one owner's head says of a message of queries; returns what the consumer is told."""
    a, c, t = s.at(KEY_AUTHORITY), s.at(SERVER), s.at(CONSUMER)
    # fmt: off
    r = c.send(a, r=c.do(encrypted_logits, x, owner))                       # C: R = Enc(W phi(x) + b) h_n^a
    logits, decision = a.do(decide, r, owner)                               # A: Dec(R), argmax
    if config.release is Release.DECISION:
        c.do(take_answer, a.send(c, decision=a.do(for_server, decision)))   # not whether it was refused
    if config.release is Release.LOGITS:
        c.do(take_answer, a.send(c, logits=logits))
    told: Located = a.send(t, decision=decision)
    # fmt: on
    return told


def draw_keys(state: State) -> PaillierPublicKey:
    """A: (pk, sk) <- Setup()."""
    pk, state.held["sk"] = paillier.setup(state.config.params, state.coins)
    return pk


def keep_key(state: State, pk: PaillierPublicKey) -> None:
    """O, C: keep the public key, if it is one with the parameters of the run; with its blinding's table."""
    state.held["pk"] = paillier.check(pk, state.config.params)
    paillier.blinding(pk, 0, state.coins.stream("none"))


def check_base(state: State) -> None:
    """O, C: the base is the public one."""
    if fingerprint(base_of(state.inputs, state.config.shape, state.config.pool)) != state.config.base:
        raise MalformedError("the base that this party was given is not the one that the configuration names")


def phi(state: State, images: NDArray[Any]) -> NDArray[np.float32]:
    """O, C: features (m, d) of images; `MalformedError` or `BoundError` for what is no image."""
    config: HeadConfig = state.config
    if images.dtype.kind not in "iuf" or images.shape[1:] != (config.pixels,):
        raise MalformedError(f"images are numbers (m, {config.pixels}), got {images.dtype} {images.shape}")
    if images.size and (images.min() < 0 or images.max() > config.x_max):
        raise BoundError(f"a pixel lies outside of [0, {config.x_max}]")
    base = base_of(state.inputs, config.shape, config.pool)
    if isinstance(base, FeatureTable) and "features" in state.inputs:  # O: of its own images
        base = base.and_own(state.inputs["images"] / real()(config.x_max), state.inputs["features"])
    return base.phi(base.inputs(images / real()(config.x_max)))


def train_head(state: State) -> None:
    """O: the head, in the clear, on the features of its samples; the noise of dp comes from the coins."""
    config: HeadConfig = state.config
    noise = coin_noise(state.coins.stream("dp noise")) if config.recipe.protect is Protect.DP else None
    features, labels = phi(state, state.inputs["images"]), state.inputs["labels"]
    state.head = train_heads(
        features[None], labels[None], config.classes, config.recipe, state.rng, noise
    ).layers


def encrypt_head(state: State) -> Any:
    """O: Enc(W, b), of the hidden layer where there is one."""
    layer, pk = state.head[0][0], state.held["pk"]
    if state.config.encoding is Encoding.FLOAT:
        return paillier.encrypt_float(pk, layer[:, :-1], layer[:, -1], state.coins)
    return paillier.encrypt(pk, *quantise_head(layer[:, :-1], layer[:, -1], state.config.form), state.coins)


def last_layer(state: State) -> NDArray[Any]:
    """O: the second layer (k, width + 1), the bias last; integers, or floats under `encoding=float`."""
    return encoded_last_layer(state.head[1][0], state.config)


def encoded_last_layer(layer: NDArray[np.float32], config: HeadConfig) -> NDArray[Any]:
    """A second layer as it crosses."""
    if config.encoding is Encoding.FLOAT:
        return layer.astype(np.float64)
    form = FixedPoint(config.last_bias_scale, config.form.weight_bound)
    weights = config.form.weight.integers(layer[:, :-1], "a weight of the last layer")
    return np.hstack([weights, form.integers(layer[:, -1:], "a bias of the last layer")])


def forget_head(state: State) -> None:
    """O: what was uploaded is held no longer."""
    del state.head


def keep_heads(state: State, heads: list[Any]) -> None:
    """C: keep the encrypted heads, checked; with their subset tables, which every query uses."""
    if state.config.encoding is Encoding.FLOAT:
        state.held["heads"] = heads
        return
    state.held["heads"] = [paillier.load(state.held["pk"], head) for head in heads]
    state.held["tables"] = [head.tables for head in state.held["heads"]]


def keep_last_layers(state: State, layers: list[NDArray[Any]]) -> None:
    """A, with a hidden layer: keep the second ones, if they are that."""
    config: HeadConfig = state.config
    kind = np.float64 if config.encoding is Encoding.FLOAT else FixedPoint.WIDE
    for layer in layers:
        if layer.dtype != kind or layer.shape != (config.classes, config.rows + 1):
            raise MalformedError(
                f"expected a last layer {(config.classes, config.rows + 1)} of {np.dtype(kind).name}"
            )
        if kind is np.int64 and (np.abs(layer[:, :-1]).max() > config.form.weight.limit
                                 or np.abs(layer[:, -1]).max() > config.last_bias_limit):  # fmt: skip
            raise BoundError("the last layer leaves the bounds of its format")
    state.held["last layers"] = layers


def asked(state: State, part: int) -> NDArray[Any]:
    """Q: the images of a message (m, n), integers."""
    batch = state.config.batch
    return state.inputs["images"][part * batch : (part + 1) * batch]


def encrypted_logits(state: State, x: NDArray[Any], owner: int) -> Any:
    """C: R = Enc(W phi(x) + b) for every image, by the head of one owner, blinded afresh."""
    pk, head, found = state.held["pk"], state.held["heads"][owner], phi(state, x)
    if state.config.encoding is Encoding.FLOAT:
        return paillier.linear_float(pk, head, found, state.coins)
    return paillier.linear(pk, head, quantise_features(found, state.config.form), state.coins, tables=True)


def decide(state: State, r: Any, owner: int) -> tuple[NDArray[Any], NDArray[np.int16]]:
    """A: logits (m, k) and the decision about each; zeros and -1 where the result was refused."""
    first, fine = decrypted(state, r)
    logits = upper(first, state.held["last layers"][owner]) if state.config.depth == "two" else first
    logits[~fine] = 0
    return logits, np.where(fine, logits.argmax(1), REFUSED).astype(np.int16)


def upper(z: NDArray[Any], layer: NDArray[Any]) -> NDArray[Any]:
    """Logits (m, k) from pre-activations (m, width): ReLU, then the last layer; exact on integers."""
    logits: NDArray[Any] = np.maximum(z, 0) @ layer[:, :-1].T + layer[:, -1]
    return logits


def decrypted(state: State, r: Any) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """A: what the ciphertexts hold (m, rows), and for which of them it lies within its bound.

    One by one: a refused result must not take the others with it, nor the time that a second try would.
    """
    sk, config, floats = state.held["sk"], state.config, state.config.encoding is Encoding.FLOAT
    if not isinstance(r, PaillierFloats if floats else PaillierLogits):
        raise MalformedError(f"expected encrypted logits, got {type(r).__name__}")
    if floats and tuple(r.shape)[1:] != (config.rows,):
        raise MalformedError(f"expected {config.rows} encrypted floats an answer, got {tuple(r.shape)[1:]}")
    opened: Any = paillier.decrypt_float if floats else paillier.decrypt
    found = np.zeros((len(r.elements), config.rows), np.float64 if floats else FixedPoint.WIDE)
    fine = np.zeros(len(found), dtype=np.bool_)
    for i in range(len(found)):
        try:
            found[i], fine[i] = opened(sk, _row(r, i))[0], True
        except BoundError:
            continue
    return found, fine


def _row(r: PaillierLogits | PaillierFloats, i: int) -> PaillierLogits | PaillierFloats:
    one = slice(i, i + 1)
    if isinstance(r, PaillierFloats):
        return PaillierFloats(r.tag, r.elements[one], r.exponents[one])
    return PaillierLogits(r.tag, r.elements[one])


def for_server(state: State, decision: NDArray[np.int16]) -> NDArray[np.int16]:
    """A: what C is told of decisions: class 0 where one was refused, so that C is not told which."""
    return np.maximum(decision, 0)


def take_answer(state: State, answers: NDArray[Any]) -> None:
    """C: an honest server does nothing with what is fed back to it."""


def take_decision(state: State, decision: NDArray[np.int16]) -> NDArray[np.int16]:
    """T: what it was told: a class, or that there is none."""
    if decision.size and not REFUSED <= decision.min() <= decision.max() < state.config.classes:
        raise BoundError("a decision is no class")
    return decision


def integer_head(
    layers: tuple[NDArray[np.float32], ...], config: HeadConfig, features: NDArray[np.float32]
) -> Ints:
    """The logits (m, k) of the integer head in the clear, with which decrypted ones are compared."""
    weights, bias = quantise_head(layers[0][:, :-1], layers[0][:, -1], config.form)
    logits = integer_logits(weights, bias, quantise_features(features, config.form))
    return logits if len(layers) == 1 else upper(logits, encoded_last_layer(layers[1], config))


def steps(config: HeadConfig) -> int:
    """Messages of queries."""
    return -(-config.queries // config.batch)


def check(config: HeadConfig) -> None:
    """Refuse, before anything is started, a configuration that the encryption cannot carry."""
    if config.encoding is Encoding.INT:
        config.check_last_layer()
    if config.form.signed:
        raise ConfigError("features of a base that ends with a ReLU have no sign")
    describe(config)


def describe(config: HeadConfig) -> dict[str, str]:
    """What protects this run, a line each."""
    line = paillier.describe(config.params)
    if config.encoding is Encoding.FLOAT:
        line = f"{line.partition(':')[0]}, LEAKING: {paillier.LEAK} (--encoding int does not)"
    told = {
        Release.NONE: "nothing goes back to the server",
        Release.DECISION: "decisions go back to the server, which can extract the head with them",
        Release.LOGITS: "logits go back to the server, which solves for the head after "
        f"{config.features + 1} queries",
    }
    lines = {"scheme": line, "release": told[config.release], "training": _training(config)}
    if config.depth == "two":
        lines["hidden layer"] = (
            f"the authority holds the last layer and sees {config.rows} pre-activations a query"
        )
    return lines


def _training(config: HeadConfig) -> str:
    recipe, delta = config.recipe, usual_delta(sum(config.counts))
    if recipe.protect is not Protect.DP:
        return f"{recipe.protect.value}: what opens the head reads its samples in it"
    epsilon = epsilon_for(recipe.sigma, delta, recipe.steps)
    return (
        f"dp: noise of {recipe.sigma:.2f} times the clip in each of {recipe.steps} steps: "
        f"epsilon {epsilon:.3g} at delta {delta:.2g}, "
        f"one sample added or removed (with so few samples a delta that promises little)"
    )


def payload_nbytes(config: HeadConfig) -> int:
    """About how many bytes full transcripts take, before they are compressed: every message once."""
    params, floats = config.params, config.encoding is Encoding.FLOAT
    row = params.nbytes * (config.rows if floats else params.chunks)
    answers = config.queries * (config.pixels + row + 8 * config.classes + 4)
    return int(len(config.counts) * ((config.features + 1) * row + answers))


def kept(state: State) -> dict[str, Any]:
    """Nothing: there is no asking again after a run, and the authority's key ends with it."""
    return {}


def restore(state: State, kept: dict[str, Any]) -> None:
    """Nothing was kept."""


def relations(view: View) -> Iterator[Relation]:
    """What a reader of a transcript may write down."""
    yield from samples.own(view)
    yield heads.task(view)
    yield from heads.heads(view)
    yield from heads.answers(view)
    yield Plain(labels=("decision", "logits", "last_layer"))
    yield Plain(labels=("x",), quantity="queries")
