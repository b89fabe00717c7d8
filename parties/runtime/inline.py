"""The inline runtime: every party in this process, one instruction after the other, for tests and debuggers.

Messages are encoded, recorded and decoded exactly as between processes; only the transport is missing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from parties.runtime.host import Host, HostSpec
from protocols.language.errors import TranscriptError
from protocols.language.message import decode
from protocols.language.session import DoStep, Group, Publish, Reveal, Transfer

Progress = Callable[[str, int], None]


class InlineRuntime:
    """Carries out instructions at once."""

    def __init__(self, specs: Sequence[HostSpec], progress: Progress | None = None) -> None:
        self._hosts = [Host(spec) for spec in specs]
        self._home = {
            party: host for spec, host in zip(specs, self._hosts, strict=True) for party in spec.parties
        }
        self._progress = progress

    def do(self, step: DoStep) -> None:
        for host in self._hosts_of(step.group):
            host.do(step)

    def transfer(self, transfer: Transfer) -> None:
        frames = [frame for host in self._hosts_of(transfer.senders) for frame in host.emit(transfer)]
        for host in self._hosts_of(transfer.receivers):
            host.receive(transfer, frames)

    def reveal(self, reveal: Reveal) -> Any:
        return decode(self._home[reveal.group.members[0]].reveal(reveal))

    def publish(self, publish: Publish) -> None:
        for host in self._hosts_of(publish.group):
            host.publish(publish)

    def free(self, group: Group, handle: int) -> None:
        for host in self._hosts_of(group):
            host.free(group, handle)

    def end_phase(self, phase: str, round: int) -> None:
        if self._progress:
            self._progress(phase, round)

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

    def _hosts_of(self, group: Group) -> list[Host]:
        if len(group.members) == 1:
            return [self._home[group.members[0]]]
        return list(dict.fromkeys(self._home[member] for member in group.members))
