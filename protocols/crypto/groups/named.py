"""The groups and pairings that can be chosen by name."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from protocols.language.errors import ConfigError

if TYPE_CHECKING:
    from protocols.crypto.groups.elements import Group
    from protocols.crypto.groups.pairing import Pairing

GROUPS = ("secp256k1", "bn254", "bls12_381", "modp2048")
PAIRINGS = ("bn254", "bls12_381")


@cache
def get_group(name: str) -> Group:
    """The group called `name`, one of `GROUPS`; raises `ConfigError` for another."""
    if name in (
        "secp256k1",
        "bn254",
    ):  # imported here: each needs a library that a run without it need not load
        from protocols.crypto.groups.mcl_group import mcl_group

        return mcl_group(name)
    if name == "bls12_381":
        from protocols.crypto.groups.bls import bls12_381

        return bls12_381()
    if name == "modp2048":
        from protocols.crypto.groups.modp import modp2048

        return modp2048()
    raise ConfigError(f"there is no group {name!r}; choose one of {', '.join(GROUPS)}")


@cache
def get_pairing(name: str) -> Pairing:
    """The pairing called `name`, one of `PAIRINGS`; raises `ConfigError` for another."""
    if name == "bn254":
        from protocols.crypto.groups.mcl_pairing import bn254

        return bn254()
    if name == "bls12_381":
        from protocols.crypto.groups.bls import bls12_381_pairing

        return bls12_381_pairing()
    raise ConfigError(f"there is no pairing {name!r}; choose one of {', '.join(PAIRINGS)}")


def group_sizes(name: str) -> dict[str, Any]:
    """What the symbols of shapes stand for in a group: bytes of an element and of an exponent."""
    group = get_group(name)
    return {"group": name, "element": group.nbytes, "scalar": group.scalar_bytes}


def pairing_sizes(name: str) -> dict[str, Any]:
    """What the symbols of shapes stand for in a pairing: bytes of elements of G1 and G2, of an exponent."""
    pairing = get_pairing(name)
    sizes = {"g1": pairing.g1_bytes, "g2": pairing.g2_bytes, "scalar": pairing.scalar_bytes}
    return {"group": name, **sizes}
