"""A run of MITIG2 with owners by the million, for `bench_crowd.py`: a process of its own, whose start-up and
memory are measured from outside.

    python -m scenarios.study.crowd_job '{"owners": 1000, "dataset": "table.npz", "out": "run", ...}'

Takes the options of the run. Prints one line of JSON: the time at which each round had ended at every host.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from scenarios.run.catalogue import find_scenario
from scenarios.run.execute import execute
from scenarios.run.experiment import prepare


def main(options: dict[str, Any]) -> None:
    """Carry out the run."""
    ends: list[float] = []

    def observe(event: str, value: int) -> None:
        if event == "step":
            ends.append(time.time())

    out = Path(options.pop("out"))
    execute(replace(prepare(find_scenario("mitig2"), options), out=out), observe)
    print(json.dumps({"ends": ends}), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
