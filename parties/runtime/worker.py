"""The host's half of a run in processes: it carries out batches of instructions, and passes frames on.

After a failure a host computes no more, but still tells those who wait for its frames that none will come;
the driver hears of the failure with the report on the batch.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from parties.data.shares import forget_data_sets
from parties.party import at
from parties.record.transcript import Frame
from parties.runtime.crew import header
from parties.runtime.host import Host, HostSpec
from parties.runtime.wire import Address, PeerLost, Pulse, Wire
from protocols.language.errors import (
    OUT_OF_MEMORY,
    KeyholeError,
    MessageError,
    ProtocolError,
    ran_out_of_memory,
)
from protocols.language.message import Header
from protocols.language.session import DoStep, Group, Publish, Reveal, Transfer


@dataclass(frozen=True)
class Emit:
    """Send a transfer; each of the hosts `to` gets the frames of its receivers, all that of a broadcast."""

    transfer: Transfer
    to: tuple[str, ...]


@dataclass(frozen=True)
class Receive:
    """Receive a transfer, whose frames come from the hosts `out_of`."""

    transfer: Transfer
    out_of: tuple[str, ...]


@dataclass(frozen=True)
class Free:
    """Forget a value."""

    group: Group
    handle: int


@dataclass(frozen=True)
class Checkpoint:
    """Write what the parties hold, where so many phases have ended; `confirmed`: one that all hosts have."""

    phases: int
    confirmed: int


Instruction = DoStep | Emit | Receive | Publish | Reveal | Free | Checkpoint


@dataclass(frozen=True)
class Report:
    """What became of a batch; `revealed` is the frame of its last instruction, if that revealed something."""

    failure: str = ""
    cause: str = ""  # the type of the failure
    lost: str = ""  # the host that did not answer
    revealed: Frame | None = field(default=None, repr=False)
    bad: Header | None = None  # the message that one party is to blame for
    unkept: str = ""  # why a checkpoint could not be written


class Worker:
    """A host in a process of its own, on the wire."""

    def __init__(
        self, spec: HostSpec, home: Mapping[str, str], token: bytes, listener: socket.socket
    ) -> None:
        """`home` says which host carries which party; raises `KeyholeError` where the host cannot start."""
        self._name, self._home = spec.name, dict(home)
        self._host = Host(spec)
        forget_data_sets()
        self._wire = Wire(spec.name, token, listener, self._host.spoken)
        self._groups: dict[int, Group] = {}
        self._before = 0 if spec.resumed is None else spec.resumed.before
        self._failed = False
        self._done = 0
        self._doing: Instruction | None = None
        self._awaited = 0  # the index of the message that it waits for
        self._wire.pulse = self._pulse
        self._unkept = ""
        for peer, seq in (self._host.point.sent or {}).items():
            self._wire.sent_before(peer, seq)
        for peer, seq in (self._host.point.taken or {}).items():
            self._wire.taken_before(peer, seq)
        self.pid = os.getpid()

    def meet(self, book: Mapping[str, Address]) -> None:
        """Learn at which addresses the other hosts listen."""
        self._wire.meet(book)

    def rejoin(self, book: Mapping[str, Address], back: Sequence[str]) -> Report:
        """Come back in the place of a host that died; the script begins anew for those that come `back`."""
        try:
            self._wire.rejoin(book, back)
        except PeerLost as lost:
            return Report(lost=lost.peer)
        return Report()

    def execute(self, groups: Sequence[Group], batch: Sequence[Instruction]) -> Report:
        """Carry out a batch of instructions; `groups` are those that it is the first to name by number."""
        self._groups.update((group.id, group) for group in groups)
        report = Report()
        for instruction in batch:
            if self._failed:
                self._excuse(instruction)
                continue
            self._doing = instruction
            try:
                revealed = self._carry_out(instruction)
                if revealed is not None:
                    report = replace(report, revealed=revealed)
            except PeerLost as lost:
                self._failed, report = True, replace(report, lost=lost.peer)
            except KeyholeError as error:
                bad = getattr(error, "of", None)
                report = replace(report, failure=str(error), cause=type(error).__name__, bad=bad)
            except Exception as error:  # a defect of ours: the text may hold values, so only the type goes on
                why = OUT_OF_MEMORY if ran_out_of_memory(error) else type(error).__name__
                failure = f"{self._name}: {type(instruction).__name__} failed: {why}"
                report = replace(report, failure=failure, cause=ProtocolError.__name__)
            if report.failure:
                self._failed = True
                self._excuse(instruction)
            self._done += 1
        self._doing = None
        return replace(report, unkept=self._unkept)

    def close(self, keep: bool) -> None:
        """Finish the transcript, and with `keep` what the parties keep."""
        self._wire.halt()
        if keep and not self._failed:
            self._host.keep_state()
        self._host.close(failed=not keep or self._failed)

    def _pulse(self) -> Pulse:
        """How it gets on; asked for from another thread."""
        now = self._doing
        match now:
            case DoStep():
                return Pulse(self._done, doing=f"{now.step} in {at(now.phase, now.round)}")
            case Emit() | Receive():
                waits = isinstance(now, Receive)
                one = header(self._whole_transfer(now.transfer), self._awaited if waits else 0)
                verb = "waits for" if waits else "sends"
                return Pulse(self._done, waits, f"{verb} {one.said} in {at(one.phase, one.round)}")
            case Checkpoint():
                return Pulse(self._done, doing="a checkpoint")
            case None | Free():
                return Pulse(self._done)
        return Pulse(self._done, doing=f"{now.label} in {at(now.phase, now.round)}")

    def _carry_out(self, instruction: Instruction) -> Frame | None:
        match instruction:
            case DoStep():
                self._host.do(replace(instruction, group=self._whole(instruction.group)))
            case Emit():
                self._emit(instruction)
            case Receive():
                self._receive(instruction)
            case Publish():
                self._host.publish(replace(instruction, group=self._whole(instruction.group)))
            case Reveal():
                return self._host.reveal(instruction)
            case Free():
                self._host.free(self._whole(instruction.group), instruction.handle)
            case Checkpoint():
                crossed = self._wire.crossed()
                self._unkept = self._host.keep_checkpoint(instruction.phases, instruction.confirmed, *crossed)
        return None

    def _emit(self, emit: Emit) -> None:
        transfer = self._whole_transfer(emit.transfer)
        frames = self._host.emit(transfer)
        if transfer.seq < self._before:  # whoever received it has it in its transcript
            for host in emit.to:
                self._wire.sent_before(host, transfer.seq)
            return
        if len(emit.to) == 1 or is_broadcast(transfer):
            parts = [frames] * len(emit.to)
        else:
            home = [self._home[member] for member in transfer.receivers.members]
            parts = [[(i, frame) for i, frame in frames if home[i] == host] for host in emit.to]
        for host, part in zip(emit.to, parts, strict=True):
            self._wire.send(host, transfer.seq, part)

    def _receive(self, receive: Receive) -> None:
        transfer = self._whole_transfer(receive.transfer)
        if transfer.seq < self._before:
            for host in receive.out_of:
                self._wire.taken_before(host, transfer.seq)
            self._host.receive(transfer, self._host.heard(transfer))
            return
        frames: list[tuple[int, Frame]] = []
        for host in receive.out_of:
            indices = self._from(host, transfer)
            self._awaited = indices[0] if indices else 0
            try:
                arrived = self._wire.take(host, transfer.seq, indices)
            except ProtocolError as cause:
                first = header(transfer, indices[0])
                ((_, here), *_) = self._host.members(transfer.receivers)
                where = f"{here.name}: {first.said} in {at(first.phase, first.round)}"
                raise MessageError(f"{where} did not come as it was sent: {cause}") from None
            if arrived is None:
                self._failed = True  # the sender failed and has said so itself
            frames += arrived or ()
        if not self._failed:
            self._host.receive(transfer, frames)

    def _from(self, host: str, transfer: Transfer) -> list[int]:
        """Which messages of a transfer, or the one frame of a broadcast, come from a host to this one."""
        if is_broadcast(transfer):
            return [] if transfer.refused else [0]
        senders, receivers = transfer.senders.members, transfer.receivers.members
        found = [i for i in range(transfer.count) if i not in transfer.refused]
        if len(senders) > 1:
            found = [i for i in found if self._home[senders[i]] == host]
        if len(receivers) > 1:
            found = [i for i in found if self._home[receivers[i]] == self._name]
        return found

    def _excuse(self, instruction: Instruction) -> None:
        """Tell those who would wait for this host that nothing comes."""
        if isinstance(instruction, Emit):
            for host in instruction.to:
                with contextlib.suppress(PeerLost):
                    self._wire.send(host, instruction.transfer.seq, None)

    def _whole(self, group: Group) -> Group:
        return group if group.members else self._groups[group.id]

    def _whole_transfer(self, transfer: Transfer) -> Transfer:
        return replace(
            transfer, senders=self._whole(transfer.senders), receivers=self._whole(transfer.receivers)
        )


def is_broadcast(transfer: Transfer) -> bool:
    """Whether the receivers all get the one frame of the sender."""
    return len(transfer.senders.members) == 1 and not transfer.parts
