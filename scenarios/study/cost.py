"""What a run would cost, measured on a few real steps: the same protocol, runtime, network and images, a
small batch.

A step costs a part that every step has, such as its function keys, and a part for each sample of its batch;
so does an upload for each sample. Two batch sizes tell them apart. Where even a batch of 2 takes too long,
all seconds of a step count as the sample's, an upper end, and all its bytes as the step's. All is measured
with the first weights; where products grow in training, so do discrete logarithms, and the true cost is a
little higher. Of many owners one takes part in a step that is measured, and its cost counts for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from parties.adversary.attack import Learned
from protocols.language.options import derived
from protocols.network.schedule import chunks, round_count
from scenarios.run.experiment import Experiment
from scenarios.study.probe import (
    WARM_STEPS,
    Amounts,
    Measured,
    measure,
    rounded,
    sample_count,
    summed,
    trains_copies,
)

_LARGE_SECONDS = 30.0  # that the steps of the larger batch may take, as far as foreseen
_UPLOAD_SECONDS = 5.0  # that the larger upload may take
_LAST_RESORT_SECONDS = 80.0  # the same for a batch of 2


@dataclass(frozen=True)
class Line:
    """An amount that grows with a count: `fixed` + count * `each`."""

    fixed: Amounts
    each: Amounts


@dataclass(frozen=True)
class Cost:
    """What the parts of a run cost, from one or two measurements, the larger batch last."""

    measured: tuple[Measured, ...]
    clear: tuple[Learned, ...] = field(default=(), repr=False)

    @property
    def setup(self) -> Amounts:
        """Processes, keys, first weights."""
        return self.measured[-1].setup

    @property
    def upload(self) -> Line:
        """By sample."""
        return _line([(m.samples, m.upload) for m in self.measured], ("seconds", "bytes"))

    @property
    def step(self) -> Line:
        """Of one owner, by sample of its batch."""
        return _line([(m.batch, m.steps[-1]) for m in self.measured], ("seconds",))

    @property
    def warm_up_seconds(self) -> float:
        """What the first step takes longer than the next one, for tables that are made once."""
        return max(0.0, *(m.steps[0]["seconds"] - m.steps[-1]["seconds"] for m in self.measured))

    @property
    def average(self) -> Amounts:
        """Of one owner's copy in a round."""
        return self.measured[-1].average

    def as_plain(self, times: Counts) -> dict[str, Any]:
        """For a JSON file."""
        lines = {"upload": self.upload, "step": self.step}
        return {
            "measured": [m.as_plain() for m in self.measured],
            "counts": asdict(times),
            "setup": rounded(self.setup),
            "warm_up": {"seconds": round(self.warm_up_seconds, 6)},
            **{
                name: {"fixed": rounded(line.fixed), "each": rounded(line.each)}
                for name, line in lines.items()
            },
            "average": rounded(self.average),
        }


@dataclass(frozen=True)
class Counts:
    """how often each part of the whole run occurs"""

    uploads: int = derived("chunks of samples", least=0)
    samples: int = derived("samples uploaded", least=0)
    steps: int = derived("steps, those of each owner counted", least=0)
    rows: int = derived("samples in all of these steps", least=0)
    averages: int = derived("copies averaged", least=0)


def probe(experiment: Experiment, crude: Cost | None = None) -> Cost:
    """Measure a batch of 1, unless that is done, and a larger one as far as time allows."""
    first = crude or crude_probe(experiment)
    small, config = first.measured[0], experiment.config
    batch = _larger(small.steps[-1]["seconds"], min(config.batch, *config.counts))
    if batch == 1:
        return first
    uploaded = int(_UPLOAD_SECONDS * small.samples / small.upload["seconds"])
    samples = max(batch * experiment.owners, min(uploaded, sample_count(config)))
    return Cost((*first.measured, measure(experiment, batch, samples)[0]), first.clear)


def _larger(seconds: float, limit: int) -> int:
    """A batch of at most `limit` that can be measured in time, if one of 1 takes `seconds` a step."""
    affordable = int(_LARGE_SECONDS / (WARM_STEPS * seconds))
    last_resort = 2 if 2 * seconds <= _LAST_RESORT_SECONDS else 1
    return min(limit, max(affordable, last_resort))


def crude_probe(experiment: Experiment) -> Cost:
    """Measure a batch of 1 only: extrapolated from it, a larger batch costs rather too much."""
    measured, clear = measure(experiment, 1, experiment.owners)
    return Cost((measured,), clear)


def counts(experiment: Experiment) -> Counts:
    """How often each part of a run occurs."""
    config, protocol = experiment.config, experiment.scenario.protocol
    uploads = chunks(config, protocol.upload_rows(config)) if hasattr(protocol, "upload_rows") else 1
    copies, samples = trains_copies(experiment), sample_count(config)
    members = (config.per_round or len(config.counts)) if copies else 1
    steps = experiment.steps * members
    in_rounds = copies or getattr(config, "rounds", 0) > 0
    rows = steps * config.batch if in_rounds else config.epochs * samples
    return Counts(uploads, samples, steps, rows, round_count(config) * members if copies else 0)


def extrapolate(cost: Cost, experiment: Experiment) -> dict[str, Amounts]:
    """`setup` (with the upload) and `train` of the whole run."""
    times = counts(experiment)
    upload, step = cost.upload, cost.step
    return {
        "setup": summed(
            (cost.setup, 1),
            ({"seconds": cost.warm_up_seconds}, 1),
            (upload.fixed, times.uploads),
            (upload.each, times.samples),
        ),
        "train": summed((step.fixed, times.steps), (step.each, times.rows), (cost.average, times.averages)),
    }


def total_seconds(cost: Cost, experiment: Experiment) -> float:
    """Set-up, upload and training of the whole run."""
    return sum(amounts["seconds"] for amounts in extrapolate(cost, experiment).values())


def _line(points: Sequence[tuple[int, Amounts]], growing: tuple[str, ...]) -> Line:
    """Through the first point and the last; with one, `growing` amounts are proportional, others constant."""
    (small, low), (large, high) = points[0], points[-1]
    each, fixed = {}, {}
    for key, value in high.items():
        slope = (value - low.get(key, 0.0)) / (large - small) if large > small else 0.0
        if large == small and key.startswith(growing):
            slope = value / large
        each[key] = min(max(slope, 0.0), value / large)
        fixed[key] = value - each[key] * large
    return Line(fixed, each)
