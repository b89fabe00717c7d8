"""Asking a trained network for the classes of new samples, under the confidentiality of the protocol that
trained it.
"""

from __future__ import annotations

import csv
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import Learned
from parties.data.datasets import DataSpec, load
from parties.data.shares import queried
from parties.data.tables import SUFFIXES as TABLES
from parties.record.kept import Kept
from parties.registry import find_protocol
from parties.runtime.host import HostSpec
from protocols.language.errors import ConfigError, DataError
from protocols.language.protocol import ProtocolFile
from protocols.language.roles import CLOUD_TRAINER, DATA_OWNER, party_name
from protocols.language.session import Session, opened
from scenarios.run.folder import RunFolder, new_folder, private_file, private_folder, write_json
from scenarios.run.hosts import Runtimes, host_spec, runtime_named
from scenarios.run.json_schema import plain
from scenarios.run.learned import learned, learned_rows
from scenarios.run.report import traffic
from scenarios.run.result import Prediction
from scenarios.run.status import incomplete


@dataclass(frozen=True)
class Query:
    """A stored run, and the samples asked about: of its own data set, or of one with the same pixels."""

    run: RunFolder
    spec: DataSpec
    limit: int | None
    runtime: str
    out: Path | None
    kept: Kept = Kept()

    @property
    def protocol(self) -> ProtocolFile:
        """The protocol that trained the network."""
        return find_protocol(self.run.settings["protocol"])

    @property
    def config(self) -> Any:
        """The configuration of the training."""
        return self.run.config()


def query(
    run: RunFolder, name: str | None, data_dir: Path | None, limit: int | None, runtime: str, out: Path | None
) -> Query:
    """Check what can be checked beforehand; raises `ConfigError` or `DataError` with one line."""
    if run.recorded:
        raise ConfigError(f"{run.path}: a recording of other code, which cannot be asked")
    if not (run.path / "state").is_dir():
        raise DataError(f"{run.path}: holds no state/; {incomplete(run) or 'the run did not finish'}")
    protocol, config = find_protocol(run.settings["protocol"]), run.config()
    if not protocol.PREDICT:
        within = "asks within its run, and nobody keeps a key: use keyhole run --queries N"
        why = within if hasattr(config, "queries") else "cannot be asked: it has no PREDICT and no predict"
        raise ConfigError(f"{protocol.NAME.replace('_', '-')} {why}")
    for role in protocol.roles(config):
        if role is not DATA_OWNER and not (run.path / "state" / role.value).is_file():
            raise DataError(f"{run.path / 'state' / role.value}: missing; nothing can be predicted")
    spec = run.spec()[0]
    folder = None if data_dir is None else str(data_dir)
    target = spec.class_column if (name or spec.name).endswith(TABLES) else None
    named = replace(spec, name=name or spec.name, data_dir=folder, class_column=target).resolved()
    if named.name not in (spec.name, spec.resolved().name):
        spec = replace(named, samples=None, whole=True)  # all of another file is asked about
    elif data_dir is not None:
        spec = named
    data = load(spec)
    if data.x_train.shape[1] != config.features or data.x_max != config.x_max:
        raise ConfigError(
            f"the run was trained on {config.features} pixels of 0 to {config.x_max}, "
            f"{spec.name} has {data.x_train.shape[1]} of 0 to {data.x_max}"
        )
    trained = bool(run.spec()[0].levels)
    if trained != bool(data.low):
        raise ConfigError(f"the run was trained on {_kind(trained)}, {spec.name} holds {_kind(not trained)}")
    if getattr(config, "first", "") and data.shape != config.shape:
        raise ConfigError(
            f"the run convolves images of shape {config.shape}, those of {spec.name} are {data.shape}"
        )
    return Query(run, spec, limit, runtime, out)


def _kind(table: bool) -> str:
    return "a table" if table else "images"


def predict(asked: Query) -> tuple[RunFolder, dict[str, Any]]:
    """Ask, and write transcripts, predictions.csv and prediction.json; returns their folder and the last."""
    x, y = queried(asked.spec, asked.limit)
    folder = _folder(asked)
    protocol = asked.protocol
    parties = [party_name(role) for role in protocol.roles(asked.config)]
    public = {
        **asked.run.settings,
        "parties": parties,
        "asked": {"samples": len(x), "dataset": asked.spec.name},
        "seed": None,
    }
    write_json(folder.path / "config.json", public)
    with runtime_named(asked.runtime, None) as make:
        classes, seconds = _classes(asked, protocol, folder, make, len(x))
        saw = learned_rows(_seen(asked.run, folder, make))
    right = float(np.mean(classes == y))
    _write_csv(folder.path / "predictions.csv", classes, y)
    edges, by_party = traffic(folder)
    result = plain(
        Prediction(
            protocol=protocol.NAME,
            trained=str(asked.run.path),
            dataset=asked.spec.name,
            samples=len(x),
            accuracy=right,
            seconds=round(seconds, 3),
            transcript_digest=folder.digest(),
            traffic=edges,
            parties=by_party,
            learned=saw,
        )
    )
    write_json(folder.path / "prediction.json", result)
    return folder, result


def _seen(trained: RunFolder, folder: RunFolder, make: Runtimes) -> list[Learned]:
    """What crossed in the clear, and what the cloud knows of the samples with its view of the training."""
    clear = [item for item in learned(folder, make.adversary) if item.quantity != "samples"]
    cloud = (CLOUD_TRAINER.value,)
    adversary = make.adversary(trained.view_sources(cloud))
    try:
        return [*adversary.call("queried", folder.view_sources(cloud)), *clear]
    finally:
        adversary.close()


def _classes(
    asked: Query, protocol: ProtocolFile, folder: RunFolder, make: Runtimes, count: int
) -> tuple[NDArray[Any], float]:
    """What was told, and seconds from the first message to the last answer; processes run by then."""
    runtime = make.hosts(_host_specs(asked, folder), lambda phase, number: None)
    try:
        started = time.perf_counter()
        session = Session(
            runtime, protocol.PREDICT, dict.fromkeys(protocol.roles(asked.config), 1), asked.config
        )
        told = [np.asarray(opened(part)) for part in protocol.predict(session, asked.config, count)]
        seconds = time.perf_counter() - started
        runtime.finish()
    except BaseException:
        runtime.abort()
        raise
    return np.concatenate(told), seconds


def _host_specs(asked: Query, folder: RunFolder) -> list[HostSpec]:
    """One host a role, with fresh coins: the masks of a seeded training must not be used twice."""
    key, specs = os.urandom(32), []
    for role in asked.protocol.roles(asked.config):
        owner = role is DATA_OWNER
        specs.append(
            replace(
                host_spec(folder, role, role.value, (party_name(role),), key, asked),
                data=asked.spec if owner else None,
                owners=int(owner),
                restored=str((asked.run.path / "state").resolve()),
                asking=True,
                limit=asked.limit,
            )
        )
    return specs


def _folder(asked: Query) -> RunFolder:
    if asked.out is not None:
        return new_folder(asked.out, "prediction")
    predictions = private_folder(asked.run.path / "predictions")
    number = len(list(predictions.iterdir()))
    while (predictions / str(number)).exists():
        number += 1
    return new_folder(predictions / str(number), "prediction")


def _write_csv(path: Path, classes: NDArray[Any], labels: NDArray[Any]) -> None:
    with private_file(path) as file:
        writer = csv.writer(file)
        writer.writerow(("sample", "predicted", "label"))
        writer.writerows(zip(range(len(classes)), classes.tolist(), labels.tolist(), strict=True))
