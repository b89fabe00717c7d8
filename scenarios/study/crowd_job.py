"""A training with many owners, for `bench_crowd.py` and `bench_fedsgd.py`: a process of its own, whose
start-up and memory are measured from outside. Nobody is asked what was learned, and no baseline is trained.

    python -m scenarios.study.crowd_job '{"owners": 1000, "dataset": "table.npz", "out": "run", ...}'

Takes the options of the run, and `scenario` (MITIG2, if it is not given). Prints one line of JSON: the time
at which each round had ended at every host.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from parties.record.log import open_log
from scenarios.run.catalogue import find_scenario
from scenarios.run.execute import Clock, train
from scenarios.run.experiment import prepare
from scenarios.run.folder import new_folder
from scenarios.run.hosts import runtime_named


def main(options: dict[str, Any]) -> None:
    """Carry out the run."""
    ends: list[float] = []

    def observe(event: str, value: int) -> None:
        if event == "step":
            ends.append(time.time())

    scenario = options.pop("scenario", "mitig2")
    run = new_folder(Path(options.pop("out")), scenario)
    experiment = prepare(find_scenario(scenario), options)
    with runtime_named(experiment.runtime, experiment.address) as make:
        train(experiment, run, make, Clock(), observe, open_log(run.path / "run.log"))
    print(json.dumps({"ends": ends}), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
