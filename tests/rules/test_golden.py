"""Golden transcripts: what each protocol says, message by message, and the weights that it ends with.

After a change that is meant to alter them: `python -m tests.test_golden`, and look at the difference.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from parties.record.view import Kind, View
from protocols.network.config import Gradient, Labels, Scheme
from protocols.network.head_config import Release
from scenarios.run.execute import execute
from tests.conftest import TINY, small

FOLDER = Path(__file__).parents[1] / "golden"
CASES = {
    "plain": ("plain", {}),
    "plain_fe_lwe": ("plain_fe", {}),
    "plain_fe_ddh": ("plain_fe", {"scheme": Scheme.DDH}),
    "mitig1": ("mitig1", TINY),
    "mitig1_owners": ("mitig1", {**TINY, "owners": 2}),
    "mitig2": ("mitig2", {}),
    "mitig2_u_shaped_owners": (
        "mitig2",
        {"labels": Labels.OWNER, "owners": 3, "per_round": 2, "local_steps": 2, "epochs": 2},
    ),
    "reverse_he": ("reverse_he", {"release": Release.LOGITS, "head": "24-6-5"}),
    "plain_fe_febo_fe": ("plain_fe", {"labels": Labels.FEBO, "gradient": Gradient.FE}),
}


def summary(run):
    """Headers of every message; sums of integers that cross; the final weights to six digits."""
    view = View(tuple((path, name) for name, path in run.sources.items()))
    rows = [
        [r.phase, r.round, r.sender, r.receiver, r.label, r.dtype, list(r.shape), r.nbytes]
        for r in view.rows(None, Kind.SENT)
    ]
    integers = {label: [int(np.asarray(v, dtype=np.int64).sum()) for _, v in view.values(label, Kind.SENT)]
                for label in ("x", "labels", "w1") if label in view}  # fmt: skip
    integers["w1"] = integers.get("w1", [])[
        :1
    ]  # later ones follow from float32 sums, which differ between types of CPU
    revealed = [value["w1"] for _, value in view.values("accuracy", Kind.OUTPUT) if "w1" in value]
    w1 = revealed[-1] if revealed else np.empty(0)  # nobody reveals an encrypted head
    return {"messages": rows, "sums": integers, "weights": [float(f"{v:.6g}") for v in w1.ravel()[:40]]}


@pytest.mark.parametrize("name", CASES)
def test_a_run_says_what_the_golden_file_says(runs, name):
    scenario, options = CASES[name]
    expected, actual = (
        json.loads((FOLDER / f"{name}.json").read_text()),
        summary(runs(scenario, **options)[0]),
    )
    assert actual["messages"] == expected["messages"] and actual["sums"] == expected["sums"]
    assert np.allclose(actual["weights"], expected["weights"], rtol=1e-5, atol=1e-7)


def regenerate():
    import tempfile

    for name, (scenario, options) in CASES.items():
        with tempfile.TemporaryDirectory() as scratch:
            run, _ = execute(replace(small(scenario, **options), out=Path(scratch) / "run"))
            (FOLDER / f"{name}.json").write_text(json.dumps(summary(run), indent=None) + "\n")


if __name__ == "__main__":
    regenerate()
