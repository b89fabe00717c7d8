"""Samples under function-hiding encryption, an instance for each owner, and who holds the master keys: an
authority, or each owner.

`ask(s, o, visit)` gives the cloud keys that hide the rows of W1. The scheme is secret-key, so that an
authority shares each owner's key: it sees the rounded W1 of every step, and with a ciphertext it would read
the sample. A shared master key would let every owner open all others' ciphertexts.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.crypto import fhipe
from protocols.crypto.groups import workers
from protocols.crypto.groups.named import get_pairing
from protocols.crypto.records import Bounds
from protocols.language.figure import Arrow
from protocols.language.options import as_in, option
from protocols.language.roles import CLOUD_TRAINER, DATA_OWNER, KEY_AUTHORITY
from protocols.language.session import At, Located, Session
from protocols.language.state import Authority, Cloud, Owner
from protocols.network import training
from protocols.network.config import Authority as Holder
from protocols.network.config import Rounded
from protocols.network.schedule import Visit, chunk_rows
from protocols.parts.arrays import ROUNDED_W1


@dataclass(frozen=True)
class Options(Rounded):
    """The pairing, and who holds the master keys."""

    weight_scale: int = as_in(Rounded, "weight_scale", 64)
    group: str = option("bn254", "Group of the pairing.")
    authority: Holder = option(Holder.PARTY, "mitig1: who holds the master keys.")


class AtAuthority:
    """A party of its own holds every master key, and each owner its own."""

    SETUP = (
        Arrow("setup", KEY_AUTHORITY, DATA_OWNER, "msk", "(pp, msk) <- Setup(n), for each owner",
              when="authority=party", type=fhipe.FhipeMasterKey),
        Arrow("setup", KEY_AUTHORITY, CLOUD_TRAINER, "pp",
              when="authority=party", type=list[fhipe.FhipePublicParams]),
    )  # fmt: skip
    STEP = (
        Arrow("step", DATA_OWNER, KEY_AUTHORITY, "w1", "[W1] rounded",
              when="authority=party", type=ROUNDED_W1),
        Arrow("step", KEY_AUTHORITY, CLOUD_TRAINER, "sk_w1", "h hiding keys; C: Z1 = W1 X_B^T",
              when="authority=party", type=list[fhipe.FhipeFunctionKey]),
    )  # fmt: skip
    PREDICT = (
        Arrow("predict", DATA_OWNER, KEY_AUTHORITY, "w1", "[W1] rounded",
              when="authority=party", type=ROUNDED_W1),
        Arrow("predict", KEY_AUTHORITY, CLOUD_TRAINER, "sk_w1", "h hiding keys",
              when="authority=party", type=list[fhipe.FhipeFunctionKey]),
    )  # fmt: skip
    described = "a party of its own, and each owner its own"

    def set_up(self, s: Session) -> None:
        """A draws an instance for each owner."""
        o, a, c = s.each(DATA_OWNER), s.at(KEY_AUTHORITY), s.at(CLOUD_TRAINER)
        msk, pp = a.do(set_up_instances)
        o.do(keep_key, a.send(o, msk=s.scatter(msk, o)))
        c.do(keep_instances, a.send(c, pp=pp))

    def ask(self, s: Session, o: At, visit: Visit) -> Located:
        """O: [W1]; A: sk of every row."""
        a, c = s.at(KEY_AUTHORITY), s.at(CLOUD_TRAINER)
        asked = s.gather(o.send(a, w1=o.do(training.quantised_w1)))
        sk: Located = a.send(c, sk_w1=a.do(derive_keys, asked, visit))
        return sk


class AtOwner:
    """Each owner draws its own instance and issues its own keys."""

    SETUP = (
        Arrow("setup", DATA_OWNER, CLOUD_TRAINER, "pp", "O: (pp, msk) <- Setup(n)",
              when="authority=owner", type=fhipe.FhipePublicParams),
    )  # fmt: skip
    STEP = (
        Arrow("step", DATA_OWNER, CLOUD_TRAINER, "sk_w1", "h hiding keys; C: Z1 = W1 X_B^T",
              when="authority=owner", type=fhipe.FhipeFunctionKey),
    )  # fmt: skip
    PREDICT = (
        Arrow("predict", DATA_OWNER, CLOUD_TRAINER, "sk_w1", "h hiding keys",
              when="authority=owner", type=fhipe.FhipeFunctionKey),
    )  # fmt: skip
    described = "each owner its own"

    def set_up(self, s: Session) -> None:
        """O draws its instance."""
        o, c = s.each(DATA_OWNER), s.at(CLOUD_TRAINER)
        c.do(keep_instances, s.gather(o.send(c, pp=o.do(set_up_own))))

    def ask(self, s: Session, o: At, visit: Visit) -> Located:
        """O: sk of every row of [W1]."""
        return s.gather(o.send(s.at(CLOUD_TRAINER), sk_w1=o.do(derive_own, o.do(training.quantised_w1))))


AUTHORITIES: MappingProxyType[Holder, type[AtAuthority] | type[AtOwner]] = MappingProxyType({
    Holder.PARTY: AtAuthority, Holder.OWNER: AtOwner,
})  # fmt: skip


class Samples:
    """Each owner's samples, under its instance."""

    UPLOAD = (
        Arrow("upload", DATA_OWNER, CLOUD_TRAINER, "ct", "Enc(x_j) of every sample",
              type=fhipe.FhipeCiphertext),
    )  # fmt: skip

    def upload(self, s: Session, part: int, rows: int) -> None:
        """O encrypts a chunk of its samples; C keeps the ciphertexts."""
        o, c = s.each(DATA_OWNER), s.at(CLOUD_TRAINER)
        c.do(store_ct, s.gather(o.send(c, ct=o.do(encrypt_samples, part, rows))))


