"""The inline runtime: every party in this process, one instruction after the other, for tests and debuggers.

Messages are encoded, recorded and decoded exactly as between processes; only the transport is missing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from parties.runtime.checkpoints import Checkpoints
from parties.runtime.crew import Crew, Homes
from parties.runtime.host import Host, HostSpec
from parties.runtime.worker import Report
from protocols.language.errors import TranscriptError
from protocols.language.message import decode
from protocols.language.session import DoStep, Group, Publish, Reveal, Transfer

Progress = Callable[[str, int], None]


class AtOnce:
    """Carries out instructions at once, at the crews that are concerned."""

    def __init__(self, home: Mapping[str, Crew], progress: Progress | None = None) -> None:
        """`home`: the crew of each party."""
        self._home, self._progress = Homes(home), progress

    def do(self, step: DoStep) -> None:
        for crew in self._crews_of(step.group):
            crew.do(step)

    def transfer(self, transfer: Transfer) -> None:
        frames = [frame for crew in self._crews_of(transfer.senders) for frame in crew.emit(transfer)]
        for crew in self._crews_of(transfer.receivers):
            crew.receive(transfer, frames)

    def reveal(self, reveal: Reveal) -> Any:
        return decode(self._home[reveal.group.members[0]].reveal(reveal))

    def publish(self, publish: Publish) -> None:
        for crew in self._crews_of(publish.group):
            crew.publish(publish)

    def free(self, group: Group, handle: int) -> None:
        for crew in self._crews_of(group):
            crew.free(group, handle)

    def end_phase(self, phase: str, round: int) -> None:
        if self._progress:
            self._progress(phase, round)

    def _crews_of(self, group: Group) -> list[Crew]:
        if len(group.members) == 1:
            return [self._home[group.members[0]]]
        return list(dict.fromkeys(self._home[member] for member in group.members))


class InlineRuntime(AtOnce):
    """Every host in this process."""

    def __init__(self, specs: Sequence[HostSpec], progress: Progress | None = None) -> None:
        self._hosts, self._specs = [Host(spec) for spec in specs], tuple(specs)
        self._start, self._phases = max((spec.start for spec in specs), default=0), 0
        self._confirmed = self._start
        self.checkpoints = Checkpoints()
        homes = zip(specs, self._hosts, strict=True)
        super().__init__({party: host for spec, host in homes for party in spec.parties}, progress)

    @property
    def _known(self) -> bool:
        """Whether the hosts have all that is said, from the checkpoint that they began from."""
        return self._phases < self._start

    def do(self, step: DoStep) -> None:
        if not self._known:
            super().do(step)

    def transfer(self, transfer: Transfer) -> None:
        if not self._known:
            super().transfer(transfer)

    def reveal(self, reveal: Reveal) -> Any:
        (party,) = reveal.group.members
        spec = next((spec for spec in self._specs if party in spec.parties), None)
        if spec is None:  # of a host that was not made here, and keeps nothing
            return super().reveal(reveal)
        if self._known:
            return self.checkpoints.revealed(spec, reveal.seq)
        frame = self._home[party].reveal(reveal)
        self.checkpoints.keep(spec, reveal.seq, frame)
        return decode(frame)

    def publish(self, publish: Publish) -> None:
        if not self._known:
            super().publish(publish)

    def free(self, group: Group, handle: int) -> None:
        if not self._known:
            super().free(group, handle)

    def end_phase(self, phase: str, round: int) -> None:
        self._phases += 1
        if self._phases > self._start and self.checkpoints.due(phase, round):
            reports = [
                Report(unkept=host.keep_checkpoint(self._phases, self._confirmed, {}, {}))
                for host in self._hosts
            ]
            if not self.checkpoints.lost(reports):
                self._confirmed = self._phases
        super().end_phase(phase, round)

    def allow(self, seconds: float) -> None:
        """Nobody is here to look after a step that does not end."""

    def settle(self) -> None:
        """Nothing is ever queued here."""

    def finish(self) -> None:
        """Keep what the parties need later, and close every transcript."""
        for host in self._hosts:
            host.keep_state()
        for host in self._hosts:
            host.close()

    def abort(self) -> None:
        """Close every transcript after a failure, which one that cannot be written must not hide."""
        for host in self._hosts:
            with contextlib.suppress(TranscriptError):
                host.close()
