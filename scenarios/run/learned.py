"""Who learned what in a run: the knowledge of parties and coalitions, computed by an adversary from their
views alone.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from parties.adversary.attack import STRENGTH, Learned
from protocols.language.errors import DataError
from protocols.language.roles import CLOUD_TRAINER, DATA_OWNER, KEY_AUTHORITY, SERVER, party_name
from protocols.network.schedule import Rounds
from scenarios.run.catalogue import find_scenario
from scenarios.run.folder import RunFolder

if TYPE_CHECKING:
    from scenarios.run.attacks import AdversaryHandle, MakeAdversary

Coalition = tuple[str, ...]

# Under which labels and names each quantity of the matrix is found.
QUANTITIES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("samples", ("samples", "x")),
    ("labels", ("labels",)),
    ("weights", ("weights", "w1", "w1_mean", "w1_copy", "head")),
    ("master key", ("master key", "msk", "secret key")),
    ("gram", ("gram", "samples", "x")),
)
FAILED = "everything"  # the quantity of the one line of a ledger that failed
_OWNERS_THAT_COLLUDE = 2  # owners are alike to a protocol: two of them stand for any two
_LARGEST = 3


def learned(run: RunFolder, make: MakeAdversary, coalition: Coalition = ()) -> list[Learned]:
    """What each role learned, each computed from that party's own view; of many owners, the first.

    Where the network is split, also what the cloud learns of samples together with the authority, and with
    one of many owners. With a `coalition`, what that one learned.
    """
    _complete(run)
    roles = list(dict.fromkeys(map(_role, run.sources)))
    names = [next(party for party in run.sources if _role(party) == role) for role in roles]
    names.sort(key=lambda name: name not in (CLOUD_TRAINER.value, SERVER.value))
    adversary = make(run.view_sources(coalition or (names[0],)))
    try:
        if coalition:
            return _of(run, adversary, coalition)
        found = [item for name in names for item in _of(run, adversary, (name,))]
        return found + [item for pair in _pairs(run) for item in _of(run, adversary, pair)]
    finally:
        adversary.close()


def held_against_audit(run: RunFolder, lines: Sequence[Learned]) -> list[Learned]:
    """Lines of parties and coalitions, each with what an audit of a small instance adds to it."""
    from scenarios.run.determined import with_audit  # here: a table of lines that are stored needs none

    scenario, config = find_scenario(run.view(next(iter(run.sources))).protocol), run.config()
    found: list[Learned] = []
    for party in dict.fromkeys(line.party for line in lines):
        mine = [line for line in lines if line.party == party]
        found += with_audit(scenario, config, tuple(party.split(", ")), mine)
    return found


def learned_rows(items: Sequence[Learned]) -> list[dict[str, Any]]:
    """What was learned, as plain data."""
    return [dataclasses.asdict(item) for item in items]


@dataclass(frozen=True)
class Found:
    """A coalition of the search, and the line that says most of samples of an owner outside of it: that they
    are read, or how they are bounded and what was tried. None where nothing was examined.
    """

    coalition: Coalition
    line: Learned | None

    @property
    def reads(self) -> bool:
        """Whether it reads samples, which was carried out."""
        return self.line is not None and reads(self.line)

    @property
    def settles(self) -> bool:
        """Whether it is known which ones: a larger coalition may place others, or read all."""
        return self.reads and self.line is not None and self.line.data.get("samples") != []


def smallest_coalitions(run: RunFolder, make: MakeAdversary) -> list[Found]:
    """The smallest coalitions that read another owner's samples exactly, and every coalition that was tried
    and does not.

    By size, up to three parties; one that holds a smaller one that reads samples, of which it is known which
    ones they are, is not asked. Owners are alike, so two stand for all.
    """
    _complete(run)
    found, config = list[Found](), run.config()
    total = sum(getattr(config, "column_samples", ()) or getattr(config, "counts", ()))
    adversary = make(run.view_sources((next(iter(run.sources)),)))
    try:
        for coalition in _candidates(run):
            if not any(set(old.coalition) <= set(coalition) for old in found if old.settles):
                lines = held_against_audit(run, _of(run, adversary, coalition))
                found.append(Found(coalition, _united(lines, total)))
    finally:
        adversary.close()
    return found


def _united(lines: Sequence[Learned], total: int) -> Learned | None:
    """The line that says most of samples of others; of all samples that such lines read, where several do."""
    of_others = [line for line in lines if line.quantity in _SAMPLES and line.how != "own"]
    most = max(of_others, key=_said, default=None)
    if most is None:
        return None
    later = next((x.detail for x in lines if x.quantity == "messages" and x.how == "not analysed"), "")
    most = dataclasses.replace(most, detail=f"{most.detail}; not analysed: {later}") if later else most
    runs = [run for line in of_others if reads(line) for run in line.data.get("samples", ())]
    index = sorted({i for start, stop in runs for i in range(start, stop)})
    if not reads(most) or len(index) <= _said(most)[1]:
        return most
    of = f"all {total} samples" if len(index) == total else f"{len(index)} of {total} samples"
    edges = [k for k, i in enumerate(index) if not k or index[k - 1] != i - 1]
    ends = [index[k - 1] + 1 for k in edges[1:]] + [index[-1] + 1]
    united = [[index[k], end] for k, end in zip(edges, ends, strict=True)]
    detail = f"by several lines together; {most.detail}"
    return dataclasses.replace(most, of=of, detail=detail, data={**most.data, "samples": united})


def _complete(run: RunFolder) -> None:
    """`DataError` for a run of which a transcript is missing: what its party knows could not be told."""
    run.config()
    missing = [party for party in run.settings.get("parties", ()) if party not in run.sources]
    if missing:
        raise DataError(f"{run.path}: the transcript of {missing[0]} is missing")


_SAMPLES = ("samples", "x")


def reads(item: Learned) -> bool:
    """Whether a line says that samples of somebody else are read, which was carried out."""
    return item.quantity in _SAMPLES and item.how in ("exact", "clear")


def _said(line: Learned) -> tuple[int, int]:
    """How much a line says: how sure, then of how many."""
    return STRENGTH.index(line.how), sum(stop - start for start, stop in line.data.get("samples", []))


def strongest(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, Any] | None:
    """Of a party's lines about a quantity, the one that says most: first how sure, then of how many, then how
    early.
    """
    mine = [row for row in rows if row["quantity"] in names]
    return min(mine, key=_rank, default=None)


def _rank(row: dict[str, Any]) -> tuple[int, bool, int]:
    return -STRENGTH.index(row["how"]), not row["of"].startswith("all "), row["since_round"] or 0


def told_first(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Lines as tables print them: of a party quantity by quantity, the strongest first, without those that
    another line covers.
    """
    parties = list(dict.fromkeys(row["party"] for row in rows))
    kept = [
        row for k, row in enumerate(rows) if not any(_hides(rows[j], j, row, k) for j in range(len(rows)))
    ]
    found: list[dict[str, Any]] = []
    for party in parties:
        mine = [row for row in kept if row["party"] == party]
        quantities = list(dict.fromkeys(row["quantity"] for row in mine))
        found += sorted(mine, key=lambda row: (quantities.index(row["quantity"]), *_rank(row)))
    return found


