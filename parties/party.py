"""A party: its private state, the heap of values that the script has handles for, and its view."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parties.record.transcript import Frame
from parties.record.writer import Recorder
from protocols.crypto.coins import Coins, derive
from protocols.language.confine import check_step
from protocols.language.errors import (
    OUT_OF_MEMORY,
    KeyholeError,
    MessageError,
    SchemeError,
    StepError,
    ran_out_of_memory,
)
from protocols.language.figure import fits, shown, sizes_of
from protocols.language.message import Header, decode, describe, encode
from protocols.language.precision import computed_in, precision_of
from protocols.language.roles import index_of, role_of
from protocols.language.session import DoStep, Ref
from protocols.language.state import State
from protocols.language.view import Kind


class Arrived:
    """Which messages a party was sent: those behind the handles that it holds, and the first and last of each
    label, so that an error can name what it may come of.
    """

    def __init__(self) -> None:
        self._new: list[Message] = []
        self._of: dict[int, list[Message]] = {}
        self._labels: dict[str, list[Message]] = {}

    def note(self, header: Header, described: tuple[str, tuple[int, ...]]) -> None:
        """A message came; the next handle that is kept holds it."""
        self._new.append((header, described))
        first, *_ = self._labels.pop(header.label, self._new[-1:])
        self._labels[header.label] = [first, self._new[-1]]

    def keep(self, handle: int) -> None:
        """What came since the last one is behind this handle."""
        self._of[handle], self._new = self._new, []

    def free(self, handle: int) -> None:
        """The handle is gone; what came may be in the party's state."""
        self._of.pop(handle, None)

    def from_one(self, handles: Sequence[int], by_kind: bool) -> Header | None:
        """The last of the messages behind handles, if all of them came from one party; or, `by_kind`, the one
        of several whose type or shape no other has.
        """
        given = [message for handle in handles for message in self._of.get(handle, ())]
        if len({header.sender for header, _ in given}) == 1:
            return given[-1][0]
        odd = _odd(given) if by_kind else []
        return odd[0] if len(odd) == 1 else None

    def named(self, handles: Sequence[int], besides: bool) -> str:
        """The messages behind handles in words and, with `besides`, what else was received by label."""
        given = [self._of[handle] for handle in handles if self._of.get(handle)]
        labels = {messages[0][0].label for messages in given}
        rest = [messages for label, messages in self._labels.items() if label not in labels]
        parts = [("it was given ", given), ("it had received ", rest if besides else [])]
        words = [f"; {said}{', '.join(map(_named, some[-_NAMED:]))}" for said, some in parts if some]
        return "".join(words)


def _named(messages: Sequence[Message]) -> str:
    """Messages of one label in words, and which of them is unlike the others, if it is one."""
    (first, _), (last, _) = messages[0], messages[-1]
    if first.seq == last.seq:
        return first.said
    who = first.sender if first.sender == last.sender else f"{first.sender} to {last.sender}"
    said = f"{first.label} (messages {first.seq} to {last.seq} of {who})"
    odd = _odd(messages)
    return f"{said}, of which {odd[0].said} is unlike the others" if len(odd) == 1 else said


def _odd(messages: Sequence[Message]) -> list[Header]:
    """Those of three messages or more whose type and shape no other has."""
    kinds = Counter(described for _, described in messages)
    return [header for header, described in messages if kinds[described] == 1 and len(messages) > 2]


Message = tuple[Header, tuple[str, tuple[int, ...]]]  # with its dtype and shape

_GIVEN = frozenset(["party", "role", "index", "config", "inputs"])  # what a state begins with, and keeps
_NAMED = 4  # labels that an error names, the latest


@dataclass(frozen=True)
class Drawn:
    """What all randomness of a party follows from, 32 bytes each: its `coins`, and what its generator for
    `weights` starts from.
    """

    coins: bytes = field(repr=False)
    weights: bytes = field(repr=False)


