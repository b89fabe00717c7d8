"""A runtime that carries out a script in memory and notes every message: what an audit runs again and
again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parties.party import load_step
from protocols.crypto.ideal import Sealed
from protocols.language.errors import StepError
from protocols.language.message import decode
from protocols.language.session import DoStep, Group, Publish, Ref, Reveal, Transfer
from protocols.language.state import State

Reals = NDArray[np.float64]


@dataclass(frozen=True)
class Message:
    """One message: where and when, the numbers that its receiver reads, and what is sealed in it."""

    sender: str
    receiver: str
    label: str
    phase: str
    round: int
    numbers: Reals
    sealed: tuple[Sealed, ...]


@dataclass
class Trace:
    """What happened in a run: its messages in order, who drew which master key, what was revealed, and what
    is left out, for coalitions of how many owners.
    """

    messages: list[Message] = field(default_factory=list)
    masters: list[tuple[str, Sealed]] = field(default_factory=list)
    outputs: dict[tuple[str, str, int], Reals] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)


class Watch:
    """Carries out instructions at once, on the states of all parties."""

    def __init__(self, states: dict[str, State], drawn: list[Sealed]) -> None:
        """`drawn` is the list to which a master key is added when it is drawn."""
        self.trace, self._drawn = Trace(), drawn
        self._states, self._heaps = states, {name: dict[int, Any]() for name in states}

    def do(self, step: DoStep) -> None:
        function = load_step(step.module, step.step)
        for name in step.group.members:
            heap = self._heaps[name]
            values = (heap[arg.id] if isinstance(arg, Ref) else arg for arg in step.args)
            try:
                result = function(self._states[name], *values)
            except Exception as cause:
                why = f"{type(cause).__name__}: {cause}"
                raise StepError(f"{name}: {step.step} cannot be audited in {step.phase}: {why}") from cause
            self.trace.masters += [(name, master) for master in self._drawn]
            self._drawn.clear()
            heap.update(zip(step.outs, result if step.split else (result,), strict=True))

    def transfer(self, transfer: Transfer) -> None:
        senders, receivers = transfer.senders.members, transfer.receivers.members
        gathered = []
        for i in range(transfer.count):
            sender = senders[i if len(senders) > 1 else 0]
            receiver = receivers[i if len(receivers) > 1 else 0]
            value = self._heaps[sender][transfer.source]
            value = copied(value[i] if transfer.parts else value)
            self._note(sender, receiver, transfer, value)
            gathered.append(value)
            if not transfer.collect:
                self._heaps[receiver][transfer.target] = value
        if transfer.collect:
            self._heaps[receivers[0]][transfer.target] = gathered

    def reveal(self, reveal: Reveal) -> Any:
        (name,) = reveal.group.members
        value = copied(self._heaps[name][reveal.source])
        number = sum(key[:2] == (name, reveal.label) for key in self.trace.outputs)
        self.trace.outputs[name, reveal.label, number] = read(value)[0]
        return value

    def publish(self, publish: Publish) -> None:
        value = decode(publish.frame)
        for name in publish.group.members:
            self._heaps[name][publish.target] = copied(value)
            self._note("experimenter", name, publish, value)

    def free(self, group: Group, handle: int) -> None:
        for name in group.members:
            self._heaps[name].pop(handle, None)

    def end_phase(self, phase: str, round: int) -> None:
        """Nothing is counted here."""

    def _note(self, sender: str, receiver: str, sent: Transfer | Publish, value: Any) -> None:
        numbers, sealed = read(value)
        self.trace.messages.append(
            Message(sender, receiver, sent.label, sent.phase, sent.round, numbers, sealed)
        )


class Script:
    """What a script says, noted while a watch carries it out: it says the same whatever its parties put in
    and draw, unless it branches on a revealed bool, or publishes what was revealed.
    """

    def __init__(self, watch: Watch) -> None:
        self._watch, self._open = watch, False
        self._said: list[tuple[str, tuple[Any, ...]]] = []

    def do(self, step: DoStep) -> None:
        self._note("do", step)

    def transfer(self, transfer: Transfer) -> None:
        self._note("transfer", transfer)

    def reveal(self, reveal: Reveal) -> Any:
        value = self._note("reveal", reveal)
        self._open |= type(value) is bool
        return value

    def publish(self, publish: Publish) -> None:
        self._open = True
        self._note("publish", publish)

    def free(self, group: Group, handle: int) -> None:
        self._note("free", group, handle)

    def end_phase(self, phase: str, round: int) -> None:
        """Nothing is counted here."""

    def closed(self) -> tuple[tuple[str, tuple[Any, ...]], ...] | None:
        """The verbs of a watch that were called, and with what; None where another run may be told others."""
        return None if self._open else tuple(self._said)

    def _note(self, verb: str, *args: Any) -> Any:
        self._said.append((verb, args))
        return getattr(self._watch, verb)(*args)


def copied(value: Any) -> Any:
    """A copy as the receiver has it: arrays that nobody writes to, fresh lists; what is frozen stays."""
    if isinstance(value, np.ndarray):
        twin = value.copy()
        twin.flags.writeable = False
        return twin
    if isinstance(value, list | tuple):
        return type(value)(copied(item) for item in value)
    return {key: copied(item) for key, item in value.items()} if isinstance(value, dict) else value


def read(value: Any) -> tuple[Reals, tuple[Sealed, ...]]:
    """The numbers in a value, in one row, and the sealed arrays."""
    numbers, sealed = [], []
    for leaf in leaves(value):
        if isinstance(leaf, Sealed):
            sealed.append(leaf)
        elif isinstance(leaf, np.ndarray) and leaf.dtype.kind in "fiub":
            numbers.append(np.asarray(leaf, np.float64).ravel())
        elif isinstance(leaf, bool | int | float):
            numbers.append(np.array([float(leaf)]))
    return np.concatenate(numbers) if numbers else np.zeros(0), tuple(sealed)


def leaves(value: Any) -> Iterator[Any]:
    """Arrays and numbers in a value."""
    if isinstance(value, dict):
        for name in sorted(value, key=str):
            yield from leaves(value[name])
    elif isinstance(value, list | tuple):
        for item in value:
            yield from leaves(item)
    elif is_dataclass(value) and not isinstance(value, type):
        for each in fields(value):
            yield from leaves(getattr(value, each.name))
    else:
        yield value
