"""A crew: parties that share a process, and the instructions that move their messages.

What a party computes and what its view holds follow from these instructions alone, whatever runtime gives
them, and whether a run is carried out or replayed. A crew moves frames (the canonical bytes of messages) and
never looks into them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from parties.party import Party
from parties.record.transcript import Frame
from protocols.language.errors import VisibilityError
from protocols.language.message import Header
from protocols.language.roles import EXPERIMENTER
from protocols.language.session import DoStep, Group, Publish, Reveal, Transfer

T = TypeVar("T")


class Homes(dict[str, T]):
    """Who carries each party."""

    def __missing__(self, party: str) -> T:
        raise VisibilityError(f"{party} takes no part: the protocol's `taking_part` counts fewer owners")


class Crew:
    """Carries parties and moves their messages."""

    def __init__(self, parties: Mapping[str, Party]) -> None:
        self._parties = parties
        self._groups: dict[int, tuple[tuple[int, Party], ...]] = {}

    def members(self, group: Group) -> tuple[tuple[int, Party], ...]:
        """(position in the group, party) of the members that live here."""
        if group.id not in self._groups:
            here = tuple((i, self._parties[m]) for i, m in enumerate(group.members) if m in self._parties)
            self._groups[group.id] = here
        return self._groups[group.id]

    def do(self, step: DoStep) -> None:
        """Run a step at every member of its group that lives here."""
        frame, who = np.frombuffer(step.told, np.uint8), EXPERIMENTER.value
        for i, party in self.members(step.group):
            party.call(
                step, Header(step.seq + i, step.phase, step.round, who, party.name, "arguments"), frame
            )

    def emit(self, transfer: Transfer) -> list[tuple[int, Frame]]:
        """(index, frame) of each message of a transfer that is sent here; a broadcast is encoded once."""
        frames = []
        alone = len(transfer.senders.members) == 1
        for i, party in self.members(transfer.senders):
            if not alone and i in transfer.refused:
                continue
            if not alone:
                frames.append((i, party.emit(header(transfer, i), transfer.source)))
            elif transfer.parts:
                count = [j for j in range(transfer.count) if j not in transfer.refused]
                frames += [(j, party.emit(header(transfer, j), transfer.source, j)) for j in count]
            elif not transfer.refused:
                frames.append((0, self._broadcast(transfer, party)))
        return frames

    def _broadcast(self, transfer: Transfer, party: Party) -> Frame:
        frame = party.emit(header(transfer, 0), transfer.source)
        value = party.value(transfer.source)
        for j in range(1, transfer.count):
            party.record_sent(header(transfer, j), value, frame)
        return frame

    def receive(self, transfer: Transfer, frames: Sequence[tuple[int, Frame]]) -> None:
        """Hand frames to the receivers here; that with index 0 serves all receivers of a broadcast."""
        by_index = dict(frames)
        broadcast = len(transfer.senders.members) == 1 and not transfer.parts
        for i, party in self.members(transfer.receivers):
            if transfer.collect:
                items = [
                    party.receive(header(transfer, j), by_index[j], transfer.type)
                    for j in range(transfer.count)
                    if j not in transfer.refused
                ]
                party.keep(transfer.target, items)
            elif (0 if broadcast else i) not in transfer.refused:
                frame = by_index[0 if broadcast else i]
                party.keep(transfer.target, party.receive(header(transfer, i), frame, transfer.type))

    def reveal(self, reveal: Reveal) -> Frame:
        """Encode a value for the experimenter."""
        ((_, party),) = self.members(reveal.group)
        head = Header(reveal.seq, reveal.phase, reveal.round, party.name, EXPERIMENTER.value, reveal.label)
        return party.output(head, reveal.source)

    def publish(self, publish: Publish) -> None:
        """Hand a value of the experimenter's to the members of a group that live here."""
        for i, party in self.members(publish.group):
            place = (
                publish.seq + i,
                publish.phase,
                publish.round,
                EXPERIMENTER.value,
                party.name,
                publish.label,
            )
            party.keep(publish.target, party.receive(Header(*place), publish.frame, publish.type))

    def free(self, group: Group, handle: int) -> None:
        """Forget a value at the members of a group."""
        for _, party in self.members(group):
            party.free(handle)


def header(transfer: Transfer, i: int) -> Header:
    """The header of message i of a transfer."""
    senders, receivers = transfer.senders.members, transfer.receivers.members
    return Header(
        seq=transfer.seq + i,
        phase=transfer.phase,
        round=transfer.round,
        sender=senders[i if len(senders) > 1 else 0],
        receiver=receivers[i if len(receivers) > 1 else 0],
        label=transfer.label,
    )
