"""Mutated frames against `decode` and against what their receivers check: `python -m
tests.parties.fuzz_frames [COUNT] [SEED] [USED]` prints what came of them.

The frames come from runs of every protocol, so that every record that crosses is among them. What is not
refused must be canonical: it encodes to the same bytes. Then `USED` values that are decoded, most of them
with bits of their arrays changed, are used as a receiver uses what arrives: held against the figure's type,
and checked and loaded by their scheme beside the true key of the run. Only declared errors may come of it.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
import typing
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from parties.record.view import Kind, View
from protocols.crypto.records import arrived
from protocols.language.errors import EncodingError, KeyholeError, MessageError
from protocols.language.figure import fits, sizes_of
from protocols.language.message import _RECORDS, decode, encode
from scenarios.run.catalogue import find_scenario
from scenarios.run.folder import RunFolder, load_run
from tests.rules.test_digests import carry_out

RUNS = (
    "plain-fe",
    "plain-fe --scheme ddh --labels febo --gradient fe --samples 16 --hidden 4 --batch 8",
    "plain-fe --scheme rlwe --labels febo",
    "plain-fe --defence key-budget:8 --epochs 2",
    "mitig1",
    "mitig2 --owners 4 --batch 4 --labels owner --defence secure-aggregation",
    "reverse-he",
    "reverse-he --encoding float",
)
LARGEST = 1 << 22  # bytes of a frame that is mutated
SECONDS = 1.0  # that any frame may take
Tree = Any


def frames_of(run: RunFolder) -> list[bytes]:
    """One frame of each label and type in a run, and what its parties keep."""
    kept = [path.read_bytes() for path in sorted((run.path / "state").glob("*"))]
    view, found = View(tuple((path, name) for name, path in run.sources.items())), {}
    for row in view.rows():
        if row.nbytes <= LARGEST:
            found.setdefault((row.label, row.dtype), encode(view.value(row)).tobytes())
    view.close()
    return [frame for frame in (*found.values(), *kept) if len(frame) <= LARGEST]


def corpus(folder: Path) -> tuple[list[bytes], list[Arriving]]:
    """Frames of all protocols, from runs in a folder, and the messages among them."""
    frames, messages = [], []
    for i, line in enumerate(RUNS):
        (folder / str(i)).mkdir()
        run = load_run(carry_out(line, "inline", folder / str(i)))
        frames += frames_of(run)
        messages += messages_of(run)
    return frames, messages


@dataclass(frozen=True)
class Arriving:
    """The frame of a message, the type that the figure states and its sizes, and the true keys of its run, by
    the module of their scheme.
    """

    frame: bytes
    kind: Any
    sizes: dict[str, int]
    keys: dict[str, list[Any]]

    def use(self, value: Any) -> None:
        """What a receiver does with what arrives; a declared error says what it is not."""
        if not (self.kind is None or fits(value, self.kind, self.sizes)):
            raise MessageError("not what the figure states")
        for each in value if isinstance(value, list) else [value]:
            scheme = sys.modules.get(type(each).__module__)
            for key in self.keys.get(type(each).__module__, ()):
                self._checked(scheme, each, key)

    @staticmethod
    def _checked(scheme: Any, value: Any, key: Any) -> None:
        arrived(value, type(value), key)
        for verb in ("load", "load_key"):
            taken = typing.get_type_hints(getattr(scheme, verb, None) or (lambda: None))
            own, *others = [kind for name, kind in taken.items() if name != "return"] or [None]
            if own is type(key) and others == [type(value)]:
                getattr(scheme, verb)(key, value)
        if type(value) is type(key):
            scheme.check(value, key.params)


def messages_of(run: RunFolder) -> list[Arriving]:
    """One message of each label and type in a run."""
    config, figure = run.config(), find_scenario(run.settings["scenario"]).protocol.FIGURE
    kinds = {arrow.key: arrow.type for arrow in figure if arrow.applies(config)}
    view, found, keys = View(tuple((path, name) for name, path in run.sources.items())), {}, {}
    for row in view.rows(None, Kind.SENT):
        if row.nbytes > LARGEST or (row.label, row.dtype) in found:
            continue
        value = view.value(row)
        key = row.phase, row.sender.partition(":")[0], row.receiver.partition(":")[0], row.label
        found[row.label, row.dtype] = Arriving(
            encode(value).tobytes(), kinds.get(key), sizes_of(config), keys
        )
        if hasattr(value, "params") and hasattr(sys.modules[type(value).__module__], "check"):
            keys.setdefault(type(value).__module__, []).append(value)
    view.close()
    return list(found.values())


class Mutator:
    """Frames that are almost right."""

    def __init__(self, frames: list[bytes], seed: int) -> None:
        self._frames, self._rng = frames, np.random.default_rng(seed)

    def next(self) -> bytes:
        """One to three mutations of a frame."""
        frame = self._any()
        for _ in range(self._below(3) + 1):
            frame = (self._flip, self._cut, self._splice, self._lie, self._nest, self._grow, self._edit)[
                self._below(7)
            ](frame)
        return frame

    def changed(self, frame: bytes) -> bytes:
        """A frame that is likely to be decoded: bits of its arrays are changed, or, of one frame in four, a
        value of its tree.
        """
        body = -(-(8 + int.from_bytes(frame[:8], "little")) // 64) * 64
        if body >= len(frame) or not self._below(4):
            return self._edit(frame)
        mutated = bytearray(frame)
        for _ in range(self._below(8) + 1):
            mutated[body + self._below(len(frame) - body)] ^= 1 << self._below(8)
        return bytes(mutated)

    def _below(self, n: int) -> int:
        return int(self._rng.integers(max(n, 1)))

    def _any(self) -> bytes:
        return self._frames[self._below(len(self._frames))]

    def _place(self, frame: bytes) -> int:
        """A place in a frame, mostly in its tree."""
        tree = 8 + int.from_bytes(frame[:8], "little")
        return self._below(min(len(frame), tree) if self._below(8) else len(frame))

    def _flip(self, frame: bytes) -> bytes:
        changed = bytearray(frame)
        for _ in range(self._below(8) + 1 if frame else 0):
            changed[self._place(frame)] ^= 1 << self._below(8)
        return bytes(changed)

    def _cut(self, frame: bytes) -> bytes:
        """The beginning of a frame, or of its tree with a length that fits."""
        cut = frame[: self._place(frame)]
        return framed(cut[8:]) if self._below(2) else cut

    def _splice(self, frame: bytes) -> bytes:
        other = self._any()
        spliced = frame[: self._place(frame)] + other[self._place(other) :]
        return framed(spliced[8:]) if self._below(2) else spliced

    def _lie(self, frame: bytes) -> bytes:
        """A length, or what may be read as one, of any size."""
        lie = (1 << self._below(64)).to_bytes(8, "big")[-(1, 2, 4, 8)[self._below(4)] :]
        at = 0 if self._below(3) == 0 else self._place(frame)
        return frame[:at] + lie + frame[at + len(lie) :]

    def _nest(self, frame: bytes) -> bytes:
        """Lists in lists, or records in records."""
        depth = 1 << self._below(12)
        if self._below(2):
            return framed(b"\x91" * depth + frame[8:])
        tree = b"\xc0"
        for _ in range(min(depth, 64)):
            tree = msgpack.packb(msgpack.ExtType(3, msgpack.packb(["Refused", {"rank": 1}])[:-1] + tree))
        return framed(tree)

    def _grow(self, frame: bytes) -> bytes:
        return frame + bytes(self._rng.integers(0, 2, self._below(200), dtype=np.uint8))

    def _edit(self, frame: bytes) -> bytes:
        """Something else in the place of a value of the tree, which stays well-formed."""
        length = int.from_bytes(frame[:8], "little")
        try:
            tree = msgpack.unpackb(frame[8 : 8 + length])
            return framed(msgpack.packb(self._replaced(tree)), frame[-(-(8 + length) // 64) * 64 :])
        except Exception:  # an earlier mutation left no tree
            return self._flip(frame)

    def _replaced(self, tree: Tree) -> Tree:
        if isinstance(tree, msgpack.ExtType) and self._below(6):
            return msgpack.ExtType(tree.code, self._inner(tree.data))
        if isinstance(tree, list) and tree and self._below(6):
            at = self._below(len(tree))
            return [self._replaced(item) if i == at else item for i, item in enumerate(tree)]
        if isinstance(tree, dict) and tree and self._below(6):
            at = self._below(len(tree))
            return {key: self._replaced(tree[key]) if i == at else tree[key] for i, key in enumerate(tree)}
        return STRANGE[self._below(len(STRANGE))]

    def _inner(self, data: bytes) -> bytes:
        try:
            return msgpack.packb(self._replaced(msgpack.unpackb(data)))
        except Exception:  # a big integer
            return data + bytes(1 << self._below(16))


STRANGE: tuple[Tree, ...] = (
    None, True, -1, 0, 1, 2**63, -(2**63), 2**64 - 1, 0.5, float("nan"), "", "secp256k1", "\x1b[2J[red]",
    "x" * 70_000, b"", b"\xff" * 32, [], {}, [0] * 1000, {"a": 1}, [2**62] * 40, [2**62] * 20,
    ["<i8", [2**31, 2**31], 0, 2**40], msgpack.ExtType(1, msgpack.packb(["|O", [1], 0, 8])), 
    msgpack.ExtType(1, msgpack.packb(["<i8", [0, 2**40], 0, 0])),
    msgpack.ExtType(2, b"\0" + b"\xff" * 65_000), msgpack.ExtType(2, b""), msgpack.ExtType(7, b"x"),
    msgpack.Timestamp(1),
    msgpack.ExtType(3, msgpack.packb(["Bounds", {"length": 2**60, "x": 2**60, "y": 2**60}])),
)  # fmt: skip


def framed(tree: bytes, body: bytes = b"") -> bytes:
    """A tree with its length before it and its arrays behind it."""
    head = len(tree).to_bytes(8, "little") + tree
    return head + bytes(-len(head) % 64) + body if body else head


@dataclass
class Outcome:
    """What came of mutated frames."""

    accepted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0


def fuzz(frames: list[bytes], count: int, seed: int) -> Outcome:
    """Decode mutated frames; raises if one is refused but in a short line, or accepted but not canonical."""
    mutator, outcome = Mutator(frames, seed), Outcome()
    for _ in range(count):
        frame = mutator.next()
        started = time.process_time()
        try:
            value = decode(frame)
        except EncodingError as refusal:
            said = str(refusal)
            assert len(said) < 200 and said.isprintable(), said
            outcome.refused[_kind(said)] += 1
        else:
            outcome.accepted += 1
            assert encode(value).tobytes() == frame
        outcome.slowest = max(outcome.slowest, time.process_time() - started)
    assert outcome.slowest < SECONDS, outcome.slowest
    return outcome


def use(messages: list[Arriving], count: int, seed: int, seconds: float = 3600.0) -> Outcome:
    """Use mutated values as their receivers do, until so many were decoded or so many seconds have passed;
    raises if anything but a declared error comes of one, in a short line.
    """
    mutator, outcome, until = (
        Mutator([each.frame for each in messages], seed),
        Outcome(),
        time.monotonic() + seconds,
    )
    while outcome.accepted + outcome.refused.total() < count and time.monotonic() < until:
        message = messages[mutator._below(len(messages))]
        try:
            value = decode(mutator.changed(message.frame))
        except EncodingError:
            continue
        started = time.process_time()
        try:
            message.use(value)
            outcome.accepted += 1
        except KeyholeError as refusal:
            said = str(refusal)
            assert len(said) < 400 and said.isprintable(), said
            outcome.refused[_kind(said)] += 1
        outcome.slowest = max(outcome.slowest, time.process_time() - started)
    return outcome


def _kind(said: str) -> str:
    """A refusal without what the peer chose."""
    words = said.partition("'")[0].partition(" of type ")[0]
    return "".join("" if letter.isdigit() else letter for letter in words)[:60]


def main(count: int = 400_000, seed: int = 0, used: int = 50_000) -> None:
    """Fuzz, and say what came of it."""
    with tempfile.TemporaryDirectory() as scratch:
        frames, messages = corpus(Path(scratch))
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    outcome = fuzz(frames, count, seed)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
    missing = sorted(name for name in _RECORDS if not any(name.encode() in frame for frame in frames))
    print(f"{len(frames)} frames with all records but {', '.join(missing)}")
    print(f"{count} mutated in {time.monotonic() - started:.0f} s: {outcome.accepted} accepted, "
          f"{outcome.refused.total()} refused; slowest "
          f"{1e3 * outcome.slowest:.0f} ms, memory +{grown} MiB")  # fmt: skip
    _list(outcome)
    started = time.monotonic()
    outcome = use(messages, used, seed)
    count = outcome.accepted + outcome.refused.total()
    print(f"{count} decoded and used in {time.monotonic() - started:.0f} s: "
          f"{outcome.accepted} accepted, {outcome.refused.total()} refused; slowest "
          f"{1e3 * outcome.slowest:.0f} ms")  # fmt: skip
    _list(outcome)


def _list(outcome: Outcome) -> None:
    for reason, times in outcome.refused.most_common():
        print(f"{times:8d}  {reason}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
