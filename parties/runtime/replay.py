"""A run carried out again from what its transcripts hold: the coins and inputs of every party, and the
script.

They determine every message. Each is computed anew, in this process, and held against the stored one; no
data set is read, nothing is written, and no other process is needed. It costs about what the run did.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from parties.party import Drawn, Party
from parties.record.transcript import Frame, Transcript
from parties.record.witness import Departed, Ended, Witness
from parties.record.writer import Recorder
from parties.runtime.crew import Crew
from parties.runtime.inline import AtOnce
from protocols.language.errors import DataError, KeyholeError
from protocols.language.protocol import ProtocolFile
from protocols.language.roles import Role, role_of
from protocols.language.session import Reveal, Session, Step, Transfer, opened
from protocols.language.state import State
from protocols.language.view import Kind

_KEY_BYTES = 32


@dataclass(frozen=True)
class Replay:
    """What came of it: what departs, how many messages were compared, what the script yielded, and the states
    of the parties at its end.

    `ended` says where the stored entries end before the script does, as those of a run that was stopped do;
    empty if they do not. `failed`: why the script could not go on by itself, as that of a run whose training
    diverged.
    """

    faults: tuple[str, ...]
    ended: str
    failed: str
    messages: int
    yielded: tuple[Any, ...]
    states: Mapping[str, State]


class ReplayedCrew(Crew):
    """A crew whose messages go on as they are stored, where what it computes is something else."""

    def __init__(self, parties: Mapping[str, Party], witness: Witness) -> None:
        super().__init__(parties)
        self._witness = witness

    def emit(self, transfer: Transfer) -> list[tuple[int, Frame]]:
        frames = super().emit(transfer)
        return [(i, self._witness.stored(transfer.seq + i, frame)) for i, frame in frames]

    def reveal(self, reveal: Reveal) -> Frame:
        return self._witness.stored(reveal.seq, super().reveal(reveal))


def replay(
    paths: Sequence[Path],
    protocol: ProtocolFile,
    config: Any,
    counts: dict[Role, int],
    instead: Mapping[tuple[Role, Step], Step],
) -> Replay:
    """Carry out a protocol on stored coins and inputs; the transcripts hold payloads.

    `counts` and `instead` as `Session` takes them.
    """
    yielded: list[Any] = []
    states: dict[str, State] = {}
    ended, failed, departed = "", "", list[str]()
    with ExitStack() as stack:
        stack.enter_context(_one_thread())
        bad = frozenset(each.message for each in getattr(config, "dropped", ()))
        witnesses = {path: stack.enter_context(closing(Witness(path, bad))) for path in paths}
        try:
            runtime = AtOnce(_home(witnesses, config, states))
            session = Session(runtime, protocol.FIGURE, counts, config, instead)
            yielded.extend(opened(revealed) for revealed in protocol.run(session, config))
            for witness in witnesses.values():
                witness.finish()
        except Ended as cause:
            ended = str(cause)
        except Departed as cause:
            departed = [str(cause)]
        except Exception as cause:  # of a script on a stranger's inputs, whatever it is
            failed = _why(cause)
        faults = [fault for witness in witnesses.values() for fault in witness.faults()]
        messages = sum(witness.messages for witness in witnesses.values())
    return Replay((*faults, *departed), ended, failed, messages, tuple(yielded), states)


def again_with(
    paths: Sequence[Path],
    protocol: ProtocolFile,
    config: Any,
    counts: dict[Role, int],
    instead: Mapping[tuple[Role, Step], Step],
    replaced: Mapping[tuple[str, str], NDArray[Any]],
    recorder: Recorder,
) -> str:
    """Carry out a protocol on stored coins and inputs, but for inputs that are `replaced`, by party and
    label.

    What the parties say goes to `recorder` and is held against nothing. Returns why the script could not go
    on; empty if it came to its end.
    """
    with _one_thread():
        home: dict[str, Crew] = {}
        for path in paths:
            here = _Stored(path, config, recorder, {}, replaced)
            home |= dict.fromkeys(here.names, Crew(here))
        try:
            session = Session(AtOnce(home), protocol.FIGURE, counts, config, instead)
            for revealed in protocol.run(session, config):
                opened(revealed)
        except Exception as cause:  # of a script on other inputs than it was run on, whatever it is
            return _why(cause)
    return ""


def _home(witnesses: Mapping[Path, Witness], config: Any, states: dict[str, State]) -> dict[str, Crew]:
    """The crew of each party, one crew a transcript; the states of those that take part go to `states`."""
    home: dict[str, Crew] = {}
    for path, witness in witnesses.items():
        here = _Stored(path, config, witness, states)
        home |= dict.fromkeys(here.names, ReplayedCrew(here, witness))
    return home


class _Stored(dict[str, Party]):
    """The parties of a transcript as they were when the run began, each made when it first takes part."""

    def __init__(
        self,
        path: Path,
        config: Any,
        witness: Recorder,
        states: dict[str, State],
        replaced: Mapping[tuple[str, str], NDArray[Any]] = MappingProxyType({}),
    ) -> None:
        super().__init__()
        self._config, self._witness, self._states = config, witness, states
        self._inputs: dict[str, dict[str, NDArray[Any]]] = {}
        self.names: dict[str, dict[str, bytes]] = {}
        with closing(Transcript(path)) as transcript:
            for row in list(transcript.rows("kind IN ('input', 'coins') ORDER BY id")):
                value = transcript.value(row)
                if not isinstance(value, np.ndarray):
                    raise DataError(f"{row.party}: its {row.kind.value} {row.label} is no array")
                if row.kind is Kind.COINS:
                    self.names.setdefault(row.party, {})[row.label] = value.tobytes()
                else:
                    given = replaced.get((row.party, row.label), value)
                    self._inputs.setdefault(row.party, {})[row.label] = given
        for name in self.names:
            if not role_of(name).many:
                self[name]

    def __contains__(self, party: object) -> bool:
        return party in self.names

    def __missing__(self, name: str) -> Party:
        keys = self.names[name]
        if set(keys) != {"coins", "weights"} or any(len(key) != _KEY_BYTES for key in keys.values()):
            raise DataError(f"{name}: its coins are not two keys of {_KEY_BYTES} bytes")
        party = Party(name, self._config, Drawn(**keys), self._witness)
        for label, array in self._inputs.get(name, {}).items():
            party.give_input(label, array)
        self._states[name] = party.state
        return self.setdefault(name, party)


@contextmanager
def _one_thread() -> Iterator[None]:
    """As hosts compute: float sums depend on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _why(cause: Exception) -> str:
    said = str(cause) if isinstance(cause, KeyholeError) else type(cause).__name__
    return f"the script cannot be carried out on the stored inputs and coins: {said}"
