"""What a session says, as instructions for hosts: each is told of the parties that it carries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from parties.runtime.crew import Homes
from parties.runtime.host import HostSpec
from parties.runtime.worker import Emit, Free, Instruction, Receive
from protocols.language.session import DoStep, Group, Publish, Reveal, Transfer

_SMALL_GROUP = 4


@dataclass
class Mail:
    """What waits to be sent to a host, and the groups that it knows by number."""

    queue: list[Instruction] = field(default_factory=list)
    known: set[int] = field(default_factory=set)
    new: list[Group] = field(default_factory=list)


class Post:
    """Instructions of a session as instructions for hosts."""

    def __init__(self, specs: Sequence[HostSpec]) -> None:
        self._home = homes(specs)
        self.mail = {spec.name: Mail() for spec in specs}
        self._hosts_of_group: dict[int, tuple[str, ...]] = {}

    def post_step(self, step: DoStep) -> None:
        for host in self._hosts(step.group):
            self.mail[host].queue.append(replace(step, group=self._group(host, step.group)))

    def post_transfer(self, transfer: Transfer) -> None:
        senders, receivers = self._hosts(transfer.senders), self._hosts(transfer.receivers)
        if len(senders) > 1 and len(receivers) > 1:  # pairs: a host may hear from some hosts only
            pairs = self._pairs(transfer)
        else:
            pairs = [(sender, receiver) for sender in senders for receiver in receivers]
        for sender in senders:
            to = tuple(receiver for host, receiver in pairs if host == sender)
            self.mail[sender].queue.append(Emit(self._shortened(sender, transfer), to))
        for receiver in receivers:
            out_of = tuple(host for host, other in pairs if other == receiver)
            self.mail[receiver].queue.append(Receive(self._shortened(receiver, transfer), out_of))

    def post_reveal(self, reveal: Reveal) -> str:
        """Returns the host that reveals."""
        (host,) = self._hosts(reveal.group)
        self.mail[host].queue.append(reveal)
        return host

    def post_publish(self, publish: Publish) -> None:
        for host in self._hosts(publish.group):
            self.mail[host].queue.append(replace(publish, group=self._group(host, publish.group)))

    def post_free(self, group: Group, handle: int) -> None:
        for host in self._hosts(group):
            self.mail[host].queue.append(Free(self._group(host, group), handle))

    def collect(self, host: str) -> tuple[list[Group], list[Instruction]]:
        """What waits for a host: groups that it hears of for the first time, and instructions."""
        mail = self.mail[host]
        new, queue, mail.new, mail.queue = mail.new, mail.queue, [], []
        return new, queue

    def _hosts(self, group: Group) -> tuple[str, ...]:
        if group.id not in self._hosts_of_group:
            self._hosts_of_group[group.id] = tuple(
                dict.fromkeys(self._home[member] for member in group.members)
            )
        return self._hosts_of_group[group.id]

    def _pairs(self, transfer: Transfer) -> list[tuple[str, str]]:
        """(host of the sender, host of the receiver) of the messages between two groups, each once."""
        members = zip(transfer.senders.members, transfer.receivers.members, strict=True)
        return list(dict.fromkeys((self._home[sender], self._home[receiver]) for sender, receiver in members))

    def _group(self, host: str, group: Group) -> Group:
        """A large group travels to a host once; from then on its number stands for it."""
        if len(group.members) <= _SMALL_GROUP:
            return group
        mail = self.mail[host]
        if group.id not in mail.known:
            mail.known.add(group.id)
            mail.new.append(group)
        return Group(group.id, ())

    def _shortened(self, host: str, transfer: Transfer) -> Transfer:
        senders, receivers = self._group(host, transfer.senders), self._group(host, transfer.receivers)
        return replace(transfer, senders=senders, receivers=receivers)


def homes(specs: Sequence[HostSpec]) -> Homes[str]:
    """The host of each party."""
    return Homes({party: spec.name for spec in specs for party in spec.parties})
