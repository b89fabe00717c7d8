"""One run from options to result.json: parties, protocol, transcript, knowledge, attacks, scores."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from parties.adversary.attack import Learned
from parties.record.log import open_log
from parties.record.transcript import Record
from parties.runtime import checkpoint
from protocols.language.errors import ConfigError, HostLost, KeyholeError, MessageError, StepError
from protocols.language.session import Session, opened
from scenarios.run.attacks import attack_run, held_out_of
from scenarios.run.crossed import Counted
from scenarios.run.experiment import FULL_LIMIT_NBYTES, Experiment
from scenarios.run.folder import RunFolder, load_run, new_folder, write_json, write_text
from scenarios.run.hosts import Runtimes, host_specs, runtime_named
from scenarios.run.json_schema import plain
from scenarios.run.learned import FAILED, held_against_audit, learned, learned_rows
from scenarios.run.leaving_out import LeavingOut, left_out_of, script_of, session_on
from scenarios.run.log_to import checked, logged
from scenarios.run.manifest import write_manifest
from scenarios.run.report import Epoch, accuracy, baseline, loss, report
from scenarios.run.result import Recovered, Result, Seconds
from scenarios.run.resume import GoingOn, basis, forget_checkpoints, going_on_with
from scenarios.run.status import Note, in_a_line, noted, set_aside
from scenarios.show.charts import draw_knowledge

STEPS = ("step", "query")  # the phases that a run repeats

_MEASURED = 8  # steps after which the size of transcripts is extrapolated

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# Told of progress: phases and their rounds as the hosts report them, `epoch`, `ledger` and `attack`; and for
# who looks on, `test_accuracy`, `test_loss` (a function that computes it) and `sent` (messages by label that
# the corrupted parties have).
Observe = Callable[[str, Any], None]


class RecordTooLarge(KeyholeError):
    """A full transcript would be large and the user did not ask for it."""


def execute(
    experiment: Experiment, observe: Observe = lambda event, value: None
) -> tuple[RunFolder, dict[str, Any]]:
    """Carry out a run and return its folder and result.json; `observe(event, value)` is told of progress."""
    check_size(experiment)
    check_measure(experiment)
    checked(experiment.log_to)
    set_aside(experiment.out)
    run = new_folder(experiment.out, experiment.scenario.name)
    with noted(run, experiment.steps, basis()) as note, _told_how_to_go_on(run, experiment):
        write_json(run.path / "config.json", {**experiment.as_plain(), "parties": experiment.parties})
        write_text(run.path / "config.toml", experiment.as_toml())
        return run, _executed(experiment, run, observe, note)


def resume(
    path: Path,
    observe: Observe = lambda event, value: None,
    address: str | None = None,
    log_to: tuple[str, ...] = (),
) -> tuple[RunFolder, dict[str, Any]]:
    """Go on with a run that was stopped, to the end that it would have had; `ConfigError` or `DataError` for
    one that cannot be.
    """
    run = load_run(path)
    going_on = going_on_with(run)
    noted_before = {"resumed": list(going_on.before), "dropped": left_out_of(run)}
    with noted(run, going_on.experiment.steps, going_on.basis, **noted_before) as note:
        going_on.note = note
        with _told_how_to_go_on(run, going_on.experiment):
            experiment = replace(going_on.experiment, address=address, log_to=log_to)
            return run, _executed(experiment, run, observe, note, going_on)


@contextmanager
def _told_how_to_go_on(run: RunFolder, experiment: Experiment) -> Iterator[None]:
    try:
        yield
    except BaseException as stopped:
        if not experiment.resumable:
            forget_checkpoints(run, stopped)
        elif isinstance(stopped, KeyboardInterrupt):
            stopped.add_note(f"to go on: keyhole run --resume {run.path}")
        raise


def _executed(
    experiment: Experiment, run: RunFolder, observe: Observe, note: Note, going_on: GoingOn | None = None
) -> dict[str, Any]:
    done = None if going_on is None else going_on.trained(run)
    clock = Clock(None if done is None else done.seconds)
    log = open_log(run.path / "run.log").bind(host="driver")
    owners = len(experiment.config.counts)
    log.info(
        "run_started" if going_on is None else "run_resumed",
        scenario=experiment.scenario.name, runtime=experiment.runtime.value, owners=owners,
    )  # fmt: skip
    try:
        with logged(experiment, run, log.warning) as logs:
            with ExitStack() as stack:
                watched = stack.enter_context(interruptible(_both(observe, logs.observe)))
                make = stack.enter_context(runtime_named(experiment.runtime, experiment.address))
                if done is None:
                    left_out = LeavingOut(experiment, run, note, log, going_on)
                    done = _trained(left_out, run, make, clock, watched, log)
                    experiment = left_out.experiment
                checkpoint.remove(run.path)  # nobody goes back behind result.json
                watched("attack", 0)
                result = _attacked(experiment, run, make, clock, done, log)
            content = written(run, replace(result, seconds=Seconds(**clock.seconds())))
            logs.finish(content)
    except BaseException as cause:
        log.error("run_failed", reason=in_a_line(cause))
        raise
    manifest = write_manifest(run)
    log.info(
        "run_finished", digest=result.transcript_digest[:16], manifest=manifest,
        seconds=content["seconds"]["total"],
    )  # fmt: skip
    return content


def _both(first: Observe, second: Observe) -> Observe:
    """Tells two of progress."""

    def observe(event: str, value: Any) -> None:
        first(event, value)
        second(event, value)

    return observe


def _trained(
    left_out: LeavingOut, run: RunFolder, make: Runtimes, clock: Clock, observe: Observe, log: Any
) -> Result:
    """Train, report, and ask who learned what."""
    trained = None
    while trained is None:
        experiment, going_on = left_out.experiment, left_out.going_on
        try:
            trained = train(experiment, run, make, clock, observe, log, going_on, left_out.unkept)
        except (MessageError, StepError) as bad:
            clock.lap("train")
            left_out.without_sender_of(bad)
        except HostLost as lost:
            clock.lap("train")
            left_out.from_a_checkpoint(lost)
    observe("ledger", 0)
    clock.lap("train")
    result = report(experiment, run, trained.epochs, clock.seconds())
    clock.lap("report")
    lines = learned_rows(_learned(experiment, run, make, log))
    result = replace(
        result,
        recovered=(*left_out.recovered, *trained.recovered) or None,
        resumed=None if going_on is None else going_on.resumed or None,
        dropped=left_out.dropped or None,
        learned=lines,
        seconds=Seconds(**clock.seconds()),
    )
    written(run, result)  # whatever becomes of the attacks
    return result


def _attacked(
    experiment: Experiment, run: RunFolder, make: Runtimes, clock: Clock, result: Result, log: Any
) -> Result:
    """Draw, attack, and train the baseline."""

    def told(attack: str, why: str, calls: tuple[str, ...]) -> None:
        log.error("attack_failed", attack=attack, reason=why, calls=calls)

    draw_knowledge(run.path, result.learned)
    clock.lap("report")
    if experiment.attack:
        found = attack_run(
            run,
            experiment.attack,
            experiment.corrupt,
            run.prior(),
            make.adversary,
            0,
            experiment.measure,
            told,
        )
        result = replace(result, attacks=found)
    clock.lap("attack")
    result = replace(result, accuracy=replace(result.accuracy, baseline_test=_baseline(experiment, result)))
    clock.lap("report")
    return result


def _baseline(experiment: Experiment, result: Result) -> float | None:
    """The accuracy of the same training without protection: of a run that has none its own."""
    itself = experiment.protocol.NAME, experiment.config
    unprotected = (
        experiment.behaviour is None and experiment.protocol.unprotected(experiment.config) == itself
    )
    return result.accuracy.test if unprotected else baseline(experiment)


def _learned(experiment: Experiment, run: RunFolder, make: Runtimes, log: Any) -> list[Learned]:
    """Who learned what; unless it was declined, never less than a small instance determines."""
    try:
        lines = learned(run, make.adversary)
        return lines if experiment.no_audit else held_against_audit(run, lines)
    except KeyholeError:
        raise
    except Exception as cause:  # training that went well is not lost by it
        log.error("ledger_failed", reason=type(cause).__name__)
        why = f"the ledger itself failed ({type(cause).__name__}): keyhole --debug learned {run.path}"
        return [Learned("all parties", FAILED, "all", "not analysed", why, None)]


def written(run: RunFolder, result: Result) -> dict[str, Any]:
    """Write result.json and return what it holds."""
    content: dict[str, Any] = plain(result)
    write_json(run.path / "result.json", content)
    return content


@contextmanager
def interruptible(observe: Observe) -> Iterator[Observe]:
    """An observer that raises `KeyboardInterrupt` after a Ctrl-C that was lost; SIGTERM and SIGHUP are taken
    for one.

    Python drops an exception that is raised while a finalizer runs, and one runs for every value that a
    script forgets.
    """
    if threading.current_thread() is not threading.main_thread():
        yield observe
        return
    pending = threading.Event()

    def interrupt(number: int, frame: Any) -> None:
        pending.set()
        raise KeyboardInterrupt

    def watched(event: str, value: Any) -> None:
        if pending.is_set():
            raise KeyboardInterrupt
        observe(event, value)

    def unraisable(lost: Any) -> None:
        if not isinstance(lost.exc_value, KeyboardInterrupt):
            said(lost)

    before = {number: signal.signal(number, interrupt) for number in _STOPPING}
    said = sys.unraisablehook
    sys.unraisablehook = unraisable  # Python prints what it drops; this one is raised again
    try:
        yield watched
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = said


def check_size(experiment: Experiment) -> None:
    """Refuse to fill the disk unasked: a full transcript beyond 2 GB needs `--record`."""
    nbytes = experiment.protocol.payload_nbytes(experiment.config)
    if nbytes is not None and _unasked(experiment):
        _refuse_beyond_limit(nbytes)


def check_measure(experiment: Experiment) -> None:
    """`ConfigError` for a measure of attacks that nothing could be measured by."""
    if experiment.measure is not None:
        if not experiment.attack:
            raise ConfigError("--measure retrain measures what attacks rebuild: name one with --attack")
        held_out_of(experiment.data)


def _unasked(experiment: Experiment) -> bool:
    return experiment.record is Record.FULL and not experiment.record_given


def _refuse_beyond_limit(nbytes: float) -> None:
    if nbytes > FULL_LIMIT_NBYTES:
        raise RecordTooLarge(
            f"full transcripts of this run take about {nbytes / 1e9:.1f} GB; "
            "ask for them with --record full, or keep headers and digests with --record headers"
        )


class Growth:
    """The size of full transcripts that nobody asked for, of a protocol that does not say it: measured, and
    extrapolated.
    """

    def __init__(self, experiment: Experiment, run: RunFolder) -> None:
        said = experiment.protocol.payload_nbytes(experiment.config)
        self._watching, self._folder = said is None and _unasked(experiment), run.path / "transcripts"
        self._steps, self._first = experiment.steps, -1.0

    def check(self, phase: str, round: int) -> None:
        """Stop the run where it would become too large; after a few steps, whose messages are like those of
        all others.
        """
        if not self._watching or phase not in STEPS:
            return
        nbytes = sum(path.stat().st_size for path in self._folder.iterdir())
        if round == 0:
            self._first = nbytes
        if round >= _MEASURED:
            _refuse_beyond_limit(self._first + (nbytes - self._first) / round * self._steps)


class Clock:
    """Wall-clock seconds by phase of the run."""

    def __init__(self, before: Seconds | None = None) -> None:
        """`before`: of the process that had trained already."""
        self._start = self._last = time.perf_counter()
        self._laps = {name: getattr(before, name, 0.0) for name in ("setup", "train", "attack", "report")}
        self._before: float = getattr(before, "total", 0.0)

    def lap(self, name: str) -> None:
        """Book the time since the last lap under a name."""
        now = time.perf_counter()
        self._laps[name] += now - self._last
        self._last = now

    def since(self, name: str) -> float:
        """Seconds since a lap ended that was booked last, or 0 if it was not."""
        return round(time.perf_counter() - self._last, 3) if self._laps[name] else 0.0

    def seconds(self) -> dict[str, float]:
        """Seconds by name, and in total."""
        return {
            name: round(s, 3)
            for name, s in {**self._laps, "total": self._before + time.perf_counter() - self._start}.items()
        }


def check_addressed(session: Session, experiment: Experiment) -> None:
    """`ConfigError` where the script left out parties whose samples the run would count."""
    left = [name for name in experiment.parties if name not in session.addressed()]
    if left:
        raise ConfigError(
            f"{left[0]} took no part: the protocol's script never addresses it; run it with fewer --owners, "
            "let the script say s.each(...), or write taking_part = schedule.taking_part where owners take "
            "turns"
        )


@dataclass(frozen=True)
class Trained:
    """What was revealed and when, by epoch or by message of queries, and which processes died meanwhile."""

    epochs: list[Epoch]
    recovered: tuple[Recovered, ...]


def train(
    experiment: Experiment, run: RunFolder, make: Runtimes, clock: Clock, observe: Observe, log: Any,
    going_on: GoingOn | None = None, unkept: Callable[[str], None] = lambda why: None,
) -> Trained:  # fmt: skip
    """Run the protocol, or go on with it; from whatever processes that die it recovers. `unkept` is told why
    no checkpoints can be written.
    """
    started, counted = False, None

    def progress(phase: str, round: int) -> None:
        nonlocal started
        if phase in STEPS and not started:
            started = True
            clock.lap("setup")
            log.info("training_started")
        if going_on is not None:
            going_on.ended(phase, round)
        growth.check(phase, round)
        if counted is not None:
            observe("sent", counted.until(phase, round))
        observe(phase, round)

    growth = Growth(experiment, run)
    protocol, config, script = experiment.protocol, experiment.config, script_of(experiment)
    specs = host_specs(experiment, run) if going_on is None else going_on.specs(run, script, log)
    runtime = make.hosts(specs, progress)
    runtime.allow(experiment.deadline)
    runtime.checkpoints.every = experiment.checkpoint_every
    runtime.checkpoints.told = unkept
    epochs: list[Epoch] = []
    try:
        runtime.script = script
        counted = Counted(runtime, experiment.corrupt)
        session = session_on(counted, experiment)
        for epoch, revealed in enumerate(protocol.run(session, config), start=1):
            trained, told = clock.since("setup"), opened(revealed)
            if epochs and experiment.scenario.scoring is None:  # of weights the last ones count
                epochs[-1] = replace(epochs[-1], revealed=None)
            epochs.append(Epoch(told, accuracy(experiment, told), trained))
            if experiment.scenario.scoring is None:
                log.info("epoch_finished", epoch=epoch, test_accuracy=epochs[-1].test)
            observe("test_accuracy", epochs[-1].test)
            observe("test_loss", partial(loss, experiment, told))
            observe("epoch", epoch)
        check_addressed(session, experiment)
        runtime.finish()
    except BaseException:
        runtime.abort()
        raise
    finally:
        counted = None  # the runtime would hold itself
    recovered = tuple(Recovered(**asdict(each)) for each in getattr(runtime, "recoveries", ()))
    for each in recovered:
        log.warning(
            "host_recovered", lost=each.host, phase=each.phase, round=each.round, seconds=each.seconds
        )
    return Trained(epochs, recovered)
