"""The language in which protocols are written: located values, local steps, sends.

    o, c = s.at(DATA_OWNER), s.at(CLOUD_TRAINER)
    with s.phase("step", t):
        z1 = o.send(c, z1=o.do(first_layer, t))      # 1. O: Z1 = W1 X_B^T      O -> C

`at.do(step, *args)` runs a module-level function `step(state, *values)` at a party and returns a `Located`: a
handle that names a value at that party and carries none. A step annotated `-> tuple[A, B]` returns two
handles. `at.send(other, label=handle)` is the only way across; it returns the handle of the receiver's own
copy. `s.each(...)` says the same of many parties of one role, `s.gather` hands what many sent to one step, as
a list in the order of the senders. `s.reveal` takes a value out, for the experimenter; a script may yield it,
branch on it where it is a bool, and send it back to a party by `s.publish`, which is an arrow of the figure.

The session checks the rules and numbers the messages in script order. What happens is up to a `Runtime`,
which is given instructions and never a value.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from enum import Enum
from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from protocols.language.confine import check_step, is_frozen
from protocols.language.errors import FigureError, Left, VisibilityError
from protocols.language.figure import Figure
from protocols.language.message import encode
from protocols.language.options import as_plain
from protocols.language.roles import EXPERIMENTER, Role, party_name
from protocols.language.state import roles_of

NO_ROUND = -1
_REMEMBERED = 32  # encodings of public arguments

Step = Callable[..., Any]


@dataclass(frozen=True)
class Group:
    """Parties that a script addresses as one, in a fixed order; `id` is unique in a session."""

    id: int
    members: tuple[str, ...]


@dataclass(frozen=True)
class Ref:
    """An argument of a step that is a value at the party itself."""

    id: int


@dataclass(frozen=True)
class DoStep:
    """Run a step at every member of a group; its results are stored under `outs`.

    `told` is the encoding of its public arguments, a list; it is entry `seq` + i in the view of member i.
    """

    group: Group
    module: str
    step: str
    args: tuple[Any, ...]  # Ref, or a public value
    outs: tuple[int, ...]
    split: bool  # whether the step returns a tuple, one item for each of `outs`
    phase: str
    round: int
    seq: int = -1
    told: bytes = b""


@dataclass(frozen=True)
class Transfer:
    """Messages from each sender to each receiver of two groups: of equal size, or one of them of one member.

    Message i has number `seq` + i and goes from sender i (or the only one) to receiver i (or the only one).
    `source` and `target` name the value there; `parts` says that the source is a list with one item for each
    receiver.
    """

    seq: int
    phase: str
    round: int
    label: str
    senders: Group
    receivers: Group
    source: int
    target: int
    type: Any = None  # what the receivers take
    parts: bool = False
    collect: bool = False  # the one receiver keeps a list, one item for each sender
    refused: tuple[int, ...] = ()  # messages that were found bad, and are not sent again

    @property
    def count(self) -> int:
        """Number of messages."""
        return max(len(self.senders.members), len(self.receivers.members))


@dataclass(frozen=True)
class Reveal:
    """Hand a plain value to the experimenter, as message number `seq`."""

    seq: int
    phase: str
    round: int
    label: str
    group: Group
    source: int


@dataclass(frozen=True)
class Publish:
    """A value of the experimenter's, encoded, for every member of a group: message `seq` + i to member i."""

    seq: int
    phase: str
    round: int
    label: str
    group: Group
    target: int
    frame: NDArray[np.uint8]
    type: Any = None


class Runtime(Protocol):
    """What carries out a session's instructions, in order, somewhere."""

    def do(self, step: DoStep) -> None: ...
    def transfer(self, transfer: Transfer) -> None: ...
    def reveal(self, reveal: Reveal) -> Any: ...
    def publish(self, publish: Publish) -> None: ...
    def free(self, group: Group, handle: int) -> None: ...
    def end_phase(self, phase: str, round: int) -> None: ...


