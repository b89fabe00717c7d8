"""Which node of a cluster carries which host.

A node that offers a custom resource named after a role gets that role's hosts. The other roles share the
nodes that offer none, each on nodes of its own where there are as many; where all nodes are named, all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from parties.runtime.host import HostSpec

_TRACE = 0.001  # of a resource: whoever asks for it lands where it is offered, and takes nothing away


@dataclass(frozen=True)
class Node:
    """A node that is up, and what it offers."""

    id: str
    resources: Mapping[str, float]


@dataclass(frozen=True)
class Place:
    """The node where a host should start, and what a node must offer instead, should that one be gone."""

    node: str
    resources: Mapping[str, float]


def places(specs: Sequence[HostSpec], nodes: Sequence[Node]) -> dict[str, Place]:
    """The place of each host; the hosts of a role take turns on its nodes."""
    roles = list(dict.fromkeys(spec.role.value for spec in specs))
    named = {role: [node.id for node in nodes if role in node.resources] for role in roles}
    plain = [node for node in nodes if not any(role in node.resources for role in roles)]
    working = [node.id for node in plain if node.resources.get("CPU")]  # not a head that is to carry nothing
    free = working or [node.id for node in plain] or [node.id for node in nodes]
    others = [role for role in roles if not named[role]]
    turns = {role: _turn(free, i, len(others)) for i, role in enumerate(others)}
    found, count = dict[str, Place](), dict.fromkeys(roles, 0)
    for spec in specs:
        role = spec.role.value
        nodes_of_role = named[role] or turns[role]
        asked = {role: _TRACE} if named[role] else {}
        found[spec.name] = Place(nodes_of_role[count[role] % len(nodes_of_role)], asked)
        count[role] += 1
    return found


def _turn(free: Sequence[str], i: int, of: int) -> Sequence[str]:
    """The nodes of the i-th of so many roles."""
    return free[i::of] if len(free) >= of else [free[i % len(free)]]
