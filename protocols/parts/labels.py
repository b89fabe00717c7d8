"""Where labels are while the cloud holds the layers above the first: in the clear, or under FEBO.

`error(s, p, batch)` gives P - Y at the cloud. Under FEBO (CryptoNN) C asks the authority for a key of every
element of P and decrypts Y - P, so that A sees P, and C learns the labels as P + (Y - P) all the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from protocols.crypto import febo
from protocols.language.figure import Arrow
from protocols.language.message import wire
from protocols.language.options import option
from protocols.language.roles import CLOUD_TRAINER, DATA_OWNER, KEY_AUTHORITY
from protocols.language.session import Located, Session
from protocols.language.state import Authority, Cloud, Owner, State
from protocols.network import training
from protocols.network.config import Labels, RoundedLabels
from protocols.network.schedule import Batch
from protocols.parts import keys
from protocols.parts.arrays import LABELS as CLASSES


@dataclass(frozen=True)
class Options(keys.Options, RoundedLabels):
    """Where labels are."""

    labels: Labels = option(Labels.CLEAR, "How labels reach the cloud.")


@wire
@dataclass(frozen=True)
class LabelRequest:
    """What C asks keys for, element by element: (commitment, -, P), with P (B, k) in fixed point."""

    commitments: NDArray[np.uint8]
    p: NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.p.shape


class Clear:
    """Owners hand their labels to the cloud."""

    UPLOAD = (
        Arrow("upload", DATA_OWNER, CLOUD_TRAINER, "labels", "y in the clear",
              when="labels=clear", type=CLASSES),
    )  # fmt: skip

    def set_up(self, s: Session) -> None:
        """Nothing to set up."""

    def upload(self, s: Session, part: int, rows: int) -> None:
        """O hands over the labels of a chunk of its samples."""
        o, c = s.each(DATA_OWNER), s.at(CLOUD_TRAINER)
        c.do(store_labels, s.gather(o.send(c, labels=o.do(own_labels, part, rows))))

    def error(self, s: Session, p: Located, batch: Batch) -> Located:
        """C: P - Y."""
        found: Located = s.at(CLOUD_TRAINER).do(error_in_clear, p, batch)
        return found

    @staticmethod
    def describe(config: Options) -> str:
        """One line for the table of what protects a run."""
        return "in the clear to the cloud"


class Febo:
    """Owners encrypt their labels, element by element of one-hot Y."""

    SETUP = (
        Arrow("setup", KEY_AUTHORITY, DATA_OWNER, "mpk_labels", "FEBO.Setup()",
              when="labels=febo", type=febo.FeboPublicKey),
        Arrow("setup", KEY_AUTHORITY, CLOUD_TRAINER, "mpk_labels",
              when="labels=febo", type=febo.FeboPublicKey),
    )  # fmt: skip
    UPLOAD = (
        Arrow("upload", DATA_OWNER, CLOUD_TRAINER, "ct_labels", "FEBO(Y)",
              when="labels=febo", type=febo.FeboCiphertext),
    )  # fmt: skip
    STEP = (
        Arrow("step", CLOUD_TRAINER, KEY_AUTHORITY, "p", "(commitment, -, P)",
              when="labels=febo", type=LabelRequest),
        Arrow("step", KEY_AUTHORITY, CLOUD_TRAINER, "sk_labels", "k B keys; C: Y - P",
              when="labels=febo", type=febo.FeboKey),
    )  # fmt: skip

    def set_up(self, s: Session) -> None:
        """A draws the master key and publishes the public one."""
        o, a, c = s.each(DATA_OWNER), s.at(KEY_AUTHORITY), s.at(CLOUD_TRAINER)
        mpk = a.do(set_up_febo)
        o.do(keep_febo, a.send(o, mpk_labels=mpk))
        c.do(keep_febo, a.send(c, mpk_labels=mpk))

    def upload(self, s: Session, part: int, rows: int) -> None:
        """O encrypts the labels of a chunk of its samples."""
        o, c = s.each(DATA_OWNER), s.at(CLOUD_TRAINER)
        c.do(store_ct_labels, s.gather(o.send(c, ct_labels=o.do(encrypt_labels, part, rows))))

    def error(self, s: Session, p: Located, batch: Batch) -> Located:
        """C: P - Y, with a key for each element."""
        a, c = s.at(KEY_AUTHORITY), s.at(CLOUD_TRAINER)
        asked = c.send(a, p=c.do(ask_labels, p, batch))  # C: (commitment, -, P)
        sk = a.send(c, sk_labels=a.do(derive_label_keys, asked))  # A: a key for each element
        found: Located = c.do(decrypted_error, sk, batch)  # C: Y - P = Dec(sk, ct)
        return found  # fmt: skip

    @staticmethod
    def describe(config: Options) -> str:
        """One line for the table of what protects a run."""
        return febo.describe(febo_parameters(config))


def febo_parameters(config: Options) -> Any:
    """FEBO over the group of the samples; 0 <= Y, P <= label_scale."""
    return febo.parameters(config.label_scale, config.label_scale, config.group)


# -- O --


def own_labels(state: Owner, part: int, rows: int) -> NDArray[Any]:
    """O: the labels of a chunk of rows."""
    return state.inputs["labels"][part * rows : (part + 1) * rows]


def encrypt_labels(state: Owner, part: int, rows: int) -> Any:
    """O: FEBO(Y), element by element, of one-hot labels in fixed point."""
    y = training.rounded_labels(own_labels(state, part, rows), state.config)
    return febo.encrypt(state.held["mpk", "labels"], y, state.coins)


# -- A --


def set_up_febo(state: Authority) -> Any:
    """A: (mpk, msk) <- FEBO.Setup()."""
    mpk, state.held["msk", "labels"] = febo.setup(febo_parameters(state.config), state.coins)
    return mpk


def derive_label_keys(state: Authority, asked: LabelRequest) -> Any:
    """A: cmt^s g^P for each element."""
    return febo.key_derive(state.held["msk", "labels"], asked.commitments, febo.Operation.SUB, asked.p)


# -- C --


def keep_febo(state: Owner | Cloud, mpk: Any) -> None:
    """O, C: keep the public key of the labels."""
    state.held["mpk", "labels"] = febo.check(mpk, febo_parameters(state.config))


def store_labels(state: Cloud, labels: list[NDArray[Any]]) -> None:
    """C: keep each owner's labels, chunk after chunk."""
    held = state.held.setdefault("labels", [own[:0] for own in labels])
    state.held["labels"] = [np.concatenate([own, more]) for own, more in zip(held, labels, strict=True)]
    training.check_rows([len(own) for own in state.held["labels"]], state.config)