class Party:
    """One party, in whatever process carries it.

    Values enter its heap from its own steps or by `receive`, and leave by `emit`; both write the message to
    its view.
    """

    def __init__(self, name: str, config: Any, drawn: Drawn, transcript: Recorder) -> None:
        """`drawn` is the party's own, from which no other's follows."""
        self.name = name
        self._transcript = transcript
        self._heap: dict[int, Any] = {}
        self.state = _state(name, config, drawn)
        self._precision, self._sizes = precision_of(config), sizes_of(config)
        self._arrived = Arrived()
        for label, key in (("coins", drawn.coins), ("weights", drawn.weights)):
            transcript.note(name, Kind.COINS, label, np.frombuffer(key, np.uint8))

    def give_input(self, label: str, value: NDArray[Any]) -> None:
        """Put an array into the party's private input and into its view."""
        array = np.ascontiguousarray(value)
        array.flags.writeable = False
        self.state.inputs[label] = array
        self._transcript.note(self.name, Kind.INPUT, label, array)

    def call(self, do: DoStep, header: Header, told: Frame) -> None:
        """Run a local step and keep its results; what it is told by the script is recorded under `header`.

        Raises `StepError` with the party, the step, the phase, the cause, and the messages that it worked on.
        """
        step = load_step(do.module, do.step)
        public = [arg for arg in do.args if not isinstance(arg, Ref)]
        self._transcript.step(self.name, f"{do.module}.{do.step}", header, public, told)
        values = (self._heap[arg.id] if isinstance(arg, Ref) else arg for arg in do.args)
        try:
            with computed_in(self._precision):
                result = step(self.state, *values)
        except Exception as cause:
            handles = [arg.id for arg in do.args if isinstance(arg, Ref)]
            on = (
                ""
                if ran_out_of_memory(cause)
                else self._arrived.named(handles, besides=not _own_fault(cause))
            )
            failed = StepError(
                f"{self.name}: {do.step} failed in {at(do.phase, do.round)}: {_reason(cause)}{on}"
            )
            shapes = not isinstance(cause, KeyholeError)  # of numpy and torch; a scheme's may be another's
            failed.of = None if _own_fault(cause) else self._arrived.from_one(handles, by_kind=shapes)
            raise failed from cause
        results = result if do.split else (result,)
        if len(results) != len(do.outs):
            raise StepError(
                f"{self.name}: {do.step} returned {len(results)} values, its annotation says {len(do.outs)}"
            )
        self._heap.update(zip(do.outs, results, strict=True))

    def emit(self, header: Header, handle: int, item: int | None = None) -> Frame:
        """Encode a value for the wire and record it as sent; returns the frame."""
        value = self._heap[handle] if item is None else self._heap[handle][item]
        if not _finite(value):
            where = f"cannot send {header.label} in {at(header.phase, header.round)}"
            raise StepError(
                f"{self.name}: {where}: it is not finite; has the training diverged? try a lower --lr"
            )
        try:
            frame = encode(value)
        except KeyholeError as cause:
            raise StepError(
                f"{self.name}: cannot send {header.label} in {at(header.phase, header.round)}: {cause}"
            ) from None
        self.record_sent(header, value, frame)
        return frame

    def record_sent(self, header: Header, value: Any, frame: Frame) -> None:
        """Record that a frame went out under `header` (also for each further receiver of a broadcast)."""
        self._transcript.message(self.name, Kind.SENT, header, value, frame)

    def receive(self, header: Header, frame: Frame, kind: Any = None) -> Any:
        """Decode a frame, record it as received and return the party's own copy, which is not kept yet.

        Raises `MessageError` for what is no message, and for a value that is not what the figure states.
        """
        where = f"{self.name}: {header.said} in {at(header.phase, header.round)}"
        try:
            value = decode(frame)
        except KeyholeError as cause:
            raise _bad(f"{where} cannot be read: {cause}", header) from None
        self._transcript.message(self.name, Kind.RECEIVED, header, value, frame)
        with computed_in(self._precision):
            if not (kind is None or fits(value, kind, self._sizes)):
                got = " ".join(map(str, describe(value)))
                raise _bad(f"{where} is {got}; FIGURE says {shown(kind, self._sizes)}", header)
        self._arrived.note(header, describe(value))
        return value

    def output(self, header: Header, handle: int) -> Frame:
        """Encode a value that is revealed to the experimenter and record it."""
        value = self._heap[handle]
        frame = encode(value)
        self._transcript.message(self.name, Kind.OUTPUT, header, value, frame)
        return frame

    def holds(self) -> dict[str, dict[Any, Any]]:
        """All that it has but for its inputs: values by handle, and its state by name."""
        state = {name: value for name, value in vars(self.state).items() if name not in _GIVEN}
        return {"heap": dict(self._heap), "state": state}

    def take_up(self, held: Mapping[str, Mapping[Any, Any]], transcript: Recorder) -> None:
        """Go on with what it had, and with a transcript."""
        self._heap, self._transcript = dict(held["heap"]), transcript
        for name in [name for name in vars(self.state) if name not in _GIVEN]:
            delattr(self.state, name)
        vars(self.state).update(held["state"])

    def value(self, handle: int) -> Any:
        """A value in the heap; for the host, which hands it to nobody."""
        return self._heap[handle]

    def keep(self, handle: int, value: Any) -> None:
        """Store a received value under a handle."""
        self._heap[handle] = value
        self._arrived.keep(handle)

    def free(self, handle: int) -> None:
        """Forget a value that the script has no handle for any more."""
        self._heap.pop(handle, None)
        self._arrived.free(handle)


