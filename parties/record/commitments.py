"""What each party is bound to after a run, as digests of its rows: inputs, coins, steps, order.

They follow from rows alone, so they are the same whether payloads were recorded or not. Coins are keys of 32
bytes, so a digest with a prefix hides them; inputs may be few and short, and their digests are for the
eyes of those who may read the run folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parties.record.transcript import Transcript
from protocols.language.view import Kind, Row

_PARTS = ("inputs", "coins", "steps", "order")
_STEPS = "SELECT party, after_row, phase, round, step FROM steps ORDER BY id"


@dataclass(frozen=True)
class Commitments:
    """SHA-256, in hex, of what one party's view holds.

    `inputs` and `coins` of its entries of these kinds, `steps` of its local steps with what the script told
    them, `order` of the headers of all entries, one after the other.
    """

    inputs: str
    coins: str
    steps: str
    order: str


@dataclass
class _Hashers:
    party: str
    of: dict[str, Any] = field(default_factory=dict)

    def add(self, part: str, *said: Any) -> None:
        """Take an entry into a part."""
        if part not in self.of:
            self.of[part] = hashlib.sha256(f"keyhole {part} v1\n{self.party}\n".encode())
        self.of[part].update(json.dumps(said, separators=(",", ":")).encode() + b"\n")

    def row(self, row: Row) -> None:
        """Take a row into the parts that it belongs to."""
        content = (row.seq, row.label, row.dtype, row.shape, row.sha256.hex())
        part = {Kind.INPUT: "inputs", Kind.COINS: "coins", Kind.PUBLIC: "steps"}.get(row.kind)
        if part is not None:
            self.add(part, *content)
        self.add("order", row.kind.value, row.seq, row.phase, row.round, row.sender, row.receiver, row.label)

    def done(self) -> Commitments:
        """The digests."""
        for part in _PARTS:
            self.add(part)  # also of a party that has none
        return Commitments(**{part: self.of[part].hexdigest() for part in _PARTS})


def commitments(path: Path | str) -> Iterator[tuple[str, Commitments]]:
    """(party, what it is bound to) of every party in a transcript; memory holds one row at a time."""
    found: dict[str, _Hashers] = {}
    with closing(Transcript(path)) as transcript:
        for row in transcript.rows("1 ORDER BY id"):
            found.setdefault(row.party, _Hashers(row.party)).row(row)
        for party, *said in transcript.query(_STEPS):
            found.setdefault(party, _Hashers(party)).add("steps", *said)
    for party, hashers in found.items():
        yield party, hashers.done()
