"""What a run says at its end on a terminal: every figure is read from result.json."""

from __future__ import annotations

from typing import Any

from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from scenarios.runs import RunFolder


def show_result(console: Console, run: RunFolder, result: dict[str, Any]) -> None:
    """Print accuracy, time, traffic, who learned what, and what attacks rebuilt."""
    console.print(Text(headline(result), style="bold"), highlight=False)
    console.print(Padding(Group(figures(result), security_lines(result)), (0, 0, 0, 2)))
    if result["learned"]:
        console.print(Padding(learned_table(result["learned"]), (1, 0, 0, 2)))
    if result["attacks"]:
        console.print(Padding(attack_table(result["attacks"], protection(result)), (1, 0, 0, 2)))
    pictures = [row["figure"] for row in result["attacks"] if row.get("figure")]
    console.print(f"\n  {run.path}/   transcripts · result.json" + "".join(f" · {p}" for p in pictures), highlight=False,
                  soft_wrap=True)  # fmt: skip


def headline(result: dict[str, Any]) -> str:
    """Scenario, data, owners, scheme, runtime and seed in one line."""
    config = result["config"]
    owners = len(config["counts"])
    parts = [
        result["scenario"].replace("_", "-"),
        f"{config['name']} {sum(config['counts'])} samples",
        f"{owners} owner{'s' if owners > 1 else ''}",
        protection(result),
        "Ray" if config["runtime"] == "ray" else config["runtime"],
        "no seed" if result["seed"] is None else f"seed {result['seed']}",
    ]
    return " · ".join(parts)


def protection(result: dict[str, Any]) -> str:
    """The scheme and its level in two words, for a column."""
    line: str = result["security"].get("scheme", "none")
    return line.partition(":")[0].split(", selective")[0]


def figures(result: dict[str, Any]) -> Table:
    """Accuracy, time and traffic."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    accuracy, seconds = result["accuracy"], result["seconds"]
    nbytes = sum(edge["bytes"] for edge in result["traffic"])
    messages = sum(edge["messages"] for edge in result["traffic"])
    laps = " · ".join(
        f"{name} {seconds[name]:.1f} s" for name in ("setup", "train", "attack", "total") if name in seconds
    )
    table.add_row("accuracy", f"test {share(accuracy['test'])}   without protection {share(accuracy['baseline_test'])}   "
                              f"train {share(accuracy['train'])}")  # fmt: skip
    table.add_row("time", laps)
    table.add_row("traffic", f"{size(nbytes)} in {messages} messages")
    return table


def security_lines(result: dict[str, Any]) -> Table:
    """What the run's security rests on, a line each."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, line in result["security"].items():
        table.add_row(Text(f"security, {name}", style="dim"), Text(line, style="dim"))
    return table


# What the labels and quantities of result.json mean, in words.
MEANINGS = {
    "samples": "training images",
    "master key": "master secret key",
    "labels": "labels",
    "x": "training images",
    "w1": "W1, first-layer weights, every step",
    "dz1": "dZ1, errors at the first layer",
    "dw1": "dW1, first-layer gradient",
    "p": "P, the network's outputs",
}
_PRIVATE = ("samples", "labels", "master key", "x")


def learned_table(learned: list[dict[str, Any]]) -> Table:
    """Who learned what, since when; what was meant to stay private is red."""
    table = _table("who learned what (computed from each party's own view)",
                   "party", "quantity", "of", "how", "since step", "derivation")  # fmt: skip
    before = ""
    for item in learned:
        party, before = "" if item["party"] == before else item["party"], item["party"]
        since = "" if item["since_round"] is None else str(item["since_round"])
        exposed = item["how"] in ("exact", "clear") and item["quantity"] in _PRIVATE
        style = "red" if exposed else ""
        meaning = MEANINGS.get(item["quantity"], item["quantity"])
        table.add_row(party, meaning, item["of"], item["how"], since, item["detail"], style=style)
    return table


def attack_table(attacks: list[dict[str, Any]], security: str = "") -> Table:
    """What each attack rebuilt, beside its baselines and what was meant to prevent it."""
    table = _table("attacks on the stored view", "attack", "corrupted", "samples", "rebuilt", "since step", "guess", "swapped",
                   "projection", "seconds", *(["protection"] if security else []))  # fmt: skip
    for row in attacks:
        metrics, baseline = row["metrics"], row["baseline"]
        since = metrics.get("solved_at_step")
        table.add_row(
            row["attack"].replace("_", "-"), ", ".join(row["corrupted"]), str(row["samples"]),
            outcome(metrics) if row["applicable"] else f"not applicable: {row['why']}",
            "" if since is None else str(since),
            *(outcome(baseline[name]) if name in baseline else "" for name in ("guess", "swapped", "projection")),
            f"{row['seconds']:.1f}", *([security] if security else []),
        )  # fmt: skip
    table.caption = ("mse: mean squared error of pixels in [0, 1] · guess: the best without the view · swapped: the same output "
                     "scored against another sample · projection: least correction of a gray image")  # fmt: skip
    table.caption_justify = "left"
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def outcome(metrics: dict[str, Any]) -> str:
    """The metric that matters most, in a few characters."""
    if "labels_right" in metrics:
        return f"{metrics['labels_right']:.1%} of labels"
    if "exact_pixels" in metrics and metrics["exact_pixels"] > 0.5:
        return f"{metrics['exact_pixels']:.1%} of pixels exact"
    if "mse" in metrics:
        return f"mse {metrics['mse']:.4f}"
    return "nothing to score"


def share(value: float | None) -> str:
    """A share with three decimals, or a dash."""
    return "-" if value is None else f"{value:.3f}"


def size(nbytes: float) -> str:
    """Bytes in a readable unit."""
    for unit in ("B", "kB", "MB"):
        if nbytes < 1000:
            return f"{nbytes:.0f} {unit}" if unit == "B" else f"{nbytes:.1f} {unit}"
        nbytes /= 1000
    return f"{nbytes:.1f} GB"
