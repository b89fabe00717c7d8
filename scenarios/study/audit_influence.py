"""What one secret changes on the wire: the same run, real cryptography and the same coins, with one sample or
one label replaced.

Content may change: that is what a protocol computes. A change in size, in type or in the number of messages
tells of the secret whoever only watches the wire, and is a side channel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from parties.record.view import Kind, Row, View
from parties.runtime.inline import InlineRuntime
from protocols.language.session import Session, opened
from scenarios.run.experiment import Experiment
from scenarios.run.folder import new_folder
from scenarios.run.hosts import host_specs

SIDE_CHANNELS = ("number", "size", "type")


@dataclass(frozen=True)
class Influence:
    """What replacing a secret changes in the messages of a label: `content`, or a side channel."""

    secret: str
    sender: str
    receiver: str
    label: str
    changes: tuple[str, ...]

    @property
    def side_channel(self) -> bool:
        """Whether more than content changes."""
        return any(change in SIDE_CHANNELS for change in self.changes)


def influence(base: Experiment, others: dict[str, Experiment], folder: Path) -> list[Influence]:
    """What each of the other experiments, which differ in one secret, changes in the messages of `base`."""
    before = messages(base, folder / "base")
    found = []
    for number, (secret, other) in enumerate(others.items()):
        found += list(differences(secret, before, messages(other, folder / str(number))))
    return found


def messages(experiment: Experiment, folder: Path) -> list[Row]:
    """The messages of a run, each once, in order."""
    run = new_folder(folder, experiment.scenario.name)
    specs = [replace(spec, bound="influence", state=None) for spec in host_specs(experiment, run)]
    runtime = InlineRuntime(specs)
    counts = experiment.counts
    try:
        session = Session(runtime, experiment.protocol.FIGURE, counts, experiment.config)
        for revealed in experiment.protocol.run(session, experiment.config):
            opened(revealed)
    finally:
        runtime.finish()
    view = View((path, party) for party, path in run.sources.items())
    try:
        return list(view.rows(None, Kind.RECEIVED))
    finally:
        view.close()


def differences(secret: str, before: list[Row], after: list[Row]) -> Iterator[Influence]:
    """A line for each sender, receiver and label of which something changes."""
    keys = dict.fromkeys((row.sender, row.receiver, row.label) for row in (*before, *after))
    for key in keys:
        mine, theirs = ([row for row in rows if (row.sender, row.receiver, row.label) == key]
                        for rows in (before, after))  # fmt: skip
        changes = ["number"] if len(mine) != len(theirs) else []
        pairs = list(zip(mine, theirs, strict=False))
        changes += ["type"] if any(a.dtype != b.dtype for a, b in pairs) else []
        changes += ["size"] if any((a.shape, a.nbytes) != (b.shape, b.nbytes) for a, b in pairs) else []
        changes += ["content"] if any(a.sha256 != b.sha256 for a, b in pairs) else []
        if changes:
            yield Influence(secret, *key, tuple(changes))
