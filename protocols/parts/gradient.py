"""Who computes dW1 = dZ1 X_B / B while the cloud holds W1: the owner, or the cloud with keys for the rows of
dZ1.

`update(s, dz1, batch)` changes W1. With keys, a second encryption of every batch is uploaded, of the n rows
of X_B^T; a batch smaller than B is padded with zeros. A then sees dZ1 in the key requests.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.language.figure import Arrow, Integers, sized
from protocols.language.options import option
from protocols.language.roles import CLOUD_TRAINER, DATA_OWNER, KEY_AUTHORITY
from protocols.language.session import Located, Session
from protocols.language.state import Cloud, Owner
from protocols.network import conv, training
from protocols.network.config import Gradient
from protocols.network.schedule import Batch
from protocols.parts import keys
from protocols.parts.arrays import W1, Z1
from protocols.parts.keys import Instance, OfRun

Float = NDArray[np.float32]


@dataclass(frozen=True)
class Options(keys.Options):
    """Who computes dW1."""

    gradient: Gradient = option(Gradient.OWNER, "Who computes dW1.")


class AtOwner:
    """The owner of a batch computes dW1 from dZ1."""

    STEP = (
        Arrow("step", CLOUD_TRAINER, DATA_OWNER, "dz1", "dZ1", when="gradient=owner", type=Z1),
        Arrow("step", DATA_OWNER, CLOUD_TRAINER, "dw1", "dW1 = dZ1 X_B / B",
              when="gradient=owner", type=W1),
    )  # fmt: skip
    instances: tuple[Instance, ...] = ()

    def __init__(self, scope: OfRun) -> None:
        """`scope` names the master keys, of which there are none here."""

    def update(self, s: Session, dz1: Located, batch: Batch) -> None:
        """C: W1 <- W1 - lr dW1."""
        o, c = s.at(DATA_OWNER, batch.owner), s.at(CLOUD_TRAINER)
        dw1 = o.send(c, dw1=o.do(own_gradient, c.send(o, dz1=dz1), batch))  # O: dW1 = dZ1 X_B / B
        c.do(update_from_owner, dw1)  # C: W1 <- W1 - lr v


class UnderKeys:
    """C decrypts dZ1 X_B with a key for each row of dZ1."""

    SETUP = (
        Arrow("setup", KEY_AUTHORITY, DATA_OWNER, "mpk_batch", "Setup(B)",
              when="gradient=fe", type=keys.PUBLIC_KEY),
        Arrow("setup", KEY_AUTHORITY, CLOUD_TRAINER, "mpk_batch",
              when="gradient=fe", type=keys.PUBLIC_KEY | list[keys.PUBLIC_KEY]),
    )  # fmt: skip
    UPLOAD = (
        Arrow("upload", DATA_OWNER, CLOUD_TRAINER, "ct_batch", "Enc(rows of X_B^T) of every batch",
              when="gradient=fe", type=list[keys.CIPHERTEXT]),
    )  # fmt: skip
    STEP = (
        Arrow("step", CLOUD_TRAINER, KEY_AUTHORITY, "dz1", "[dZ1] rounded",
              when="gradient=fe", type=sized(Integers, "h B")),
        Arrow("step", KEY_AUTHORITY, CLOUD_TRAINER, "sk_dz1", "h keys; C: dZ1 X_B",
              when="gradient=fe", type=keys.FUNCTION_KEY),
    )  # fmt: skip
    instances: tuple[Instance, ...] = (keys.BATCHES,)

    def __init__(self, scope: OfRun) -> None:
        self.scope = scope

    def update(self, s: Session, dz1: Located, batch: Batch) -> None:
        """C: W1 <- W1 - lr dW1."""
        self.issue(s, self.request(s, dz1), batch)

    def request(self, s: Session, dz1: Located) -> Located:
        """C: [dZ1]."""
        a, c = s.at(KEY_AUTHORITY), s.at(CLOUD_TRAINER)
        rows: Located = c.send(a, dz1=c.do(rounded_dz1, dz1))
        return rows

    def issue(self, s: Session, rows: Located, batch: Batch) -> None:
        """A: sk of every row of dZ1; C: dW1 = Dec(sk, ct) / B, W1."""
        a, c = s.at(KEY_AUTHORITY), s.at(CLOUD_TRAINER)
        name = self.scope.name(keys.BATCHES.kind, batch)
        c.do(update_from_ct, a.send(c, sk_dz1=a.do(keys.derive_keys, name, rows)), batch)


def own_gradient(state: Owner, dz1: Float, batch: Batch) -> Float:
    """O: dW1 = dZ1 X_B / B of its own batch."""
    x = training.batch_slice(state.inputs["images"], batch)
    dw1: Float = training.first_layer_gradient(dz1, x, state.config).numpy()
    return dw1


def update_from_owner(state: Cloud, dw1: Float) -> None:
    """C: update W1 with the owner's dW1."""
    training.update_w1(state, training.tensor(dw1))


def rounded_dz1(state: Cloud, dz1: Float) -> NDArray[Any]:
    """C: the rows of dZ1 (h, B) as integers, zeros beyond a smaller batch."""
    config: Options = state.config
    found = training.quantise(dz1, config, "dZ1").T
    rows = np.zeros((config.width, config.batch), dtype=found.dtype)
    rows[:, : len(dz1)] = found
    return rows


def update_from_ct(state: Cloud, sk: Any, batch: Batch) -> None:
    """C: dW1 = dZ1 X_B / B by decryption, and the update of W1."""
    config: Options = state.config
    products, layer = keys.decrypt_gradient(state, sk, batch), config.conv
    whole = products if layer is None else conv.folded(products, layer)  # C learns the sum at each position
    training.update_w1(state, training.rounded_dw1(whole, batch.size, config))


GRADIENTS: MappingProxyType[Gradient, type[AtOwner] | type[UnderKeys]] = MappingProxyType({
    Gradient.OWNER: AtOwner, Gradient.FE: UnderKeys,
})  # fmt: skip