def parameters(config: Options) -> Any:
    """The scheme's parameters for <w, x> of length n."""
    return fhipe.parameters(Bounds(config.features, config.x_max, config.weights.limit), config.group)


def upload_rows(config: Options) -> int:
    """Samples in a chunk; whole batches."""
    return chunk_rows(config, get_pairing(config.group).g2_bytes * (config.features + 1))


# -- O --


def set_up_own(state: Owner) -> Any:
    """O: its own instance; returns the public parameters."""
    pp, state.held["msk"] = fhipe.setup(parameters(state.config), state.coins)
    return pp


def keep_key(state: Owner, msk: Any) -> None:
    """O: keep its master key."""
    state.held["msk"] = fhipe.check_msk(msk, parameters(state.config))


def encrypt_samples(state: Owner, part: int, rows: int) -> Any:
    """O: Enc(x_j) for a chunk of rows."""
    return fhipe.encrypt(state.held["msk"], training.own_samples(state, part, rows), state.coins)


def derive_own(state: Owner, w1: NDArray[Any]) -> Any:
    """O: a key for each row, under its own instance."""
    return fhipe.key_derive(state.held["msk"], w1, state.coins)


# -- A --


def set_up_instances(state: Authority) -> tuple[list[Any], list[Any]]:
    """A: an instance for each owner; master keys and public parameters."""
    config: Options = state.config
    made = [fhipe.setup(parameters(config), state.coins) for _ in config.counts]
    state.held["msk"] = [msk for _, msk in made]
    return state.held["msk"], [pp for pp, _ in made]


def derive_keys(state: Authority, w1: list[NDArray[Any]], visit: Visit) -> list[Any]:
    """A: a key for each row, under the instance of the owner that asks."""
    msks = (state.held["msk"][i] for i in visit.owners(state.config))
    return [fhipe.key_derive(msk, rows, state.coins) for msk, rows in zip(msks, w1, strict=True)]


# -- C --


def keep_instances(state: Cloud, pp: list[Any]) -> None:
    """C: keep the public parameters of every owner's instance."""
    state.held["pp"] = [fhipe.check(each, parameters(state.config)) for each in pp]


def store_ct(state: Cloud, cts: list[Any]) -> None:
    """C: check and keep each owner's ciphertexts."""
    held = state.held.setdefault("ct", [[] for _ in cts])
    for parts, pp, ct in zip(held, state.held["pp"], cts, strict=True):
        parts.append(fhipe.load(pp, ct))


def decrypt(state: Cloud, sk: Any, owner: int, visit: Visit) -> NDArray[np.int64]:
    """C: the products (B, h) of an owner's batch with the rows that keys are for, on all processors."""
    config: Options = state.config
    batch = visit.position(config, owner)[1]
    part, start = divmod(batch.start, upload_rows(config))
    ct = fhipe.rows(state.held["ct"][owner][part], start, start + batch.stop - batch.start)
    return fhipe.decrypt(state.held["pp"][owner], sk, ct, workers.available())