class _Handle:
    """One entry in the heap of each party of a group; freed there when the script forgets it."""

    def __init__(self, session: Session, group: Group) -> None:
        self.session, self.group, self.id = session, group, session._next_handle()

    def __del__(self) -> None:
        self.session.runtime.free(self.group, self.id)


class Located:
    """A value at a party, or one at each party of a group; carries no value itself."""

    def __init__(self, handle: _Handle, senders: Group | None = None, parts: Group | None = None) -> None:
        self._handle = handle
        self._senders = senders  # who sent the parts, while they are not gathered
        self._parts = parts  # to whom the items of a list go, once it is scattered

    def __repr__(self) -> str:
        return f"<value {self._handle.id} at {_names(self._handle.group)}>"

    def __iter__(self) -> Iterator[Any]:
        raise VisibilityError(
            "a located value cannot be unpacked; annotate the step with -> tuple[...] to return several"
        )

    def __bool__(self) -> bool:
        raise VisibilityError("a script cannot branch on a located value; use reveal(handle, why=...)")

    def __eq__(self, other: object) -> bool:
        raise VisibilityError("a script cannot compare located values; use reveal(handle, why=...)")

    __hash__ = object.__hash__


class Revealed:
    """A value at the experimenter, which a script can but hand on: by `yield`, or by `publish`."""

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value

    def __repr__(self) -> str:
        return "<a revealed value>"

    def __bool__(self) -> bool:
        if type(self._value) is not bool:
            raise VisibilityError("a script branches on a revealed bool only: let a step compute it")
        return self._value

    def __getattr__(self, name: str) -> Any:
        raise VisibilityError(f"a script cannot look into what was revealed (.{name}): let a step compute it")

    def __getitem__(self, item: Any) -> Any:
        raise VisibilityError("a script cannot take items of what was revealed: let a step compute it")


def opened(value: Any) -> Any:
    """For the experimenter: what a script yielded, with what was revealed in the clear."""
    if isinstance(value, Revealed):
        return value._value
    if isinstance(value, list | tuple):
        return [opened(item) for item in value]
    return {key: opened(item) for key, item in value.items()} if isinstance(value, dict) else value


