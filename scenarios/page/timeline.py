"""What has crossed until when: messages and bytes of each arrow, at up to 200 moments of a run."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np

from parties.record.transcript import Transcript
from protocols.language.session import NO_ROUND
from scenarios.run.folder import RunFolder
from scenarios.run.report import role_name

MOMENTS = 200
_SENT = "SELECT phase, sender, receiver, label, seq, nbytes FROM rows WHERE kind = 'sent' ORDER BY seq"


@dataclass(frozen=True)
class Moment:
    """The end of a training step (-1: of what comes before the first), and the last message until then."""

    step: int
    seq: int


@dataclass
class Crossing:
    """Messages of one label on one way in one phase: how many and how many bytes until each moment."""

    phase: str
    sender: str
    receiver: str
    label: str
    first: int
    messages: list[int] = field(default_factory=list)
    nbytes: list[int] = field(default_factory=list)


def moments(run: RunFolder, since: Iterable[int]) -> list[Moment]:
    """The moments that a page shows: the steps evenly, those in `since`, and the end."""
    ends = [(number, seq) for number, seq in run.moments() if number > NO_ROUND]
    if not ends:
        return [Moment(NO_ROUND, np.iinfo(np.int64).max)]
    even = np.linspace(0, len(ends) - 1, min(MOMENTS, len(ends))).astype(int)
    places = {number: k for k, (number, _) in enumerate(ends)}
    chosen = sorted({*even.tolist(), *(places[step] for step in since if step in places)})
    before = Moment(NO_ROUND, _begins(run) - 1)
    return [before, *(Moment(*ends[k]) for k in chosen)]


def _begins(run: RunFolder) -> int:
    """The number of the first message of a step."""
    asked = "SELECT MIN(seq) FROM rows WHERE phase IN ('step', 'query') AND seq >= 0"
    found = []
    for path in run.transcripts:
        with closing(Transcript(path)) as transcript:
            found += [seq for (seq,) in transcript.query(asked) if seq is not None]
    return min(found, default=0)


def crossings(run: RunFolder, at: list[Moment]) -> list[Crossing]:
    """What crossed, in the order of first messages, between roles."""
    edges = np.array([moment.seq for moment in at])
    seqs: dict[tuple[str, str, str, str], array[int]] = {}  # eight bytes a message
    sizes: dict[tuple[str, str, str, str], array[int]] = {}
    for path in run.transcripts:
        with closing(Transcript(path)) as transcript:
            for phase, sender, receiver, label, seq, nbytes in transcript.query(_SENT):
                key = phase, role_name(sender), role_name(receiver), label
                seqs.setdefault(key, array("q")).append(seq)
                sizes.setdefault(key, array("q")).append(nbytes)
    found = []
    for key, numbers in seqs.items():
        order = np.argsort(numbers)
        until = np.searchsorted(np.array(numbers)[order], edges, side="right")
        summed = np.concatenate([[0], np.cumsum(np.array(sizes[key])[order])])
        found.append(Crossing(*key, min(numbers), until.tolist(), summed[until].tolist()))
    return sorted(found, key=lambda each: each.first)
