"""Asking a linear model on columns: the querier sends whole samples, under the protection of the training.

Where errors are opened, it encrypts them with targets of zero. Where gradients are, they are a batch whose
right side is r_ji = 1 for i = j, so that the gradient for weights w is <w, x_i>; at most n samples a
ciphertext.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.crypto import ipfe_ddh, qfe
from protocols.crypto.groups import workers
from protocols.language.errors import ConfigError
from protocols.language.roles import CLOUD_TRAINER, DATA_OWNER, KEY_AUTHORITY
from protocols.language.session import Session
from protocols.language.state import Cloud, Owner
from protocols.network import inference, training
from protocols.parts.columns import Mode, Options, columns, padded, places_of_rows

_ROWS = 256  # samples in a message, about


def predict(
    s: Session, config: Options, count: int, quantised: Callable[..., Any], derive: Callable[..., Any]
) -> Iterator[Any]:
    """Ask, with the steps by which C rounds its weights and A derives keys; yields the classes of parts."""
    if config.target >= 0 and config.classes > 2:
        raise ConfigError("--target: one class against the rest names no class; train a head for each to ask")
    o, a, c = s.at(DATA_OWNER), s.at(KEY_AUTHORITY) if config.encrypts == "yes" else None, s.at(CLOUD_TRAINER)
    rows = max(1, _ROWS // at_once(config)) * at_once(config)
    for part in inference.parts(count, rows):
        with s.phase("predict", part):
            if a is None:
                scores = c.do(clear_scores, o.send(c, x=o.do(queried, part, rows)))
            else:
                if part == 0:
                    sk = a.send(c, sk=a.do(derive, c.send(a, w=c.do(quantised))))
                ct = o.send(c, ct=o.do(encrypt_queries, part, rows))
                scores = c.do(opened_scores, sk, ct, min(rows, count - part * rows))
            yield s.reveal(o.do(inference.take_classes, c.send(o, classes=scores)), why="prediction")


def queried(state: Owner, part: int, rows: int) -> NDArray[Any]:
    """O: samples that it asks about, (m, n)."""
    return training.own_samples(state, part, rows)


def encrypt_queries(state: Owner, part: int, rows: int) -> Any:
    """O: samples that it asks about, as `opened_scores` opens them."""
    config, mpk, x = state.config, state.held["mpk"], training.own_samples(state, part, rows).astype(np.int64)
    if config.mode is Mode.FEDV:
        first, none = len(columns(config)[0]), np.zeros((len(x), len(config.heads)), np.int64)
        return ipfe_ddh.encrypt(mpk, np.hstack([x[:, :first], none, x[:, first:]]), state.coins)
    size, (left, right) = at_once(config), places_of_rows(config)
    x, limits = padded(x, size), mpk.params.bounds
    lefts = np.zeros((len(x), limits.left), np.int64)
    rights = np.zeros((len(x), limits.right), np.int64)
    lefts[:, left[:size].ravel()] = x.reshape(len(x), -1)
    rights[:, np.diagonal(right[:size])] = 1
    return qfe.encrypt(mpk, lefts, rights, state.coins)


def at_once(config: Options) -> int:
    """Samples of a ciphertext of a query: of a batch as many as there are weights."""
    return min(config.batch, config.features) if config.mode is Mode.QUADRATIC else 1


def clear_scores(state: Cloud, x: NDArray[Any]) -> NDArray[np.int16]:
    """C: the class of each sample."""
    return classes_by(state.config, x.astype(np.float64) @ state.w.T)


def opened_scores(state: Cloud, sk: Any, ct: Any, count: int) -> NDArray[np.int16]:
    """C: <w, x> of each sample of a query, and its class."""
    config, mpk = state.config, state.held["mpk"]
    if config.mode is Mode.FEDV:
        return classes_by(config, ipfe_ddh.decrypt(mpk, sk, ipfe_ddh.load(mpk, ct))[:count])
    found = qfe.decrypt(mpk, sk, ct, workers=workers.available())[:, :, : at_once(config)]
    return classes_by(config, found.swapaxes(1, 2).reshape(-1, len(config.heads))[:count])


def classes_by(config: Options, scores: NDArray[Any]) -> NDArray[np.int16]:
    """The class of each sample by scores (m, heads); of one head, of two classes."""
    if config.target < 0:
        found = scores.argmax(axis=1)
    else:
        found = np.where(scores[:, 0] > 0, config.target, 1 - config.target)
    classes: NDArray[np.int16] = found.astype(np.int16)
    return classes