class At:
    """A party, or a group of parties of one role, as a script addresses it."""

    def __init__(self, session: Session, role: Role, group: Group) -> None:
        self.session, self.role, self.group = session, role, group

    def do(self, step: Callable[..., Any], *args: Any) -> Any:
        """Run `step(state, *values)` here; returns a `Located`, or a tuple of them if it is annotated so.

        Arguments are handles of values here, or public: int, float, str, bool, None, an enum, a frozen
        dataclass, a tuple of such; these are rows of the party's view, and of the digest. Raises
        `VisibilityError` for anything else.
        """
        check_step(step)
        step = self.session.instead.get((self.role, step), step)
        self._check_role(step)
        outs, split = _results(step)
        handles = tuple(_Handle(self.session, self.group) for _ in range(outs))
        phase, round_ = self.session._now()
        given = tuple(self._argument(arg, step) for arg in args)
        told = self.session._told(tuple(arg for arg in given if not isinstance(arg, Ref)))
        self.session.runtime.do(
            DoStep(
                group=self.group,
                module=step.__module__,
                step=step.__qualname__,
                args=given,
                outs=tuple(handle.id for handle in handles),
                split=split,
                phase=phase,
                round=round_,
                seq=self.session._number(len(self.group.members)) if told else -1,
                told=told,
            )
        )
        located = tuple(Located(handle) for handle in handles)
        return located if split else located[0]

    def send(self, other: At, /, **labelled: Located) -> Any:
        """Send values to `other` under labels, the keywords; returns the handle there, or a tuple of several.

        Between a group and one party every member sends or receives its own; the receiver of many gathers
        them.
        """
        if not labelled:
            raise VisibilityError("send needs a label: send(other, label=handle)")
        sent = tuple(self._send(other, label, value) for label, value in labelled.items())
        return sent if len(sent) > 1 else sent[0]

    def _send(self, other: At, label: str, value: Located) -> Located:
        if not isinstance(value, Located) or not self._holds(value):
            raise VisibilityError(
                f"{_names(self.group)} cannot send {label}: expected a value of its own, got {value!r}"
            )
        if value._senders is not None:
            raise VisibilityError(f"{label}: gather what many parties sent before sending it on")
        if value._parts is not None and value._parts != other.group:
            raise VisibilityError(
                f"{label}: its parts are for {_names(value._parts)}, not for {_names(other.group)}"
            )
        many = len(self.group.members) > 1 or self.session._is_each(self.group)
        to_many = len(other.group.members) > 1 or self.session._is_each(other.group)
        collect = many and not to_many
        target = _Handle(self.session, other.group)
        self.session._transfer(self, other, label, value, target.id, collect)
        return Located(target, senders=self.group if collect else None)

    def _check_role(self, step: Step) -> None:
        roles = roles_of(step)
        if roles is not None and self.role not in roles:
            whose = " or ".join(sorted(role.value for role in roles))
            raise VisibilityError(f"{step.__qualname__} is a step of {whose}, not of {self.role.value}")

    def _holds(self, value: Located) -> bool:
        return value._handle.session is self.session and value._handle.group == self.group

    def _argument(self, arg: Any, step: Callable[..., Any]) -> Any:
        if isinstance(arg, Located):
            if not self._holds(arg):
                raise VisibilityError(
                    f"{step.__qualname__} at {_names(self.group)} was given {arg!r}: send it first"
                )
            if arg._senders is not None:
                raise VisibilityError(
                    f"{step.__qualname__} was given what many parties sent: gather it first"
                )
            return Ref(arg._handle.id)
        if isinstance(arg, Revealed):
            raise VisibilityError(
                f"{step.__qualname__} was given a revealed value: send it back by publish first"
            )
        if _is_public(arg):
            return arg
        raise VisibilityError(
            f"{step.__qualname__} at {_names(self.group)} was given a bare {type(arg).__name__}: "
            "expected a handle, or an int, float, str, enum or frozen dataclass"
        )


