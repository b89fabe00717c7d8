"""Owners that a run goes on without, after a message that its receiver could not take: `--on-bad-message
drop`.

The run stops at the message, as it does without that option. Then the owner is noted with the number of its
message and the round in which it left, what hosts had done ahead of that message is taken out of the
transcripts, and the run goes on as one that is resumed: the script leaves that owner out from there on. So
nothing waits for a verdict while the run goes on, and what follows is a function of the script, of the coins
and of that number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

from parties.runtime.checkpoints import from_checkpoint
from parties.runtime.host import HostSpec
from parties.runtime.stood import cut_after
from protocols.language.errors import HostLost, MessageError, StepError
from protocols.language.message import Header
from protocols.language.roles import DATA_OWNER, index_of, role_of
from protocols.language.session import Runtime, Session
from protocols.network.schedule import Dropped, OnBadMessage, Rounds
from scenarios.run.experiment import Experiment
from scenarios.run.folder import RunFolder, write_json
from scenarios.run.hosts import host_specs
from scenarios.run.result import LeftOut, Recovered
from scenarios.run.resume import GoingOn, basis, wait_until_left
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


def left_out_of(run: RunFolder) -> list[Mapping[str, Any]]:
    """The owners that a run was left without, as they are noted; not one whom config.json does not name: the
    run was killed before it was told, and will come to that message again.
    """
    messages = {each.message for each in getattr(run.config(), "dropped", ())}
    return [each for each in status_of(run).dropped if each.get("message") in messages]


class LeavingOut:
    """A run, with the owners that it is left without."""

    def __init__(
        self, experiment: Experiment, run: RunFolder, note: Note, log: Any, going_on: GoingOn | None
    ) -> None:
        self.experiment, self.going_on = experiment, going_on
        self.dropped = tuple(LeftOut(**each) for each in left_out_of(run))
        self._run, self._note, self._log = run, note, log
        self._lost: list[tuple[GoingOn, tuple[str, str, int]]] = []
        self._start = 0

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
        wait_until_left(self._run)
        undone = cut_after(self._specs(left), script_of(left), header.seq)
        if undone is None:
            raise type(bad)(f"{bad}; the protocol cannot go on without {header.sender}") from None
        self._noted(left, header, str(bad), undone)

    def from_a_checkpoint(self, lost: HostLost) -> None:
        """Have the run go on from its last checkpoint, where the processes that died cannot be helped by the
        transcripts of the others; raises what stopped it where there is none, or no newer one than the last
        time.
        """
        experiment = self.experiment
        if not experiment.checkpoint_every or not lost.lost:
            raise lost
        wait_until_left(self._run)
        start = from_checkpoint(self._specs(experiment))[0].start
        if start <= self._start:
            raise lost
        self._start = start
        self._go_on(experiment)
        if self.going_on is not None:
            self._lost += [(self.going_on, each) for each in lost.lost]

    def unkept(self, why: str) -> None:
        """No checkpoints can be written: what is killed is helped by replay, from the first message."""
        self._log.warning("no_checkpoint", reason=why)
        self._note(no_checkpoint=why)

    @property
    def recovered(self) -> tuple[Recovered, ...]:
        """Processes for which the run went back to a checkpoint."""
        return tuple(
            Recovered(host=host, phase=phase, round=number, seconds=going_on.seconds)
            for going_on, (host, phase, number) in self._lost
        )

    def _specs(self, experiment: Experiment) -> list[HostSpec]:
        processors = None if self.going_on is None else self.going_on.basis.get("processors")
        return host_specs(experiment, self._run, processors)

    def _go_on(self, experiment: Experiment) -> None:
        before = () if self.going_on is None else tuple(self.going_on.passed)
        self.experiment = experiment
        self.going_on = GoingOn(experiment, basis(), before, self._note, stopped=False)

    def _noted(self, left: Experiment, header: Header, why: str, undone: int) -> None:
        row = LeftOut(
            party=header.sender, label=header.label, message=header.seq, phase=header.phase,
            round=header.round, why=why, undone=undone,
        )  # fmt: skip
        self.dropped = (*self.dropped, row)
        # First the note: killed between the two, a run that is resumed comes to that message once more.
        self._note(dropped=[asdict(each) for each in self.dropped])
        write_json(self._run.path / "config.json", {**left.as_plain(), "parties": left.parties})
        self._run.__dict__.pop("settings", None)
        self._log.warning("owner_left_out", party=row.party, label=row.label, message=row.message)
        self._go_on(left)
