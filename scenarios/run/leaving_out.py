"""Owners that a run goes on without, after a message that its receiver could not take: `--on-bad-message
drop`.

The run stops at the message, as it does without that option. Then the owner is noted with the number of its
message and the round in which it left, what hosts had done ahead of that message is taken out of the
transcripts, and the run goes on as one that is resumed: the script leaves that owner out from there on. So
nothing waits for a verdict while the run goes on, and what follows is a function of the script, of the coins
and of that number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import Any

from parties.runtime.stood import cut_after
from protocols.language.errors import MessageError, StepError
from protocols.language.message import Header
from protocols.language.roles import DATA_OWNER, index_of, role_of
from protocols.language.session import Runtime, Session
from protocols.network.schedule import Dropped, OnBadMessage, Rounds
from scenarios.run.experiment import Experiment
from scenarios.run.folder import RunFolder, write_json
from scenarios.run.hosts import host_specs
from scenarios.run.result import LeftOut
from scenarios.run.resume import GoingOn, basis
from scenarios.run.status import Note, status_of


def script_of(experiment: Experiment) -> Callable[[Runtime], Iterator[Any]]:
    """The script of a run, for whatever carries it out."""

    def script(runtime: Runtime) -> Iterator[Any]:
        return experiment.protocol.run(session_on(runtime, experiment), experiment.config)

    return script


def session_on(runtime: Runtime, experiment: Experiment) -> Session:
    """A session of a run, on what carries it out."""
    instead = experiment.behaviour.INSTEAD if experiment.behaviour else {}
    return Session(runtime, experiment.protocol.FIGURE, experiment.counts, experiment.config, instead)


class LeavingOut:
    """A run, with the owners that it is left without."""

    def __init__(
        self, experiment: Experiment, run: RunFolder, note: Note, log: Any, going_on: GoingOn | None
    ) -> None:
        self.experiment, self.going_on = experiment, going_on
        self.dropped = tuple(LeftOut(**each) for each in status_of(run).dropped)
        self._run, self._note, self._log = run, note, log

    def without_sender_of(self, bad: MessageError | StepError) -> None:
        """Have the run go on without an owner; raises what stopped it where it was not to, or cannot."""
        header, config = bad.of, self.experiment.config
        if not isinstance(config, Rounds) or config.on_bad_message is not OnBadMessage.DROP:
            raise bad
        if not isinstance(header, Header) or role_of(header.sender) is not DATA_OWNER:
            raise type(bad)(f"{bad}; no owner can be left out for it") from None
        number = header.round // config.local_steps if header.phase == "step" else header.round
        gone = Dropped(index_of(header.sender), max(0, number), header.seq)
        left = replace(self.experiment, config=replace(config, dropped=(*config.dropped, gone)))
        processors = None if self.going_on is None else self.going_on.basis.get("processors")
        undone = cut_after(host_specs(left, self._run, processors), script_of(left), header.seq)
        if undone is None:
            raise type(bad)(f"{bad}; the protocol cannot go on without {header.sender}") from None
        self._noted(left, header, str(bad), undone)

    def _noted(self, left: Experiment, header: Header, why: str, undone: int) -> None:
        row = LeftOut(
            party=header.sender, label=header.label, message=header.seq, phase=header.phase,
            round=header.round, why=why, undone=undone,
        )  # fmt: skip
        self.dropped = (*self.dropped, row)
        write_json(self._run.path / "config.json", {**left.as_plain(), "parties": left.parties})
        self._run.__dict__.pop("settings", None)
        self._note(dropped=[asdict(each) for each in self.dropped])
        self._log.warning("owner_left_out", party=row.party, label=row.label, message=row.message)
        before = () if self.going_on is None else tuple(self.going_on.passed)
        self.going_on = GoingOn(left, basis(), before, self._note, stopped=False)
        self.experiment = left