def _hides(one: dict[str, Any], at: int, other: dict[str, Any], place: int) -> bool:
    """Whether a line covers another; of two that cover each other, the first does."""
    return at != place and covers(one, other) and (at < place or not covers(other, one))


_SAYS = ("bounded", "determined", "up to", "exact", "clear")  # the others say what was not found, or warn
_FULL_RANK = re.compile(r"rank (\d+) of \1\b")


def covers(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether a line says all that another says: of the same party and quantity, of as many samples or more,
    as early, and in a stronger word; in the same word only by the same derivation, or by one that rests on
    nothing. What cannot be compared is not covered, nor what does without the public samples that a line
    needs.
    """
    same = (one["party"], one["quantity"]) == (other["party"], other["quantity"])
    if not same or one["how"] not in _SAYS or other["how"] not in _SAYS:
        return False
    first, second = one["since_round"], other["since_round"]
    if (first is None) != (second is None) or (first is not None and first > second):
        return False
    if "public" in one["detail"] and "public" not in other["detail"]:
        return False
    stronger = STRENGTH.index(one["how"]) - STRENGTH.index(other["how"])
    if stronger < 0 or (stronger == 0 and not _rests_on_no_more(one, other)):
        return False
    return _of_as_many(one, other)


def _rests_on_no_more(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Of two lines in the same word, whether the first rests on nothing that the second does without: it
    crossed, or as many equations as unknowns give it.
    """
    solved = one["how"] == "exact" and _FULL_RANK.match(one["detail"]) is not None
    return one["how"] == "clear" or solved or one["detail"] == other["detail"]


_WHOLE = re.compile(r"all \d+ samples")


def _of_as_many(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether a line speaks of all samples that another speaks of, or of the same thing."""
    mine, theirs = (_merged(row["data"].get("samples") or ()) for row in (one, other))
    if _WHOLE.fullmatch(one["of"]):
        total = re.fullmatch(r"\d+ of (\d+) samples|all (\d+) samples", other["of"])
        agrees = total is None or one["of"] == f"all {total[1] or total[2]} samples"
        return agrees and (bool(theirs) or "sample" in other["of"])
    if _WHOLE.fullmatch(other["of"]):
        return False
    if mine and theirs:
        inside = all(any(a <= start and stop <= b for a, b in mine) for start, stop in theirs)
        said = re.match(r"\d+", other["of"])  # samples without names are in no run
        return inside and (said is None or int(said[0]) <= sum(stop - start for start, stop in theirs))
    return bool(not mine and not theirs and one["of"] == other["of"] and not other["of"][:1].isdigit())


def _merged(runs: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """Runs [start, stop) in order, those that touch as one."""
    found: list[tuple[int, int]] = []
    for start, stop in sorted((int(start), int(stop)) for start, stop in runs):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(stop, found[-1][1])
        else:
            found.append((start, stop))
    return found


def _candidates(run: RunFolder) -> Iterator[Coalition]:
    owners = [party for party in run.sources if _role(party) == DATA_OWNER.value]
    corruptible = [party for party in run.sources if _role(party) != DATA_OWNER.value]
    corruptible += owners[: min(_OWNERS_THAT_COLLUDE, len(owners) - 1)]  # somebody has to be left to be read
    for size in range(1, min(_LARGEST, len(corruptible)) + 1):
        yield from combinations(corruptible, size)


def _pairs(run: RunFolder) -> list[Coalition]:
    """Pairs of parties whose joint view says more of samples, or of an encrypted head, than their own."""
    if {SERVER.value, KEY_AUTHORITY.value} <= run.sources.keys():
        return [(SERVER.value, KEY_AUTHORITY.value)]
    config = run.config()
    if (
        not isinstance(config, Rounds) or "asked" in run.settings
    ):  # owners that train copies give pairs something
        return []
    partners = [KEY_AUTHORITY.value] + ([party_name(DATA_OWNER)] if config.owners == "many" else [])
    first = CLOUD_TRAINER.value if CLOUD_TRAINER.value in run.sources else partners.pop(0)
    return [(first, partner) for partner in partners if partner in run.sources]


def _of(run: RunFolder, adversary: AdversaryHandle, parties: Coalition) -> list[Learned]:
    adversary.call("corrupt", run.view_sources(parties))
    found: list[Learned] = adversary.call("learned", run.moments())
    dropped = getattr(run.config(), "dropped", ())
    if dropped:
        first = min(dropped, key=lambda each: each.message)
        why = f"after message {first.message}, for which {party_name(DATA_OWNER, first.owner)} was left out"
        found.append(Learned(", ".join(parties), "messages", "all parties", "not analysed", why, None))
    return found


def _role(party: str) -> str:
    return party.partition(":")[0]