def store_ct_labels(state: Cloud, cts: list[Any]) -> None:
    """C: keep each owner's encrypted labels; decryption checks their elements."""
    for parts, ct in zip(state.held.setdefault("ct_labels", [[] for _ in cts]), cts, strict=True):
        parts.append(ct)


def error_in_clear(state: Cloud, p: torch.Tensor, batch: Batch) -> torch.Tensor:
    """C: P - Y of a batch (B, k)."""
    labels = training.batch_slice(state.held["labels"][batch.owner], batch)
    return training.output_error(p, labels, state.config)


def ask_labels(state: Cloud, p: torch.Tensor, batch: Batch) -> LabelRequest:
    """C: the request (commitment, -, P) for each element."""
    return LabelRequest(_label_ct(state, batch).commitments, training.rounded_p(p, state.config))


def decrypted_error(state: Cloud, sk: Any, batch: Batch) -> torch.Tensor:
    """C: P - Y of a batch from Y - P, as FEBO decrypts it."""
    y_minus_p = febo.decrypt(state.held["mpk", "labels"], sk, _label_ct(state, batch))
    return training.restored_error(y_minus_p, state.config)


def _label_ct(state: State, batch: Batch) -> Any:
    ct, start = keys.uploaded_chunk(state.held["ct_labels"], batch, state.config)
    return febo.rows(ct, start, start + batch.size)


LABELS: MappingProxyType[Labels, type[Clear] | type[Febo]] = MappingProxyType({
    Labels.CLEAR: Clear, Labels.FEBO: Febo,
})  # fmt: skip
