"""Columns of several owners in the clear: the baseline of linear models on vertically split data.

Owners send their columns, the first one labels too; gradients are those of the protected run, without its
rounding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.language.errors import MalformedError
from protocols.language.figure import Arrow, Integers, sized
from protocols.language.roles import CLOUD_TRAINER, DATA_OWNER
from protocols.language.session import Session
from protocols.language.state import Cloud, Owner
from protocols.network import training
from protocols.parts.arrays import LABELS
from protocols.parts.columns import Options, per_upload, targets

UPLOAD = (
    Arrow("upload", DATA_OWNER, CLOUD_TRAINER, "x", "X_i in the clear", when="mode=clear",
          type=sized(Integers, "m n_i")),
    Arrow("upload", DATA_OWNER, CLOUD_TRAINER, "labels", "y in the clear, of the first", when="mode=clear",
          type=LABELS),
)  # fmt: skip


def upload(s: Session, config: Options, part: int) -> None:
    """O: its columns, of the first one labels too; C: keeps them."""
    o, first, c = s.each(DATA_OWNER), s.at(DATA_OWNER), s.at(CLOUD_TRAINER)
    x = s.gather(o.send(c, x=o.do(own_columns, part)))
    c.do(store, x, first.send(c, labels=first.do(own_labels, part)))


def own_columns(state: Owner, part: int) -> NDArray[Any]:
    """O: its columns of an upload, (m, n_i)."""
    rows = per_upload(state.config) * state.config.batch
    return training.own_samples(state, part, rows)


def own_labels(state: Owner, part: int) -> NDArray[Any]:
    """O: labels of an upload, (m,)."""
    rows = per_upload(state.config) * state.config.batch
    return state.inputs["labels"][part * rows : (part + 1) * rows]


def store(state: Cloud, x: list[NDArray[Any]], labels: NDArray[Any]) -> None:
    """C: samples of all columns, and targets."""
    if len({len(part) for part in (*x, labels)}) != 1:
        raise MalformedError("owners sent columns of different samples")
    state.held["x"].append(np.concatenate(x, axis=1).astype(np.float64))
    state.held["t"].append(targets(state.config, labels))


def gradient(state: Cloud, batch: int) -> NDArray[Any]:
    """C: X^T (X w - y) of a batch (heads, n), in the unit of the whole-numbered ones and not rounded."""
    config, (part, place) = state.config, divmod(batch, per_upload(state.config))
    rows = slice(place * config.batch, (place + 1) * config.batch)
    x, t = state.held["x"][part][rows], state.held["t"][part][rows]
    error = x @ (state.w * config.weight_scale).T - config.label_weight * t
    found: NDArray[Any] = error.T @ x
    return found
