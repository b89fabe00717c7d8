"""Zero lines that are really run: the same protocol and the same attack where the secrets are others.

* `swapped`: every sample stands in another's place. What the attack rebuilds is scored against the samples
  of the run that was asked about, so it can be no better than the prior unless the score flatters.
* `ideal`: a view that a simulator makes from the allowed outputs alone: the public configuration, the labels
  if they cross in the clear, and images that it draws itself from held-out ones. What an attack finds in it,
  it did not find in the samples.

Coins and first weights are drawn anew; everything runs in this process, in a folder that is removed.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from parties.adversary.adversary import Adversary
from parties.adversary.attack import Prior, Quantity
from parties.record.log import open_log
from protocols.crypto.coins import derive
from protocols.language.errors import ConfigError
from protocols.network.config import Labels
from scenarios.run.attacks import Scorer
from scenarios.run.catalogue import find_scenario
from scenarios.run.execute import Clock, train
from scenarios.run.experiment import Experiment, seed_bytes
from scenarios.run.folder import RunFolder, private_folder, write_json
from scenarios.run.hosts import runtime_named
from scenarios.run.options import RuntimeName
from scenarios.run.status import incomplete

CONTROLS = ("swapped", "ideal")
_SEED = 0
_SAME_SET = "images in no order: the samples in other places are the same set"


def with_controls(run: RunFolder, rows: list[dict[str, Any]], prior: Prior) -> list[dict[str, Any]]:
    """Add `controls` to each applicable row: what the same attack scores on runs with other secrets."""
    if incomplete(run):
        raise ConfigError("--controls repeats a whole run, and this one is incomplete")
    scorer, applicable = Scorer(run, prior), [row for row in rows if row["applicable"]]
    found: list[dict[str, Any]] = [{} for _ in applicable]
    for control in CONTROLS if applicable else ():
        with tempfile.TemporaryDirectory(prefix="keyhole-") as scratch:
            again = rerun(run, control, Path(scratch))
            for row, scores in zip(applicable, found, strict=True):
                scores[control] = _attacked(again, control, row, prior, scorer)
    scored = iter(found)
    return [row | ({"controls": next(scored)} if row["applicable"] else {}) for row in rows]


def rerun(run: RunFolder, control: str, folder: Path) -> RunFolder:
    """Carry out a run again with other samples; `folder` is empty."""
    if find_scenario(run.settings["scenario"]).scoring is not None:
        raise ConfigError(
            "--controls repeats training under encryption; of an encrypted head, the matrix has the null"
        )
    experiment = repeated(run, control)
    private_folder(folder / "transcripts")
    again = RunFolder(folder)
    write_json(folder / "config.json", {**experiment.as_plain(), "parties": run.settings.get("parties", [])})
    with runtime_named("inline", None) as make:
        train(experiment, again, make, Clock(), lambda event, value: None, open_log(folder / "run.log"))
    return again


def repeated(run: RunFolder, control: str) -> Experiment:
    """The experiment of a run with a control instead of its samples."""
    (spec, how), config, stated = run.spec(), run.config(), run.settings["prior"]
    return Experiment(
        scenario=find_scenario(run.settings["scenario"]),
        spec=replace(spec, control=_stand_in(control, config)),
        split=how,
        config=config,
        runtime=RuntimeName.INLINE,
        period=stated["period"],
        threshold=stated["threshold"],
        malicious=run.settings.get("malicious"),
        run_key=derive(seed_bytes(_SEED), "control", control),
    )


def _stand_in(control: str, config: Any) -> str:
    if control == "swapped":
        return "swapped"
    return "drawn" if getattr(config, "labels", Labels.CLEAR) is not Labels.CLEAR else "relabelled"


def _attacked(
    run: RunFolder, control: str, row: dict[str, Any], prior: Prior, scorer: Scorer
) -> dict[str, Any]:
    adversary = Adversary(run.view_sources(tuple(row["corrupted"])))
    try:
        found = adversary.attack(row["attack"], prior, _SEED)
        rebuilt = found.reconstruction
        if control == "swapped" and rebuilt is not None and rebuilt.quantity is Quantity.UNORDERED_IMAGES:
            found = replace(found, reconstruction=None, why=_SAME_SET)
        return scorer.control(found)
    finally:
        adversary.close()
