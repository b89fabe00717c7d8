"""Readers of views of encrypted heads: what a coalition may write down of heads, answers, and the task."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.crypto import paillier
from protocols.crypto.coins import Coins
from protocols.crypto.paillier_keys import (
    PaillierFloats,
    PaillierLogits,
    PaillierPublicKey,
    PaillierSecretKey,
)
from protocols.language.errors import SchemeError
from protocols.language.head_relations import (
    HeadDecisions,
    HeadExponents,
    HeadLogits,
    HeadService,
    HeadTask,
    HeadWeights,
    SealedHeads,
)
from protocols.language.relations import Array, Later, Opaque, Own, Relation, Without
from protocols.language.roles import DATA_OWNER, KEY_AUTHORITY, SERVER, role_of
from protocols.language.view import Kind, Row, View
from protocols.network.head_config import HeadConfig
from protocols.network.head_integers import quantise_features, quantise_head
from protocols.network.public_base import FEATURES, IMAGES, LABEL, Base, base_of
from protocols.readings.samples import owned

_TRIED = 4  # rows of ciphertexts that are opened, to prove that the key fits
_QUERIES = 4096  # that equations are made of
_LATER = "decisions on inputs of its choice are no longer to be had: the run is over"

Integers = tuple[NDArray[np.int64], NDArray[np.int64]]


def task(view: View) -> HeadTask:
    """The task that everybody knows."""
    config: HeadConfig = view.config
    base = _base(view)
    features = None if base is None else lambda images: base.phi(base.inputs(images))
    shots = config.counts[0] // config.classes
    return HeadTask(len(config.counts), config.classes, shots, config.recipe, features)


def heads(view: View) -> Iterator[Relation]:
    """Encrypted heads: ciphertexts, their exponents in the clear, or with the key what they hold."""
    config, rows = view.config, list(view.rows("head", Kind.RECEIVED))
    if not rows:
        return
    owners, count = np.arange(len(rows)), int(np.prod(rows[0].shape))
    if rows[0].dtype == PaillierFloats.__name__:
        exponents = lambda: np.stack([view.value(row).exponents for row in rows])  # noqa: E731
        of = lambda layers: paillier.float_exponents(layers[0])  # noqa: E731
        yield HeadExponents(owners, count, exponents if view.has_payloads() else None, of, labels=("head",))
    else:
        elements = lambda: np.stack([view.value(row).elements.reshape(-1) for row in rows])  # noqa: E731
        seal = lambda layers, key: sealed(_public_key(view), layers[0], config, Coins(key))  # noqa: E731
        yield SealedHeads(owners, count, elements, seal, labels=("head",))
    if (sk := _key(view)) is not None and _opens(sk, view.value(rows[0])):
        yield HeadWeights(owners, lambda: _opened(view, sk, rows), labels=("head",))


def answers(view: View) -> Iterator[Relation]:
    """What was decrypted or told of answers: equations of heads where the inputs are known."""
    config: HeadConfig = view.config
    asked = _inputs(view)
    sk, encrypted = _key(view), list(view.rows("r", Kind.RECEIVED))
    if encrypted and _reads(view, sk, encrypted[0]):

        def opened() -> Array:
            return _by_owner(config, [_decrypted(_need(sk), view.value(row)) for row in encrypted])

        what = "logits" if config.depth == "one" else "pre-activations"
        yield _logits(view, what, encrypted, opened, config.rows, asked, decrypted=True)
    told = [row for row in view.rows("logits", Kind.RECEIVED) if role_of(row.receiver) is SERVER]
    if told:
        values = lambda: _by_owner(config, [view.value(row) for row in told])  # noqa: E731
        yield _logits(view, "logits", told, values, config.classes, asked, linear=config.depth == "one")
    decisions = list(view.rows("decision", Kind.RECEIVED))
    if decisions:
        heard = {role_of(row.receiver) for row in decisions}
        count = sum(row.shape[0] for row in decisions) // max(1, len(heard) * len(config.counts))
        owners = np.arange(len(config.counts))
        yield HeadDecisions(owners, count, config.classes, asked is not None, labels=("decision",))
    if any(role_of(party) is KEY_AUTHORITY for party in view.parties):
        yield Own("secret key", KEY_AUTHORITY.value, "drawn by the authority itself")
    yield from owned("head", DATA_OWNER.value, view, "trained by itself; its samples and coins repeat it")
    yield Without(HeadService, _LATER)
    yield Opaque(labels=("r", "pk"), why="ciphertexts without the key")


def sealed(pk: PaillierPublicKey, layer: Array, config: HeadConfig, coins: Coins) -> NDArray[np.uint8]:
    """The bytes (V, p) of the ciphertexts of heads (V, k, d + 1), as an owner encrypts its own."""
    parts = (paillier.encrypt(pk, *quantise_head(w[:, :-1], w[:, -1], config.form), coins) for w in layer)
    return np.stack([head.elements.reshape(-1) for head in parts])


def _logits(
    view: View, what: str, rows: list[Row], values: Callable[[], Array], width: int, asked: Later | None,
    decrypted: bool = False, linear: bool = True,
) -> HeadLogits:  # fmt: skip
    config, base = view.config, _base(view)
    count = sum(row.shape[0] for row in rows) // len(config.counts)
    features = None
    if base is not None and asked is not None and linear and view.has_payloads():
        features = lambda: _features(base, config, asked)  # noqa: E731
    return HeadLogits(np.arange(len(config.counts)), what, count, width, values, features,
                      config.form.feature.scale, asked is not None, decrypted,
                      labels=(rows[0].label,))  # fmt: skip


def _base(view: View) -> Base | None:
    """The public base, which every party has among its inputs."""
    if not view.has_payloads():
        return None
    layers: dict[str, Any] = {}
    for label in view.labels():
        if label.startswith(LABEL) or label in (IMAGES, FEATURES):
            layers[label] = next(iter(view.values(label, Kind.INPUT)))[1]
    return base_of(layers, view.config.shape, view.config.pool) if layers else None


def _inputs(view: View) -> Callable[[], Array] | None:
    """The images that were asked about, where a party of the view sent or received them."""
    rows = list(view.rows("x", Kind.SENT, Kind.RECEIVED))
    return (lambda: np.concatenate([view.value(row) for row in rows])[:_QUERIES]) if rows else None


def _features(base: Base, config: HeadConfig, asked: Any) -> Array:
    return quantise_features(base.phi(base.inputs(asked() / np.float32(config.x_max))), config.form)


def _by_owner(config: HeadConfig, messages: list[Array]) -> Array:
    """Messages, those of all owners for each message of queries, as (V, m, k)."""
    owners = len(config.counts)
    whole = messages[: len(messages) // owners * owners]
    return np.stack([np.concatenate(whole[i::owners])[:_QUERIES] for i in range(owners)])


def _public_key(view: View) -> PaillierPublicKey:
    found: PaillierPublicKey = next(iter(view.values("pk", Kind.SENT, Kind.RECEIVED)))[1]
    return found


def _key(view: View) -> PaillierSecretKey | None:
    """The secret key, drawn again from the authority's coins, if the public key that was sent fits it."""
    rows = list(view.rows("pk", Kind.SENT, Kind.RECEIVED))
    if not rows or not view.has_payloads():
        return None
    coins = [value for row, value in view.values("coins", Kind.COINS) if role_of(row.party) is KEY_AUTHORITY]
    if not coins:
        return None
    pk, sk = paillier.setup(view.config.params, Coins(coins[0].tobytes()))
    return sk if pk == view.value(rows[0]) else None


