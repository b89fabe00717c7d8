"""Whether a run folder is what came of its run: its files against each other, then the run once more.

Three stages, each if the one before found nothing: payloads, ends and digests; the manifest, the
configuration and every figure that follows from rows; and a replay from the stored coins and inputs, which
every message, every step and the accuracy must follow from. Who replaces a part is named by the first of
them. Who replaces all parts by those of another run has another run: the hash of the manifest tells, to
those who noted it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from parties.adversary.adversary import Adversary
from parties.adversary.attack import Learned
from parties.data.shares import owned
from parties.party import drawn_from
from parties.record.kept import Kept, Record
from parties.record.transcript import Transcript
from parties.record.view import Kind
from parties.runtime.replay import Replay, replay
from protocols.crypto.coins import derive
from protocols.language.errors import DataError, KeyholeError
from protocols.language.message import digest, encode
from protocols.language.roles import DATA_OWNER, party_name
from scenarios.run.catalogue import find_scenario
from scenarios.run.experiment import Experiment, run_key
from scenarios.run.folder import RunFolder
from scenarios.run.json_schema import plain
from scenarios.run.learned import FAILED, held_against_audit, learned
from scenarios.run.manifest import manifest_faults
from scenarios.run.options import Preset, RuntimeName
from scenarios.run.report import Epoch, accuracy, scored, stated, versions
from scenarios.run.status import incomplete, status_of

_NEVER = "attacks (keyhole attack), the baseline's accuracy, seconds"
_LINE = ("party", "quantity", "of", "how", "since_round")  # of who learned what; the rest is how it was found
_OF_A_HEAD = "the accuracy on training samples, what is measured of the head"


@dataclass(frozen=True)
class Certificate:
    """What does not fit, and, if everything does, what was checked and what was not; a line each.
    `incomplete`: how far a run came that did not come to its end.
    """

    faults: tuple[str, ...]
    told: tuple[str, ...] = ()
    incomplete: str = ""


def certify(run: RunFolder) -> Certificate:
    """Check a run folder; raises `DataError` or `ConfigError` for one that cannot be read."""
    stopped = incomplete(run)
    return replace(_certified(run, not stopped), incomplete=stopped)


def _certified(run: RunFolder, finished: bool) -> Certificate:
    faults = run.faults(finished)
    if not finished and (run.path / "manifest.json").exists():  # it is written last
        faults.append("status: status.json says that the run is not complete, and manifest.json that it is")
    if faults:
        return Certificate(tuple(faults))
    if run.recorded:
        return _recording(run, finished)
    if "asked" in run.settings:
        return Certificate((), ("a prediction: its parties begin from the state of the run that trained, so "
                                "it is not replayed",))  # fmt: skip
    experiment = stored_experiment(run)
    faults = [*_files(run, experiment, finished), *_seeded(run, experiment)]
    if faults:
        return Certificate(tuple(faults))
    if not experiment.kept.replayable:
        return Certificate((), _headers_only(experiment, finished))
    return _replayed(run, experiment, finished)


def _recording(run: RunFolder, finished: bool) -> Certificate:
    """Of a recording there is no protocol to replay; its digest is noted where its end is."""
    noted = status_of(run).basis.get("transcript_digest")
    if finished and noted != run.digest():
        return Certificate(("transcript digest is not the one in status.json",))
    faults = [fault for path in run.transcripts for fault in _of_transcript(path, run.settings, Kept())]
    told = "a recording of other code: payloads, both ends of every message and the digest were checked"
    return Certificate(tuple(faults), (told, "not replayed: there is no protocol that could be"))


def stored_experiment(run: RunFolder) -> Experiment:
    """The experiment of a stored run, without its keys."""
    (spec, how), said = run.spec(), run.settings
    try:
        return Experiment(
            scenario=find_scenario(said["scenario"]), spec=spec, split=how, config=run.config(),
            runtime=RuntimeName(said["runtime"]), record=Record(said["record"]), seed=said["seed"],
            preset=None if said["preset"] is None else Preset(said["preset"]), malicious=said["malicious"],
            corrupt=tuple(said["corrupted"]), attack=tuple(said["attacks"]), run_key=bytes(32),
            no_audit=bool(said.get("no_audit", False)), checkpoint_every=said.get("checkpoint_every", 0),
            record_full=tuple(said.get("record_full", ())),
            asked=said.get("options", {}),
            **{name: said["prior"][name] for name in ("period", "threshold", "known")},
        )  # fmt: skip
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{run.path / 'config.json'}: does not say what a run is made of") from None


def _files(run: RunFolder, experiment: Experiment, finished: bool) -> Iterator[str]:
    """What the files of a run say differently."""
    if finished:
        yield from manifest_faults(run)
    now = json.loads(json.dumps({**experiment.as_plain(), "parties": experiment.parties}))
    for key in run.settings:
        if now.get(key) != run.settings.get(key):
            yield f"config: {key} in config.json is not what follows from the rest of it"
    if finished and set(experiment.parties) != set(run.sources):
        yield "config: the parties of the transcripts are not those of config.json"
    for path in run.transcripts:
        yield from _of_transcript(path, now, experiment.kept)
    yield from _left_out(run, experiment, finished)
    if finished:
        for key, value in plain(stated(experiment, run)).items():
            if value != run.result.get(key):
                yield f"result: {key} in result.json is not what follows from config.json and the transcripts"
        if run.result["steps"] != experiment.steps:
            yield "result: steps in result.json is not what follows from config.json"


def _left_out(run: RunFolder, experiment: Experiment, finished: bool) -> Iterator[str]:
    """Owners left out that config.json, status.json and result.json do not say alike; of a run that was
    killed meanwhile, status.json may say one more.
    """
    dropped = getattr(experiment.config, "dropped", ())
    told = {(party_name(DATA_OWNER, each.owner), each.message) for each in dropped}
    said = {"status": status_of(run).dropped}
    if finished:
        said["result"] = tuple(run.result.get("dropped") or ())
    for name, rows in said.items():
        found = {(row.get("party"), row.get("message")) for row in rows}
        if found != told and (finished or not told <= found):
            yield f"{name}: the owners left out in {name}.json are not those of config.json"


def _of_transcript(path: Path, said: dict[str, Any], kept: Kept) -> Iterator[str]:
    """What a transcript says of the run, against config.json."""
    with closing(Transcript(path)) as transcript:
        for key in ("protocol", "record"):
            if transcript.meta(key) != said[key]:
                yield f"config: {path.name} names another {key} than config.json"
        if transcript.kept != kept:
            yield f"config: {path.name} keeps other payloads than those of config.json"
        try:
            config = json.loads(transcript.meta("config"))
        except (ValueError, RecursionError):
            config = None
        if config != said["config"]:
            yield f"config: {path.name} holds another configuration than config.json"


def _seeded(run: RunFolder, experiment: Experiment) -> Iterator[str]:
    """Parties of a seeded run whose first weights do not follow from the seed; of its other coins the data
    set has a part.
    """
    if experiment.seed is None:
        return
    key = run_key(experiment.seed)
    for party in run.sources:
        expected = digest(encode(np.frombuffer(drawn_from(derive(key, party)).weights, np.uint8)))
        with closing(run.view(party)) as view:
            if [row.sha256 for row in view.rows("weights", Kind.COINS)] != [expected]:
                yield f"coins: those of {party} do not follow from the seed in config.json"


def _headers_only(experiment: Experiment, finished: bool) -> tuple[str, ...]:
    checked = "both ends of every message, their digest, the configuration"
    more = ", commitments to inputs, coins, steps and order, and the figures that follow from headers"
    whole = experiment.record_full
    but, of = (f", and of {', '.join(whole)} every payload", "of the others ") if whole else ("", "")
    return (
        f"headers only{but}: checked {checked}{more if finished else ''}",
        f"not replayed, as no payloads {of}are recorded: that messages follow from inputs and coins, "
        "accuracy",
    )


def _replayed(run: RunFolder, experiment: Experiment, finished: bool) -> Certificate:
    """Carry the run out once more."""
    lacking = [party for party in experiment.parties if party not in run.sources]
    if lacking:
        return Certificate((), (f"not replayed: nothing of {lacking[0]} was recorded",))
    counts = experiment.counts
    instead = experiment.behaviour.INSTEAD if experiment.behaviour else {}
    found = replay(run.transcripts, experiment.protocol, experiment.config, counts, instead)
    stopped = [why for why in (found.ended, found.failed) if why]
    faults = [*found.faults, *(stopped if finished else [])]
    if faults:
        return Certificate((*faults, *_other_versions(run, finished)))
    told = [f"replayed: {found.messages} messages and all steps follow from coins, inputs and config"]
    if not finished:
        return Certificate((), (*told, *(f"to here: {why}" for why in stopped)))
    faults += _kept(run, experiment, found)
    wrong, ledger = _knowledge(run) if not faults else ([], "")
    faults += wrong
    wrong, line = _scored(run, experiment, found)
    never = _NEVER if experiment.scenario.scoring is None else f"{_NEVER}, {_OF_A_HEAD}"
    told += [line, *filter(None, [ledger])]
    return Certificate((*faults, *wrong), (*told, f"not computed again: {never}"))


def _other_versions(run: RunFolder, finished: bool) -> Iterator[str]:
    """Why floats may differ that nobody altered."""
    then = run.result["versions"] if finished else {}
    now = versions()
    other = [f"{name} {now.get(name)}, then {then[name]}" for name in then if now.get(name) != then[name]]
    if other:
        yield f"replayed with other versions than the run's, so floats may differ: {'; '.join(other)}"


def _kept(run: RunFolder, experiment: Experiment, found: Replay) -> Iterator[str]:
    """What a party is said to have kept for predictions, and did not."""
    for party, state in found.states.items():
        path, kept = run.path / "state" / party, experiment.protocol.kept(state)
        if path.is_file() and path.read_bytes() != (encode(kept).tobytes() if kept else b""):
            yield f"state: what {party} kept for predictions is not what the run left it with"


def _knowledge(run: RunFolder) -> tuple[list[str], str]:
    """Lines of who learned what that do not follow from the transcripts, and what was done; a run may have
    declined an audit, and its ledger may have failed, there or here.
    """
    rows = run.result["learned"]
    said = Counter(tuple(row[key] for key in _LINE) for row in rows)
    failed = any(row["quantity"] == FAILED for row in rows)
    try:
        lines = learned(run, Adversary)
        if failed:
            return (
                [],
                f"not compared: who learned what (the ledger failed in the run; here: {len(lines)} lines)",
            )
        if _told(lines) != said:
            audited = _told(held_against_audit(run, lines))
            for party, quantity, *_ in [*(audited - said), *(said - audited)][:1]:
                what = f"what {party} learned of {quantity}, in result.json, is not what its view gives"
                return [f"result: {what}"], ""
    except KeyholeError:
        raise
    except Exception as cause:  # a defect of the ledger, which says nothing against the folder
        where = "in the run, and here" if failed else "here"
        return [], f"not computed again: who learned what (the ledger failed {where}: {type(cause).__name__})"
    return [], f"computed again: who learned what ({len(rows)} lines)"


def _told(lines: Sequence[Learned]) -> Counter[tuple[Any, ...]]:
    return Counter(tuple(getattr(line, key) for key in _LINE) for line in lines)


def _scored(run: RunFolder, experiment: Experiment, found: Replay) -> tuple[list[str], str]:
    """The accuracy of what was revealed: what is wrong, and what was done."""
    why = _other_data(run, experiment)
    if why:
        return [], f"not computed again: accuracy ({why})"
    then = run.result["accuracy"]
    now = _accuracy(experiment, found)
    wrong = [f"result: accuracy, {name}, in result.json is not that of what was revealed"
             for name, value in now.items() if then.get(name) != value]  # fmt: skip
    return wrong, f"computed again: accuracy ({', '.join(now).replace('_', ' ')}), traffic, digest"


def _accuracy(experiment: Experiment, found: Replay) -> dict[str, Any]:
    """The keys of `accuracy` that follow from what was revealed."""
    if experiment.scenario.scoring is not None:
        told: float = experiment.scenario.scoring.decided(experiment, found.yielded)
        return {"test": told, "test_by_epoch": [told]}
    epochs = [Epoch(revealed, accuracy(experiment, revealed), 0.0) for revealed in found.yielded]
    whole: dict[str, Any] = plain(scored(experiment, epochs).accuracy)
    return {name: whole[name] for name in ("train", "test", "test_by_epoch")}


def _other_data(run: RunFolder, experiment: Experiment) -> str:
    """Why accuracy cannot be measured here; empty if it can: the owners' inputs are of the data set here."""
    try:
        for i in range(len(experiment.players(DATA_OWNER))):
            with closing(run.view(party_name(DATA_OWNER, i))) as view:
                held = {row.label: row.sha256 for row in view.rows(None, Kind.INPUT)}
            share = owned(experiment.spec, len(experiment.config.counts), experiment.split, i)
            if any(held.get(label) != digest(encode(array)) for label, array in share.items()):
                return "the data set here is not the one of the run"
    except KeyholeError as cause:
        return str(cause)
    return ""
