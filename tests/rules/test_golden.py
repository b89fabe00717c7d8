"""Golden transcripts: what each protocol says, a message a line, and some of the weights that it ends with.

After a change that is meant to alter them: `python -m tests.rules.test_golden`, and look at the difference.
"""

import shlex
import tempfile
from pathlib import Path

import numpy as np
import pytest

from parties.record.view import Kind
from scenarios.run.catalogue import PROTOCOLS
from scenarios.run.folder import load_run
from tests.rules.test_digests import LINES, carry_out

FOLDER = Path(__file__).with_name("golden")
NAMES = {
    "plain": "plain",
    "plain-fe": "plain_fe_lwe",
    "plain-fe --scheme ddh": "plain_fe_ddh",
    "plain-fe --labels febo --gradient fe --scheme ddh": "plain_fe_febo_fe",
    "mitig1": "mitig1",
    "mitig1 --owners 2 --local-steps 2": "mitig1_owners",
    "mitig2": "mitig2",
    "mitig2 --owners 4 --batch 4 --labels owner --defence secure-aggregation": "mitig2_secure",
    "mitig2 --owners 4 --batch 4 --epochs 2 --dropout 0.1 --late 0.15 --labels owner "
    "--defence secure-aggregation": "mitig2_leaving",
    "fedsgd": "fedsgd",
    "fedsgd --owners 3 --layers 8,6 --batch 4 --bias --defence secure-aggregation": "fedsgd_secure",
    "vertical-fe --target 1 --owners 3": "vertical_fe",
    "vertical-fe --mode fedv --owners 2": "vertical_fe_fedv",
    "he-train": "he_train",
    "reverse-he --release logits --head 24-6-5": "reverse_he",
}


def said(run):
    """A line for each message: round, route, label, type, shape, bytes; then what two parties sum up alike
    on any CPU.
    """
    lines, phase = [], None
    view = run.view(*run.sources)
    for r in view.rows(None, Kind.SENT):
        if r.phase != phase:
            phase = r.phase
            lines.append(phase)
        shape = "x".join(map(str, r.shape)) or "-"
        lines.append(f"  {r.round:>3}  {r.sender} -> {r.receiver}  {r.label}  {r.dtype} {shape}  {r.nbytes}")
    for label in ("x", "labels", "w1"):
        sums = [int(np.asarray(v, np.int64).sum()) for _, v in view.values(label, Kind.SENT)][
            : None if label != "w1" else 1
        ]
        lines += [f"sum of {label}: {' '.join(map(str, sums))}"] if sums else []
    return lines


def weights(run):
    """The first numbers of the W1 that is revealed at the end, if one is."""
    found = [v["w1"] for _, v in run.view(*run.sources).values("accuracy", Kind.OUTPUT) if "w1" in v]
    return found[-1].ravel()[:40] if found else np.empty(0)


def read(name):
    """(lines, weights) of a golden file."""
    *lines, last = (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return lines, np.array([float(v) for v in last.split()[1:]])


@pytest.mark.parametrize("line", NAMES)
def test_a_run_says_what_the_golden_file_says(line, finished):
    run, (lines, expected) = load_run(finished(line)), read(NAMES[line])
    assert said(run) == lines
    assert np.allclose(
        weights(run), expected, rtol=1e-5, atol=1e-7
    )  # float32 sums differ between types of CPU


def test_every_protocol_has_a_golden_file():
    assert {shlex.split(line)[0].replace("-", "_") for line in NAMES} == set(PROTOCOLS)
    assert set(NAMES) <= {line for _, line in LINES}
    assert {path.stem for path in FOLDER.glob("*")} == set(NAMES.values())


def write():
    FOLDER.mkdir(exist_ok=True)
    for line, name in NAMES.items():
        with tempfile.TemporaryDirectory() as scratch:
            run = load_run(carry_out(line, "inline", Path(scratch)))
            last = " ".join(["weights", *(f"{v:.6g}" for v in weights(run))])
            (FOLDER / f"{name}.txt").write_text("\n".join([*said(run), last]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write()