class Session:
    """One run of a protocol: who takes part, in which phase it is, and the numbering of its messages."""

    def __init__(
        self,
        runtime: Runtime,
        figure: Figure,
        counts: dict[Role, int],
        config: Any,
        instead: Mapping[tuple[Role, Step], Step] | None = None,
    ) -> None:
        """`counts` says how many parties play each role; `config` selects the arrows of `figure` that apply.

        `instead[role, step]` is the step that the parties of a role run whenever the script has them run
        `step`: a defence or a deviation. Transcripts name the step that was run. It takes the same arguments
        and returns as many values.
        """
        if config is not None and not is_frozen(config):
            raise VisibilityError(
                "a configuration is a frozen dataclass without cached properties: all parties read it"
            )
        self.runtime = runtime
        self.counts = counts
        self.instead = dict(instead or {})
        for (role, step), other in self.instead.items():
            check_step(other)
            if _results(step) != _results(other):
                raise VisibilityError(
                    f"{other.__qualname__} returns other values than {step.__qualname__} of {role.value}"
                )
        self._arrows = {arrow.key: arrow.type for arrow in figure if arrow.applies(config)}
        self._phase: tuple[str, int] = ("", NO_ROUND)
        self._handles = self._groups = self._messages = 0
        self._said_before: dict[tuple[int, ...], tuple[tuple[Any, ...], bytes]] = {}
        self._ats: dict[tuple[Role, int], At] = {}
        self._each: set[int] = set()
        self._groups_of: dict[tuple[Role, tuple[int, ...]], At] = {}
        self._bad = {each.message: each.owner for each in getattr(config, "dropped", ())}
        self.left: tuple[int, ...] = ()  # owners that were left out so far, for a message that was bad

    def at(self, role: Role, index: int = 0) -> At:
        """One party of a role."""
        if not 0 <= index < self.counts.get(role, 0):
            raise VisibilityError(f"no party {party_name(role, index)} takes part in this run")
        if (role, index) not in self._ats:
            self._ats[role, index] = At(self, role, self._group((party_name(role, index),)))
        return self._ats[role, index]

    def each(self, role: Role, indices: Sequence[int] | None = None) -> At:
        """Every party of a role, or those with the given indices, addressed as one."""
        known = range(self.counts.get(role, 0))
        chosen = tuple(known if indices is None else indices)
        if (role, chosen) in self._groups_of:
            return self._groups_of[role, chosen]
        if not chosen or len(set(chosen)) != len(chosen) or not all(i in known for i in chosen):
            raise VisibilityError(
                f"a group of {role.value} needs one or more different parties out of {len(known)}"
            )
        group = self._group(tuple(party_name(role, i) for i in chosen))
        self._each.add(group.id)
        self._groups_of[role, chosen] = At(
            self, role, group
        )  # hosts keep groups by number: no second one for the same
        return self._groups_of[role, chosen]

    def gather(self, sent: Located) -> Located:
        """What many parties sent to one, as one value there: a list, in the order of the senders."""
        if not isinstance(sent, Located) or sent._senders is None:
            raise VisibilityError("gather expects what a group sent to one party")
        return Located(sent._handle)

    def scatter(self, items: Located, to: At) -> Located:
        """Mark a list at one party so that sending it to the group `to` gives each member its own item."""
        if (
            not isinstance(items, Located)
            or items._senders is not None
            or len(items._handle.group.members) != 1
        ):
            raise VisibilityError("scatter expects a list at one party")
        return Located(items._handle, parts=to.group)

    def reveal(self, value: Located, *, why: str) -> Revealed:
        """Give the value of a handle at one party to the experimenter; recorded with `why` as its label."""
        if (
            not isinstance(value, Located)
            or value._handle.session is not self
            or len(value._handle.group.members) != 1
        ):
            raise VisibilityError("reveal expects a value at one party")
        if value._senders is not None:
            raise VisibilityError("reveal was given what many parties sent: gather it first")
        phase, round_ = self._now()
        seq = self._number(1)
        instruction = Reveal(seq, phase, round_, why, value._handle.group, value._handle.id)
        return Revealed(self.runtime.reveal(instruction))

    def publish(self, to: At, /, **labelled: Revealed) -> Any:
        """Send revealed values to a party or a group; returns the handle there, or a tuple of several."""
        if not labelled:
            raise VisibilityError("publish needs a label: publish(to, label=revealed)")
        there = tuple(self._publish(to, label, value) for label, value in labelled.items())
        return there if len(there) > 1 else there[0]

    def _publish(self, to: At, label: str, value: Revealed) -> Located:
        if not isinstance(value, Revealed):
            raise VisibilityError(
                f"publish of {label} expects what was revealed, got a {type(value).__name__}"
            )
        phase, round_, kind = self._said(EXPERIMENTER, to, label)
        target = _Handle(self, to.group)
        seq = self._number(len(to.group.members))
        frame = encode(opened(value))
        self.runtime.publish(Publish(seq, phase, round_, label, to.group, target.id, frame, kind))
        return Located(target)

    @contextmanager
    def phase(self, name: str, round: int = NO_ROUND) -> Iterator[None]:
        """Name the phase, and the round in it, of everything said inside."""
        if self._phase[0]:
            raise VisibilityError(f"phase {name} begins inside phase {self._phase[0]}")
        self._phase = (name, round)
        try:
            yield
            self.runtime.end_phase(name, round)
        except Left:
            self.runtime.end_phase(name, round)
            raise
        finally:
            self._phase = ("", NO_ROUND)

    def _now(self) -> tuple[str, int]:
        if not self._phase[0]:
            raise VisibilityError("a step or a message outside any phase: write `with s.phase(...)`")
        return self._phase

    def _transfer(
        self, sender: At, receiver: At, label: str, value: Located, target: int, collect: bool
    ) -> None:
        phase, round_, kind = self._said(sender.role, receiver, label)
        if sender.group.members == receiver.group.members:
            raise VisibilityError(f"{_names(sender.group)} cannot send {label} to itself")
        sizes = {len(sender.group.members), len(receiver.group.members)}
        if len(sizes - {1}) > 1:
            raise VisibilityError(f"{label}: groups of {sorted(sizes)} parties cannot be paired")
        first, count = self._number(max(sizes)), max(sizes)
        bad = tuple(i for i in range(count) if first + i in self._bad) if self._bad else ()
        transfer = Transfer(
            first, phase, round_, label, sender.group, receiver.group,
            value._handle.id, target, kind, value._parts is not None, collect, bad,
        )  # fmt: skip
        self.runtime.transfer(transfer)
        if bad:
            gone = [self._bad[first + i] for i in bad]
            self.left += tuple(gone)
            who = ", ".join(party_name(sender.role, owner) for owner in gone)
            raise Left(f"{label} of {who} in phase {phase} is needed")

    def _said(self, sender: Role, receiver: At, label: str) -> tuple[str, int, Any]:
        """The phase, round and type of a message, which the figure must show."""
        phase, round_ = self._now()
        key = phase, sender.value, receiver.role.value, label
        if key not in self._arrows:
            raise FigureError(
                f"{sender.value} -> {receiver.role.value}: {label} in phase {phase} "
                "is not in the protocol's FIGURE"
            )
        return phase, round_, self._arrows[key]

    def _told(self, public: tuple[Any, ...]) -> bytes:
        """The encoding of public arguments; steps of a visit are often told the same.

        Remembered by identity, as 1, 1.0 and True are equal; what is remembered holds on to its objects.
        """
        if not public:
            return b""
        key = tuple(map(id, public))
        if key not in self._said_before:
            if len(self._said_before) >= _REMEMBERED:
                self._said_before.clear()
            self._said_before[key] = public, encode(as_plain(public)).tobytes()
        return self._said_before[key][1]

    def addressed(self) -> set[str]:
        """The parties that the script has spoken of so far."""
        spoken = (*self._ats.values(), *self._groups_of.values())
        return {name for at in spoken for name in at.group.members}

    def _number(self, count: int) -> int:
        self._messages += count
        return self._messages - count

    def _next_handle(self) -> int:
        self._handles += 1
        return self._handles

    def _group(self, members: tuple[str, ...]) -> Group:
        self._groups += 1
        return Group(self._groups, members)

    def _is_each(self, group: Group) -> bool:
        return group.id in self._each


def _is_public(value: Any) -> bool:
    # Exactly these types: a subclass of int can carry an array as well.
    if value is None or type(value) in (bool, int, float, str):
        return True
    if isinstance(value, Enum):
        return _is_public(value.value)
    if type(value) is tuple:
        return all(_is_public(item) for item in value)
    if is_frozen(value):
        return all(_is_public(getattr(value, field.name)) for field in fields(value))
    return False


@cache
def _results(step: Callable[..., Any]) -> tuple[int, bool]:
    """How many values a step returns, by its annotation, and whether as a tuple."""
    returned = typing.get_type_hints(step).get("return")
    items = typing.get_args(returned)
    if typing.get_origin(returned) is tuple and Ellipsis not in items:
        return len(items), True
    return 1, False


def _names(group: Group) -> str:
    first = group.members[0] if group.members else "nobody"
    return first if len(group.members) == 1 else f"{first} and {len(group.members) - 1} more"


__all__ = [
    "EXPERIMENTER",
    "At",
    "DoStep",
    "Group",
    "Located",
    "Publish",
    "Ref",
    "Reveal",
    "Revealed",
    "Runtime",
    "Session",
    "Transfer",
    "opened",
]
