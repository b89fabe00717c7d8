"""The transcript digest of every protocol, switch and defence, as `digests.txt` has them: a change of one is
a decision.

A line is a digest and the options of `keyhole run`, to which `COMMON` is added. `python -m
tests.rules.test_digests` writes
the file anew; a commit that does so says why.
"""

import json
import shlex
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from scenarios.cli import app
from scenarios.run import execute

FILE = Path(__file__).with_name("digests.txt")
COMMON = {"--samples": "48", "--hidden": "8", "--batch": "16", "--epochs": "1", "--seed": "7"}
OWN = {
    "mitig1": COMMON | {"--samples": "16", "--hidden": "4", "--batch": "8"},  # pairings are slow
    "vertical-fe": {"--samples": "16", "--batch": "4", "--epochs": "2", "--seed": "7"},
    "he-train": {"--dataset": "iris", "--samples": "32", "--batch": "16", "--epochs": "1", "--seed": "7"},
    "reverse-he": {"--seed": "7", "--queries": "20", "--key-bits": "2048"},
}
LINES = [tuple(line.split(" ", 1)) for line in FILE.read_text(encoding="utf-8").splitlines()]
# Of each protocol but the plain one; between them labels, gradients and sums under encryption, and defences.
RAY = (
    "plain-fe --defence batch-keys --gradient fe --labels febo --owners 2",
    "mitig1 --owners 2 --authority owner --defence secure-aggregation",
    "vertical-fe --target 1 --owners 3",
    "vertical-fe --mode fedv --owners 2",
    "he-train",
    "reverse-he --release decision",
    "mitig2 --owners 4 --batch 4 --per-round 2 --rounds 5 --local-steps 2",
    "fedsgd --owners 3 --layers 8,6 --batch 4 --bias --defence secure-aggregation",
)


def carry_out(line: str, runtime: str, folder: Path) -> Path:
    """Run a line; what it gives stands instead of what is common. Returns the folder of the run."""
    scenario, *given = shlex.split(line)
    common = {name: value for name, value in OWN.get(scenario, COMMON).items() if name not in given}
    for name, other in (("--hidden", "--layers"), ("--epochs", "--rounds")):
        if other in given:
            common.pop(name, None)
    if scenario == "reverse-he":
        common["--base"] = str(base(folder))
    out = folder / "run"
    words = [
        *given,
        *(word for pair in common.items() for word in pair),
        "--runtime",
        runtime,
        "--json",
        "--no-audit",
    ]
    outcome = CliRunner().invoke(app, ["run", scenario, *words, "--out", str(out)])
    assert outcome.exit_code == 0, outcome.output
    return out


def digest_of(run: Path) -> str:
    """The transcript digest of a finished run."""
    found: str = json.loads((run / "result.json").read_text(encoding="utf-8"))["transcript_digest"]
    return found


def base(folder: Path) -> Path:
    """A public base of one layer that nobody trained."""
    path = folder / "base.pt"
    weight = (torch.arange(24 * 64, dtype=torch.float32).reshape(24, 64) * 0.7).sin() / 8
    torch.save({"0.weight": weight, "0.bias": torch.zeros(24)}, path)
    return path


@pytest.mark.parametrize(("expected", "line"), LINES, ids=[line for _, line in LINES])
def test_a_digest_is_what_it_was(expected, line, finished):
    assert digest_of(finished(line)) == expected


@pytest.mark.ray
@pytest.mark.parametrize("line", RAY)
def test_the_digest_is_the_same_on_ray(line, tmp_path, ray_session, monkeypatch):
    monkeypatch.setattr(execute, "_learned", lambda *_: [])  # what the adversary's process does
    assert digest_of(carry_out(line, "ray", tmp_path)) in [known for known, text in LINES if text == line]


def write() -> None:
    """Write the file anew."""
    lines = []
    for _, line in LINES:
        with tempfile.TemporaryDirectory() as scratch:
            lines.append(f"{digest_of(carry_out(line, 'inline', Path(scratch)))} {line}\n")
        print(lines[-1], end="", file=sys.stderr)
    FILE.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    write()
