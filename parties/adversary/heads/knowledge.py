"""What views of reverse homomorphic encryption give away about the head and its answers.

* The server holds ciphertexts of the head: nothing, or under phe's floats the exponent of every weight.
* Logits that are fed back are linear in features that the server knows: W phi(x) + b, solved once d + 1 of them are independent.
  Decisions that are fed back are inequalities of the same kind.
* The authority can repeat its key from its coins, and opens the answers; with the server's ciphertexts it opens the head.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import Learned
from parties.record.view import Kind, Row, View
from protocols import reverse_he
from protocols.crypto import paillier
from protocols.crypto.coins import Coins
from protocols.crypto.paillier_keys import (
    PaillierFloats,
    PaillierLogits,
    PaillierPublicKey,
    PaillierSecretKey,
)
from protocols.language.errors import SchemeError
from protocols.language.roles import KEY_AUTHORITY, SERVER, role_of
from protocols.network.head_config import HeadConfig
from protocols.network.head_integers import quantise_features

_OPENED = 4  # rows of ciphertexts that are opened, to prove that the key fits
_QUERIES = 4096  # that equations are made of


def lines(view: View) -> list[Learned]:
    """Lines about the head and the logits."""
    if view.protocol != reverse_he.NAME:
        return []
    roles = {role_of(party) for party in view.parties}
    found: list[Learned] = []
    if SERVER in roles:
        found += [*of_ciphertexts(view), *of_answers(view)]
    if KEY_AUTHORITY in roles:
        found += opened(view)
    return found


def of_ciphertexts(view: View) -> Iterator[Learned]:
    """The encrypted head by itself."""
    row = next(iter(view.rows("head", Kind.RECEIVED)), None)
    if row is None:
        return
    if row.dtype != PaillierFloats.__name__:
        yield _line(
            view,
            "head",
            row.sender,
            "nothing",
            f"{int(np.prod(row.shape))} ciphertexts without the key",
            None,
        )
        return
    told = f"of {int(np.prod(row.shape))} weights and biases the exponent in the clear: each within a factor of 16"
    if view.has_payloads():
        told += f"; {len(np.unique(view.value(row).exponents))} different ones"
    yield _line(view, "head", row.sender, "bounded", told, 0)


def of_answers(view: View) -> Iterator[Learned]:
    """What is fed back: equations or inequalities about the head."""
    config: HeadConfig = view.config
    for label in ("decision", "logits"):
        rows = [row for row in view.rows(label, Kind.RECEIVED) if role_of(row.receiver) is SERVER]
        count = sum(row.shape[0] for row in rows)
        if not rows:
            continue
        if label == "decision":
            told = f"{count} decisions about features that it knows, {config.classes - 1} inequalities each"
            yield _line(view, "head", rows[0].sender, "bounded", told, 0)
        elif config.depth == "two" or not view.has_payloads() or "x" not in view:
            told = f"{count} times {config.classes} logits of inputs that it knows (no equations are counted)"
            yield _line(view, "head", rows[0].sender, "bounded", told, 0)
        else:
            yield _solved(view, rows, config)


def _solved(view: View, rows: list[Row], config: HeadConfig) -> Learned:
    """Whether the logits of a linear head determine it, on the features that were ever active."""
    logits = np.concatenate([view.value(row) for row in rows])[:_QUERIES]
    asked = np.concatenate([value for _, value in view.values("x", Kind.RECEIVED)])[: len(logits)]
    features = _features(view, config, asked)
    active = features.any(axis=0)
    known = np.hstack([features[:, active], np.ones((len(features), 1), np.int64)])
    rank = int(np.linalg.matrix_rank(known))
    told = f"logits are linear in features that it knows, {active.sum()} of {config.features} of them active: rank {rank} of {known.shape[1]}"
    if rank < known.shape[1] or logits.dtype.kind != "i":
        return _line(view, "head", rows[0].sender, "bounded", told, 0)
    head = np.rint(
        np.linalg.lstsq(known.astype(np.float64), logits.astype(np.float64), rcond=None)[0]
    ).astype(np.int64)
    if not np.array_equal(known @ head, logits):
        return _line(view, "head", rows[0].sender, "bounded", f"{told}; no integers solve them", 0)
    return _line(view, "head", rows[0].sender, "exact", f"{told}; solved in integers for these", 0)


def _features(view: View, config: HeadConfig, images: NDArray[Any]) -> NDArray[np.int64]:
    server = next(party for party in view.parties if role_of(party) is SERVER)
    inputs = {row.label: value for label in view.labels() if label.startswith("base_layer_")
              for row, value in view.values(label, Kind.INPUT) if row.party == server}  # fmt: skip
    base = reverse_he.base_of(inputs, config)
    return quantise_features(base.phi(base.inputs(images / np.float32(config.x_max))), config.form)


def opened(view: View) -> Iterator[Learned]:
    """What the authority's key opens: answers, and where it has them the ciphertexts of the head; some are opened to prove it."""
    answers, head = (next(iter(view.rows(label, Kind.RECEIVED)), None) for label in ("r", "head"))
    if not view.has_payloads() or (answers is None and head is None):
        return
    sk = _key(view)
    if sk is None:
        return
    if answers is not None and _opens(sk, view.value(answers)):
        count = sum(row.shape[0] for row in view.rows("r", Kind.RECEIVED))
        what = "logits" if view.config.depth == "one" else "pre-activations"
        told = f"decrypted with its key: {view.config.rows} numbers for each of {count} queries"
        yield _line(view, what, answers.sender, "exact", told, 0)
    if head is not None and _opens(sk, view.value(head)):
        told = "the authority's key opens the ciphertexts of the head"
        yield _line(view, "head", head.sender, "exact", f"{told}; {_OPENED} rows of them are opened", 0)


def _key(view: View) -> PaillierSecretKey | None:
    """The secret key, drawn again from the authority's coins, if it is that of the public key that was sent."""
    sent = next(iter(view.values("pk", Kind.SENT, Kind.RECEIVED)), None)
    coins = [value for row, value in view.values("coins", Kind.COINS) if role_of(row.party) is KEY_AUTHORITY]
    if sent is None or not coins or not isinstance(sent[1], PaillierPublicKey):
        return None
    pk, sk = paillier.setup(view.config.params, Coins(coins[0].tobytes()))
    return sk if pk == sent[1] else None


def _opens(sk: PaillierSecretKey, ct: Any) -> bool:
    """Whether the first ciphertexts decrypt to something within its bounds."""
    some = slice(0, _OPENED)
    try:
        if isinstance(ct, PaillierFloats):
            paillier.decrypt_float(sk, PaillierFloats(ct.tag, ct.elements[some], ct.exponents[some]))
        else:
            paillier.decrypt(sk, PaillierLogits(ct.tag, ct.elements[some]))
    except SchemeError:
        return False
    return True


def _line(view: View, what: str, of: str, how: str, detail: str, since: int | None) -> Learned:
    return Learned(", ".join(view.parties), what, of, how, detail, since)
