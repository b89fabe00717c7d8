"""Run folders: where a run writes, and how it is opened again.

from scenarios import load_run
run = load_run("runs/...")
run.view("cloud_trainer")["sk_w1"]          what that party saw, payload by payload
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np

from parties.adversary.attack import Known, Prior
from parties.data.datasets import DataSpec, Split, load
from parties.data.shares import owned
from parties.record.transcript import Transcript
from parties.record.verify import parties_in, transcript_digest, verify
from parties.record.view import Kind, Row, View
from parties.registry import RECORDED, find_protocol, read_config, reopen
from protocols.language.errors import ConfigError, DataError
from protocols.language.message import digest, encode
from protocols.language.roles import DATA_OWNER, index_of, party_name, role_of
from scenarios.run.fits import fault
from scenarios.run.json_schema import object_of
from scenarios.run.result import Result
from scenarios.score.metrics import Truth

_IN_ROUNDS = (  # where nothing is said in the steps of a round, its averages
    "SELECT round, seq FROM rows WHERE phase IN ('step', 'query') AND seq >= 0",
    "SELECT round, seq FROM rows WHERE phase = 'average' AND seq >= 0",
)
_END = (1 << 63) - 1
PUBLIC = 1000  # held-out images that an adversary is given
_LARGEST_JSON = 1 << 26  # bytes
_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # in which Ray tells a job what it was submitted with
_KNOWN_SEED = 0  # which samples an adversary knows beforehand


def joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The weights of one network out of what each party that holds some revealed, the lowest layers first."""
    whole: dict[str, Any] = {"weights": [], "biases": []}
    for part in parts:
        whole |= {"w1": part["w1"]} if "w1" in part else {}
        for name in ("weights", "biases"):
            whole[name] += part.get(name, [])
    return whole