def fresh_state(name: str, config: Any, key: bytes, bound: str = "") -> State:
    """The state that a party starts with; with its inputs, a scorer can repeat what it computed.

    `key` (32 bytes) and `bound` as in `drawn_from`.
    """
    return _state(name, config, drawn_from(key, bound))


def drawn_from(key: bytes, bound: str = "") -> Drawn:
    """What a party with this key (32 bytes) draws from.

    Its coins belong to its key and to what the run protects, of which `bound` is a digest: under one seed,
    ciphertexts of two data sets with the same coins would differ by Delta (x - x'), which anybody can read.
    First weights follow from the key alone, so that runs of one seed begin alike.
    """
    return Drawn(derive(key, "coins", bound), derive(key, "weights"))


def _state(name: str, config: Any, drawn: Drawn) -> State:
    return State(
        party=name,
        role=role_of(name),
        index=index_of(name),
        config=config,
        inputs={},
        coins=Coins(drawn.coins),
        rng=np.random.default_rng(list(drawn.weights)),
        held={},
    )


@cache
def load_step(module: str, name: str) -> Callable[..., Any]:
    """Find a step by its name and check it where it runs."""
    step: Callable[..., Any] = getattr(importlib.import_module(module), name)
    check_step(step)
    return step


def at(phase: str, round: int) -> str:
    """Where in the run something happened, in words."""
    return f"phase {phase}" + (f", round {round}" if round >= 0 else "")


def _finite(value: Any) -> bool:
    """Whether no real in a value that crosses is infinite or not a number."""
    if isinstance(value, np.ndarray):
        return value.dtype.kind != "f" or bool(np.isfinite(value).all())
    if isinstance(value, float):
        return bool(np.isfinite(value))
    if isinstance(value, list | tuple):
        return all(map(_finite, value))
    return all(map(_finite, value.values())) if isinstance(value, dict) else True


def _bad(said: str, header: Header) -> MessageError:
    found = MessageError(said)
    found.of = header
    return found


def _own_fault(cause: Exception) -> bool:
    """Whether an error speaks for itself, and not of a message that a scheme or numpy cannot work with."""
    return isinstance(cause, KeyholeError) and not isinstance(cause, SchemeError)


def _reason(cause: Exception) -> str:
    """What went wrong, in one line; not the text of unexpected errors, which may hold values."""
    if ran_out_of_memory(cause):
        return OUT_OF_MEMORY
    return str(cause) if isinstance(cause, KeyholeError) else type(cause).__name__
