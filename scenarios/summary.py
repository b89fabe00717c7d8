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
        console.print(Padding(attack_table(result["attacks"]), (1, 0, 0, 2)))
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
        *([config["scheme"]] if "scheme" in result["security"] else []),
        config["runtime"],
        "no seed" if result["seed"] is None else f"seed {result['seed']}",
    ]
    return " · ".join(parts)


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


def learned_table(learned: list[dict[str, Any]]) -> Table:
    """Who learned what, since when."""
    table = Table(
        title="who learned what (computed from each party's own view)",
        title_justify="left",
        box=None,
        padding=(0, 2, 0, 0),
    )
    for column in ("party", "quantity", "of", "how", "since step", "derivation"):
        table.add_column(column, overflow="fold")
    before = ""
    for item in learned:
        style = "red" if item["how"] == "exact" and item["quantity"] in ("samples", "master key", "labels") else ""
        party = "" if item["party"] == before else item["party"]
        before = item["party"]
        since = "" if item["since_round"] is None else str(item["since_round"])
        table.add_row(party, item["quantity"], item["of"], item["how"], since, item["detail"], style=style)
    return table


def attack_table(attacks: list[dict[str, Any]]) -> Table:
    """What each attack rebuilt, beside its baselines."""
    table = Table(
        title="attacks on a stored view (mse of pixels in [0, 1])", title_justify="left", box=None, padding=(0, 2, 0, 0)
    )
    for column in (
        "attack",
        "corrupted",
        "samples",
        "result",
        "since step",
        "guess",
        "swapped",
        "projection",
        "seconds",
    ):
        table.add_column(column, overflow="fold")
    for row in attacks:
        metrics, baseline = row["metrics"], row["baseline"]
        since = metrics.get("solved_at_step")
        table.add_row(
            row["attack"].replace("_", "-"), ", ".join(row["corrupted"]), str(row["samples"]),
            outcome(metrics) if row["applicable"] else f"not applicable: {row['why']}",
            "" if since is None else str(since),
            *(outcome(baseline[name]) if name in baseline else "" for name in ("guess", "swapped", "projection")),
            f"{row['seconds']:.1f}",
        )  # fmt: skip
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