@dataclass(frozen=True)
class RunFolder:
    """A run on disk: `config.json`, `result.json`, `transcripts/`, `figures/`, `run.log`."""

    path: Path

    @property
    def transcripts(self) -> list[Path]:
        """The transcript files, one for each host."""
        return sorted((self.path / "transcripts").glob("*.sqlite"))

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What config.json says; `DataError` if it does not say what is read of it."""
        return read_json(self.path / "config.json", _SETTINGS)

    @cached_property
    def result(self) -> dict[str, Any]:
        """What result.json says; `DataError` if the run did not get so far, or it does not fit."""
        if self.recorded:
            raise DataError(
                f"{self.path}: a recording has no result.json; keyhole learned, attack, check read its views"
            )
        return read_json(self.path / "result.json", object_of(Result))

    @property
    def recorded(self) -> bool:
        """Whether it is a recording of code that is not written in the language."""
        return bool(self.settings["protocol"] == RECORDED)

    @cached_property
    def sources(self) -> dict[str, str]:
        """Which transcript holds which party's view."""
        found = {party: str(path) for path in self.transcripts for party in parties_in(path)}
        if not found:
            raise DataError(f"{self.path}: holds no transcripts")
        return dict(sorted(found.items(), key=lambda item: (item[0].partition(":")[0], index_of(item[0]))))

    def moments(self) -> list[tuple[int, int]]:
        """(round, number of the last message before the next one) of every round, in order of time.

        The schedule of a run is public; nothing where messages are in no rounds.
        """
        begun = next(filter(None, map(self._begun, _IN_ROUNDS)), {})
        starts = sorted((seq, number) for number, seq in begun.items())
        ends = [*(seq - 1 for seq, _ in starts[1:]), *([_END] if starts else [])]
        return [(number, end) for (_, number), end in zip(starts, ends, strict=True)]

    def _begun(self, statement: str) -> dict[int, int]:
        """The first message of each round that a query finds."""
        begun: dict[int, int] = {}
        for path in self.transcripts:
            transcript = Transcript(path)
            for number, seq in transcript.query(statement):
                begun[number] = min(seq, begun.get(number, seq))
            transcript.close()
        return begun

    def view(self, *parties: str) -> View:
        """The view of a party, or the joint view of several; `ConfigError` for a party that took no part."""
        return View(self.view_sources(parties))

    def view_sources(self, parties: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
        """(path, party) of each party; a role that many parties play stands for its first."""
        return tuple((self.sources[name], name) for name in (self._resolve(party) for party in parties))

    def _resolve(self, party: str) -> str:
        name = party.replace("-", "_")
        for candidate in (name, f"{name}:0"):
            if candidate in self.sources:
                return candidate
        missing = [party for party in (name, f"{name}:0") if party in self.settings.get("parties", ())]
        if missing:
            raise DataError(f"{self.path}: the transcript of {missing[0]} is missing")
        known = list(self.sources)
        listed = ", ".join(known[:6]) + (f" and {len(known) - 6} more" if len(known) > 6 else "")
        raise ConfigError(f"no party {party!r} took part in this run; parties: {listed}")

    def digest(self) -> str:
        """The transcript digest, computed anew."""
        return transcript_digest(self.transcripts)

    def faults(self, complete: bool = True) -> list[str]:
        """What does not fit: altered payloads, ends that disagree, a changed digest, a missing party; of a
        run that is not `complete`, what did not come to an end is no fault.
        """
        faults = list(verify(self.transcripts, complete, self._refused()))
        if not complete:
            return faults
        missing = [party for party in self.settings.get("parties", []) if party not in self.sources]
        faults += [f"{party}: transcript missing" for party in missing]
        stored = self.result.get("transcript_digest") if (self.path / "result.json").exists() else None
        if stored is not None and stored != self.digest():
            faults.append(f"transcript digest is {self.digest()[:16]}..., result.json says {stored[:16]}...")
        return faults

    def _refused(self) -> frozenset[int]:
        """The messages for which owners were left out."""
        dropped = self.settings.get("config", {}).get("dropped") or ()
        return frozenset(int(each.get("message", -1)) for each in dropped if isinstance(each, dict))

    def config(self) -> Any:
        """The protocol's configuration: of its own class of options."""
        return read_config(self.settings.get("protocol", ""), self.settings["config"])

    def spec(self) -> tuple[DataSpec, Split]:
        """Which data the owners read."""
        if self.recorded:
            raise DataError(
                f"{self.path}: a recording of other code: no data set is known, and nothing to run"
            )
        try:
            data = dict(self.settings["data"])
            how = Split(data.pop("split"))
            return DataSpec(**data), how
        except (KeyError, TypeError, ValueError):
            raise DataError(f"{self.path / 'config.json'}: names no data set") from None

    def prior(
        self, period: int | None = None, threshold: int | None = None, known: int | None = None
    ) -> Prior:
        """The adversary's prior: pixel range, shape, the held-out images as public ones, and `known` samples
        of the training.

        The smoothness threshold is stated in 255ths of the pixel range, as in the paper, and scaled to this
        data set's.
        """
        if self.recorded:
            return self._prior_of_recording(period, threshold, known)
        data, stated = load(self.spec()[0]), self.settings["prior"]
        public = None if data.x_test is None else data.x_test[:PUBLIC].astype(np.float64) / data.x_max
        labels = None if data.y_test is None else data.y_test[:PUBLIC]
        steps = (stated["threshold"] if threshold is None else threshold) * data.x_max / 255
        count = stated.get("known", 0) if known is None else known
        return Prior(
            data.x_max,
            data.shape,
            public,
            period or stated["period"],
            steps,
            self._known(count),
            public_labels=labels,
        )

    def _known(self, count: int) -> Known | None:
        """The samples that an adversary with `count` known ones is given: drawn once, by no secret."""
        if not count:
            return None
        truth = self.truth()
        images = truth.images
        if not 0 < count < len(images):
            raise ConfigError(
                f"--known: expected 1 to {len(images) - 1} of {len(images)} samples, got {count}"
            )
        index = np.sort(np.random.default_rng(_KNOWN_SEED).permutation(len(images))[:count])
        return Known(index, images[index].astype(np.int64), truth.labels[index])

    def final_weights(self) -> dict[str, Any]:
        """The weights revealed last, joined from the parties that hold them: `w1`, `weights`, `biases`."""
        revealed = [
            pair for party in self.sources for pair in self.view(party).values("accuracy", Kind.OUTPUT)
        ]
        last = max(row.round for row, _ in revealed)
        parts = [
            value
            for _, value in sorted((p for p in revealed if p[0].round == last), key=lambda pair: pair[0].seq)
        ]
        return joined(parts)

    def truth(self) -> Truth:
        """The owners' samples, for the scorer only, in the order in which a view of all owners numbers them.

        From the owners' input rows; with headers only, from the data set, if its digest is the recorded one.
        """
        if self.recorded:
            return self._truth_of_recording()
        spec, how = self.spec()
        data, owners = load(spec), len(self.config().counts)
        held: dict[str, list[Any]] = {"images": [], "labels": []}
        recorded = self._recorded(spec, how, owners)
        took_part = find_protocol(self.settings["protocol"]).taking_part(self.config())
        for i in range(owners):
            party = party_name(DATA_OWNER, i)
            mine = recorded.get(party, {}) if i < took_part else None
            for label, expected in owned(spec, owners, how, i).items():
                if mine is not None and label not in mine:
                    raise DataError(f"{party}: its transcript holds no {label}")
                if label in held:
                    held[label].append(expected if mine is None else mine[label])
        whose = np.repeat(np.arange(owners), [len(part) for part in held["images"]])
        images = np.concatenate(held["images"], axis=1 if how is Split.COLUMNS else 0)
        return Truth(images, np.concatenate(held["labels"]), data.x_max, data.shape, whose[: len(images)])

    @property
    def scored(self) -> bool:
        """Whether attacks can be scored: a recording need not have been given the truth."""
        return not self.recorded or bool(self._given())

    def _prior_of_recording(self, period: int | None, threshold: int | None, known: int | None) -> Prior:
        """What its author said of pixels and images; no public ones."""
        config, stated = self.config(), self.settings["prior"]
        steps = (stated["threshold"] if threshold is None else threshold) * config.x_max / 255
        count = stated.get("known", 0) if known is None else known
        shape = config.shape or (1, config.features)
        return Prior(config.x_max, shape, None, period or stated["period"], steps, self._known(count))

    def _truth_of_recording(self) -> Truth:
        config, given = self.config(), self._given()
        owners = [party_name(DATA_OWNER, i) for i in range(len(config.counts))]
        lacking = [name for name in owners if {"images", "labels"} - given.get(name, {}).keys()]
        if lacking or not owners:
            lack = f" of {lacking[0]}" if lacking and given else ""
            raise DataError(
                f"{self.path}: the recording was not given the truth{lack}: nothing can be scored"
            )
        images, labels = ([given[name][what] for name in owners] for what in ("images", "labels"))
        for name, x, y, count in zip(owners, images, labels, config.counts, strict=True):
            if x.shape != (count, config.features) or y.shape != (count,):
                raise DataError(f"{self.path}: the truth of {name} does not fit config.json")
        shape = config.shape or (1, config.features)
        whose = np.repeat(np.arange(len(owners)), config.counts)
        return Truth(np.concatenate(images), np.concatenate(labels), config.x_max, shape, whose)

    def _given(self) -> dict[str, dict[str, Any]]:
        """The truth that a recording was given: the inputs of its owners."""
        found: dict[str, dict[str, Any]] = {}
        for path in self.transcripts:
            with closing(Transcript(path)) as listed, closing(Transcript(path)) as payloads:
                for row in listed.rows("kind = 'input' ORDER BY id"):
                    if row.label in ("images", "labels"):
                        found.setdefault(row.party, {})[row.label] = np.asarray(payloads.value(row))
        return found

    def _recorded(self, spec: DataSpec, how: Split, owners: int) -> dict[str, dict[str, Any]]:
        """The inputs of the owners that took part."""
        found: dict[str, dict[str, Any]] = {}
        for path in self.transcripts:
            with closing(Transcript(path)) as listed, closing(Transcript(path)) as payloads:
                for row in listed.rows("kind = 'input' ORDER BY id"):
                    if role_of(row.party) is DATA_OWNER and row.label in ("images", "labels", "features"):
                        value = (
                            payloads.value(row)
                            if payloads.kept_of(row)
                            else _expected(row, spec, how, owners)
                        )
                        found.setdefault(row.party, {})[row.label] = value
        return found


def load_run(path: str | os.PathLike[str]) -> RunFolder:
    """Open a run folder; `DataError` if it is none."""
    folder = RunFolder(Path(path))
    if not folder.path.is_dir():
        raise DataError(f"{path}: no such run folder")
    if not (folder.path / "config.json").exists() or not (folder.path / "transcripts").is_dir():
        raise DataError(f"{path}: not a run folder (no config.json and transcripts)")
    file = folder.settings.get("file")
    if file is not None:  # the protocol is a file of the user's
        reopen(file["path"], file["sha256"])
    return folder


def new_folder(out: Path | None, name: str) -> RunFolder:
    """Make a run folder: `out` itself, or runs/<time>-<scenario>."""
    path = private_folder(free_path(out, name))
    for part in ("transcripts", "figures"):
        private_folder(path / part)
    return RunFolder(path)


def private_folder(path: Path) -> Path:
    """Make a folder, or take one that is there; only its owner may enter, whatever the umask is."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.chmod(0o700)
    except OSError as cause:
        raise DataError(f"{path}: cannot be made: {cause.strerror}") from None
    return path


@contextmanager
def private_file(path: Path, binary: bool = False) -> Iterator[IO[Any]]:
    """A new file that only its owner may read; in its place once it is complete: nobody sees half of it."""
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)  # of a run that was killed; or somebody's link to another place
    descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    os.fchmod(descriptor, 0o600)
    raw = os.fdopen(descriptor, "wb")
    with raw if binary else io.TextIOWrapper(raw, encoding="utf-8", newline="") as file:
        yield file
    part.replace(path)


def free_path(out: Path | None, name: str) -> Path:
    """Where to write: `out`, where nothing may be (`DataError`), or runs/<time>-<name>; `ConfigError` where
    it would not be kept.
    """
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    path = out or Path("runs") / f"{stamp}-{name}"
    for attempt in range(2, 100):
        if out is not None or not path.exists():
            break
        path = Path("runs") / f"{stamp}-{name}-{attempt}"
    if Path.cwd() in path.resolve().parents and _in_a_copy():
        raise ConfigError(
            f"{path}: this job runs in a copy of its working folder, which Ray deletes; give --out, absolute"
        )
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise DataError(f"{path}: exists and is not empty; give another --out")
    return path


def _in_a_copy() -> bool:
    """Whether this is a job of Ray's that was submitted with a working folder, of which it got a copy."""
    try:
        job = json.loads(os.environ.get(_JOB, "{}"))
    except ValueError:
        return False
    return isinstance(job, dict) and "working_dir" in (job.get("runtime_env") or {})


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file; a seed that is noted in it gives every key of the run."""
    with private_file(path) as file:
        file.write(json.dumps(content, indent=1, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file of text."""
    with private_file(path) as file:
        file.write(text)


def _expected(row: Row, spec: DataSpec, how: Split, owners: int) -> Any:
    """An input from the data set, if it is the recorded one."""
    expected = owned(spec, owners, how, index_of(row.party)).get(row.label)
    if expected is None or digest(encode(np.ascontiguousarray(expected))) != row.sha256:
        raise DataError(f"{row.party}: the data set is not the one that the run used (its digest differs)")
    return expected


_TEXT, _OBJECT = {"type": "string"}, {"type": "object"}
_NAMES = {"type": "array", "items": _TEXT}
_LIMIT = {"type": "integer", "minimum": 0, "maximum": 1 << 31}
_SETTINGS = {
    "type": "object",
    "required": ["scenario", "protocol", "data", "config", "prior"],
    "properties": {
        "scenario": _TEXT,
        "protocol": _TEXT,
        "file": {
            "type": ["object", "null"],
            "required": ["path", "sha256"],
            "properties": {"path": _TEXT, "sha256": _TEXT},
        },
        "data": _OBJECT,
        "config": _OBJECT,
        "parties": _NAMES,
        "corrupted": _NAMES,
        "prior": {
            "type": "object",
            "required": ["period", "threshold"],
            "properties": {"period": _LIMIT | {"minimum": 1}, "threshold": _LIMIT, "known": _LIMIT},
        },
    },
}


def read_json(path: Path, schema: dict[str, Any]) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(f"{path}: missing")
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(_LARGEST_JSON), parse_constant=_no_number)
    except (ValueError, RecursionError, OSError):
        raise DataError(f"{path}: cannot be read as JSON") from None
    wrong = fault(content, schema)
    if wrong or not isinstance(content, dict):
        raise DataError(f"{path}: {wrong}")
    return content


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
