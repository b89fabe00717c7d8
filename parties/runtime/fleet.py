"""The processes of a run's hosts, as whoever gives them instructions knows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from parties.runtime.host import HostSpec
from parties.runtime.watch import Watch
from parties.runtime.wire import Address, PeerLost
from parties.runtime.worker import Instruction, Report
from protocols.language.errors import KeyholeError, MessageError, StepError
from protocols.language.session import Group


class HostsDied(Exception):
    """Reports are missing because processes ended; raised by a fleet, seen to by the dispatcher."""


class Fleet(Protocol):
    """The processes of a run's hosts: how they are reached, whatever they run on."""

    token: bytes
    book: dict[str, Address]
    watch: Watch

    @property
    def pids(self) -> dict[str, int]:
        """The process numbers of the hosts."""

    def call(self, host: str, groups: Sequence[Group], batch: Sequence[Instruction]) -> Any:
        """Have a host carry out a batch after those before; returns a ticket for its report at once."""

    def arrived(self, tickets: Sequence[Any]) -> bool:
        """Whether all these reports have come; does not wait."""

    def reports(self, tickets: Sequence[Any]) -> Sequence[Report]:
        """Wait for reports, each once; `HostsDied` where one will not come, and then none is lost; `Stalled`
        where the run does not get on.
        """

    def restart(self, specs: Sequence[HostSpec]) -> None:
        """New processes in the place of some that died, with empty transcripts or from checkpoints; they have
        met the others. `HostsDied` or `PeerLost` where one of these is gone as well.
        """

    def close(self) -> None:
        """Have every host keep what its parties keep and finish its transcript, then end them all."""

    def abandon(self) -> None:
        """After a failure: finish the transcripts that are within reach, then end every process."""


def check(reports: Sequence[Report]) -> None:
    """Raise what a host reports."""
    for report in reports:
        if report.failure:
            raise failure_in(report)
    for report in reports:
        if report.lost:
            raise PeerLost(report.lost)


def failure_in(report: Report) -> KeyholeError:
    """The error that a host reports."""
    error = named_error(report.cause)(report.failure)
    if isinstance(error, MessageError | StepError):
        error.of = report.bad
    return error


def named_error(name: str) -> type[KeyholeError]:
    """The error class of that name, so that a refusal reads the same from another process."""
    known: list[type[KeyholeError]] = [KeyholeError]
    for cls in known:
        if cls.__name__ == name:
            return cls
        known.extend(cls.__subclasses__())
    return KeyholeError