def _reads(view: View, sk: PaillierSecretKey | None, row: Row) -> bool:
    """Whether the authority's key is in the view and opens a message, as far as payloads were recorded."""
    if view.has_payloads():
        return sk is not None and _opens(sk, view.value(row))
    return any(role_of(party) is KEY_AUTHORITY for party in view.parties)


def _need(sk: PaillierSecretKey | None) -> PaillierSecretKey:
    """The key, where it could be drawn again."""
    if sk is None:
        raise SchemeError("the key cannot be drawn again: payloads were not recorded")
    return sk


def _opens(sk: PaillierSecretKey, ct: Any) -> bool:
    """Whether the first ciphertexts decrypt to something within its bounds."""
    try:
        _decrypted(sk, ct, slice(0, _TRIED))
    except SchemeError:
        return False
    return True


def _decrypted(sk: PaillierSecretKey, ct: Any, some: slice = slice(None)) -> Array:
    """The numbers in ciphertexts."""
    if isinstance(ct, PaillierFloats):
        return paillier.decrypt_float(sk, PaillierFloats(ct.tag, ct.elements[some], ct.exponents[some]))
    return paillier.decrypt(sk, PaillierLogits(ct.tag, ct.elements[some]))


def _opened(view: View, sk: PaillierSecretKey, rows: list[Row]) -> tuple[Array, ...]:
    """Layers (V, out, in + 1) of the heads, the second as the authority was told it."""
    config: HeadConfig = view.config
    whole = [_decrypted(sk, view.value(row)) for row in rows]
    if rows[0].dtype != PaillierFloats.__name__:
        steps = np.append(np.full(config.features, config.form.weight.scale), config.form.bias.scale)
        whole = [integers.T / steps for integers in whole]
    upper = [value for _, value in view.values("last_layer", Kind.RECEIVED)]
    if not upper:
        return (np.stack(whole).astype(np.float32),)
    if upper[0].dtype.kind == "i":
        width = upper[0].shape[1] - 1
        steps = np.append(np.full(width, config.form.weight.scale), config.last_bias_scale)
        upper = [layer / steps for layer in upper]
    return np.stack(whole).astype(np.float32), np.stack(upper).astype(np.float32)
