"""What a run says at its end on a terminal: every figure is read from result.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from scenarios.page.answer import answer
from scenarios.run.folder import RunFolder
from scenarios.run.learned import QUANTITIES, strongest, told_first
from scenarios.run.manifest import stored_hash
from scenarios.show.printable import printable
from scenarios.show.units import moment, samples_in

_WIDE = 110  # columns from which on a derivation stands beside what it derives


def show_result(console: Console, run: RunFolder, result: dict[str, Any]) -> None:
    """Print accuracy, time, traffic, who learned what, and what attacks rebuilt."""
    console.print(Text(headline(result), style="bold"), highlight=False)
    console.print(_indented(Group(figures(result, stored_hash(run)), security_lines(result))))
    if result["learned"]:
        console.print(_indented(learned_table(result["learned"], console.width), above=1))
    if result["attacks"]:
        console.print(_indented(attack_table(result["attacks"], protection(result), console.width), above=1))
    if any(row.get("retrained") for row in result["attacks"]):
        console.print(_indented(retrained_table(result["attacks"]), above=1))
    pictures = [row["figure"] for row in result["attacks"] if row.get("figure")]
    pictures += ["figures/knowledge.png"] if (run.path / "figures" / "knowledge.png").exists() else []
    console.print(Padding(Text(answer(result), style="bold"), (1, 2, 0, 2)), highlight=False)
    page = ["report.html"] if (run.path / "report.html").exists() else []
    _listed(console, run.path, *page, "transcripts", "result.json", "manifest.json", *pictures)


def show_prediction(console: Console, folder: RunFolder, result: dict[str, Any]) -> None:
    """Print what the querier was told, and who saw what while it asked."""
    per_sample = result["seconds"] / max(1, result["samples"])
    console.print(
        Text(
            f"{result['protocol'].replace('_', '-')} · {plural(result['samples'], 'sample')} of "
            f"{Path(result['dataset']).name} · accuracy {share(result['accuracy'])} · "
            f"{result['seconds']:.1f} s, {per_sample * 1e3:.2f} ms a sample",
            style="bold",
        ),
        highlight=False,
    )
    if result["learned"]:
        console.print(_indented(learned_table(result["learned"], console.width), above=1))
    _listed(console, folder.path, "predictions.csv", "prediction.json", "transcripts")


def _listed(console: Console, folder: Path, *files: str) -> None:
    """Where something was written, and what."""
    console.print(f"\n  {folder}/   {' · '.join(files)}", highlight=False, soft_wrap=True)


def _indented(content: RenderableType, above: int = 0) -> Padding:
    return Padding(content, (above, 0, 0, 2), expand=False)


def headline(result: dict[str, Any]) -> str:
    """Scenario, data, owners, scheme, runtime and seed in one line."""
    config = result["config"]
    owners, samples = len(config["counts"]), samples_in(config)
    deviating = [
        f"MALICIOUS {each['party']} ({each['deviation'].replace('_', '-')})"
        for each in result.get("malicious", ())
    ]
    parts = [
        result["scenario"].replace("_", "-"),
        *deviating,
        f"{Path(config['name']).name}, {plural(samples, 'sample')}",
        plural(owners, "owner"),
        protection(result),
        "Ray" if config["runtime"] == "ray" else config["runtime"],
        "no seed" if result["seed"] is None else f"seed {result['seed']}",
    ]
    return " · ".join(parts)


def protection(result: dict[str, Any]) -> str:
    """The scheme and its level in two words, for a column."""
    line: str = result["security"].get("scheme", "none")
    return line.partition(":")[0].split(", selective")[0]


def figures(result: dict[str, Any], manifest: str | None) -> Table:
    """Accuracy, time and traffic, and the hash of the manifest, to be noted elsewhere."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    accuracy, seconds = result["accuracy"], result["seconds"]
    nbytes = sum(edge["bytes"] for edge in result["traffic"])
    messages = sum(edge["messages"] for edge in result["traffic"])
    laps = " · ".join(
        f"{name} {seconds[name]:.1f} s" for name in ("setup", "train", "attack", "total") if name in seconds
    )
    table.add_row(
        "accuracy",
        f"test {share(accuracy['test'])}   without protection {share(accuracy['baseline_test'])}   "
        f"train {share(accuracy['train'])}",
    )
    if "measured" in result:
        said = " · ".join(f"{name} {value:.3g}" for name, value in result["measured"].items())
        table.add_row("measured", said)
    if result["config"].get("levels"):
        table.add_row("data", mapped(result["config"]))
    if "published" in result:
        told = result["published"]
        table.add_row(
            "",
            f"published {told['accuracy']:.3f}, {told['minutes']} minutes: {told['what']}, {told['source']}; "
            "not measured here",
        )
    for name, line in head_lines(result).items():
        table.add_row(name, line)
    for each in result.get("dropped", ()):
        table.add_row(
            "left out", f"{each['party']} from round {each['round']} of {each['phase']} on: {each['why']}"
        )
    table.add_row("time", laps)
    table.add_row("traffic", f"{size(nbytes)} in {plural(messages, 'message')}")
    if manifest is not None:
        table.add_row("manifest", manifest)
    return table


def mapped(config: dict[str, Any]) -> str:
    """What was done to a table before it was protected, and what attacks here make too little of."""
    levels, low, high = config["levels"], config["low"], config["high"]
    said = f"a table of {plural(len(low), 'column')}, "
    if set(low) == {0.0} and set(high) in ({1.0}, {float(levels)}):
        said += "as they are"
    else:
        said += "each from its least to its greatest value, which are public (config.json)"
    return "; ".join([f"{said}, in whole steps from 0 to {levels}", *_few(config)])


def _few(config: dict[str, Any]) -> list[str]:
    """Columns of a table that take fewer values than the attacks take them for: one, or a few."""
    distinct, levels = config.get("distinct") or (), config["levels"]
    constant = [k for k, count in enumerate(distinct) if count == 1]
    if constant and len(constant) == len(distinct):
        return ["every column is constant: there is nothing to learn of its samples"]
    told = [f"{_columns(constant)} constant: there is nothing to learn there"] if constant else []
    few = [k for k, count in enumerate(distinct) if 1 < count <= max(2, (levels + 1) // _FEW) <= levels]
    if few:
        most = max(distinct[k] for k in few)
        values = f"{most}" if {distinct[k] for k in few} == {most} else f"at most {most}"
        told.append(
            f"{_columns(few)} of {values} values and taken for {levels + 1}: who looks at them needs less "
            "than the attacks here"
        )
    return told


_FEW = 8  # a column takes few values where it takes one of so many, or two
_NAMED_COLUMNS = 5


def _columns(places: list[int]) -> str:
    """Columns by their numbers, from 1 on, as the subject of a sentence."""
    named = ", ".join(str(k + 1) for k in places[:_NAMED_COLUMNS])
    more = f" and {len(places) - _NAMED_COLUMNS} more" if len(places) > _NAMED_COLUMNS else ""
    return f"column {named} is" if len(places) == 1 else f"columns {named}{more} are"


def head_lines(result: dict[str, Any]) -> dict[str, str]:
    """Of an encrypted head: how it agrees with the one in the clear, what a query takes, and bytes."""
    if "head" not in result:
        return {}
    head = result["head"]
    took, nbytes = head["milliseconds"], head["bytes"]
    refused = f" · {plural(head['refused'], 'answer')} refused" if head["refused"] else ""
    return {
        "agreement": f"{head['argmax_agreement']:.1%} of {plural(head['queries'], 'decision')} as of the "
        f"head in float{refused}",
        "a query": f"server {took['server']:.1f} ms, authority {took['authority']:.1f} ms (processor: "
        f"{took['server_processor']:.1f} and {took['authority_processor']:.1f}), in batches",
        "ciphertexts": f"head {size(nbytes['head'])}, an answer {size(nbytes['answer'])}",
    }


def security_lines(result: dict[str, Any]) -> Table:
    """What the run's security rests on, a line each."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, line in result["security"].items():
        table.add_row(Text(f"security, {name}", style="dim"), Text(line, style="dim"))
    return table


# What the labels and quantities of result.json mean, in words.
MEANINGS = {
    "samples": "training samples",
    "gram": "inner products of samples",
    "master key": "master secret key",
    "labels": "labels",
    "weights": "W1, or the head",
    "x": "training samples",
    "w1": "W1, first-layer weights",
    "dz1": "dZ1, first-layer errors",
    "dw1": "dW1, first-layer gradient",
    "refused": "refusals of keys",
    "p": "P, the network's outputs",
    "z1": "Z1, first-layer outputs",
    "a": "input of the last layer",
    "da": "its gradient",
    "w1_mean": "W1, the average",
    "w1_copy": "W1, each owner's copy",
    "w1_masked": "W1, copies under masks",
    "head_masked": "last layer, copies under masks",
    "pk": "public keys for masks",
    "pks": "public keys for masks",
    "head_mean": "last layer, the average",
    "head_copy": "last layer, each owner's copy",
    "classes": "predicted classes",
    "head": "the head",
    "queries": "queries",
    "logits": "logits",
    "pre-activations": "hidden pre-activations",
    "decision": "decisions",
    "last_layer": "last layer of the head",
}
_PRIVATE = ("samples", "labels", "master key", "x", "head")
_HOW = {
    "own": "a party's own input or secret, or what it sent",
    "clear": "crossed as plain numbers",
    "exact": "solved for",
    "up to": "determined but for what the line names",
    "determined": "by an audit of a small instance, not computed here",
    "bounded": "constrained; no rule determines it",
    "undecided": "an audit of a small instance could not tell, or payloads are not recorded",
    "nothing found": "ciphertexts or masked values that nothing here opens",
    "not analysed": "the protocol states no relation of it, or what is said there",
}


def learned_table(learned: list[dict[str, Any]], width: int = _WIDE) -> RenderableType:
    """Who learned what, since when; in red what was meant to stay private; with derivations."""
    wide = width >= _WIDE
    columns = "party, what, of, how, since step, derivation" if wide else "party, what, of, how, step"
    table = _table("who learned what (computed from each party's own view)", *columns.split(", "))
    before, alone = "", {(item["party"], *_said(item)) for item in learned}
    shown = told_first(learned)
    for item in shown:
        if any(
            (member, *_said(item)) in alone for member in item["party"].split(", ") if member != item["party"]
        ):
            continue  # what a member knows by itself is said there
        party, before = "" if item["party"] == before else item["party"], item["party"]
        since = "" if item["since_round"] is None else str(item["since_round"])
        exposed = item["how"] in ("exact", "clear") and item["quantity"] in _PRIVATE
        cells = (party, meaning(item["quantity"]), item["of"], item["how"], since)
        table.add_row(*cells, *([item["detail"]] if wide else []), style="red" if exposed else "")
    used = [how for how in _HOW if any(item["how"] == how for item in shown)]
    legend = [_legend(" · ".join(f"{how}: {_HOW[how]}" for how in used))]
    if len(shown) < len(learned):
        left = plural(len(learned) - len(shown), "line")
        legend.append(_legend(f"{left} that a stronger line covers: --json has all"))
    derived = [item for item in shown if item["how"] != "clear" and not wide]
    return Group(
        table, *(Text(f"{meaning(item['quantity'])}: {item['detail']}") for item in derived), *legend
    )


def _said(item: dict[str, Any]) -> tuple[Any, ...]:
    return item["quantity"], item["of"], item["how"], item["since_round"]


def matrix_table(learned: list[dict[str, Any]], parties: list[str]) -> RenderableType:
    """Party by quantity: the strongest thing that its view says of each, and since which step."""
    table = _table("who knows what", "party", *(meaning(name) for name, _ in QUANTITIES))
    for party in parties:
        mine = [row for row in learned if row["party"] == party]
        rest = "not analysed" if any(row["how"] == "not analysed" for row in mine) else "nothing found"
        table.add_row(party, *(_cell(strongest(mine, names), rest) for _, names in QUANTITIES))
    told = (
        "nothing found: no message of the view says anything of it, or only ciphertexts do; not analysed: "
        "messages of which the protocol states no relation; what is known of samples is known of their Gram "
        "matrix too"
    )
    return Group(table, _legend(told))


def _cell(row: dict[str, Any] | None, rest: str) -> Text:
    if row is None or row["how"] in ("nothing found", "not analysed"):
        return Text(rest, style="dim")
    since = "" if row["since_round"] is None else f", since step {row['since_round']}"
    return Text(
        f"{row['how']}{since}",
        style="red" if row["how"] in ("exact", "clear") and row["quantity"] in _PRIVATE else "",
    )


def coalition_table(rows: list[dict[str, Any]], width: int = _WIDE) -> RenderableType:
    """Coalitions by size, those that read another owner's samples and those that do not."""
    columns = ["coalition", "reads", "how", "since step", *(["derivation"] if width >= _WIDE else [])]
    table = _table("smallest coalitions that read another owner's samples exactly", *columns)
    for row in rows:
        line = row["line"] or {"of": "", "how": "not analysed", "since_round": None, "detail": ""}
        of = line["of"] if row["reads"] or line["how"] == "determined" else _NO_EXACT
        since = "" if line["since_round"] is None else str(line["since_round"])
        cells = (", ".join(row["coalition"]), of, line["how"], since)
        table.add_row(
            *cells, *([line["detail"]] if width >= _WIDE else []), style="red" if row["reads"] else "dim"
        )
    return Group(table, _legend(_COALITION_LEGEND))


_NO_EXACT = "no exact samples found"
_COALITION_LEGEND = (
    "what was found or tried instead stands beside it; owners are alike to a protocol: data_owner:0 stands "
    "for any, data_owner:0 and :1 for any two (where owners leave, other two may read more); up to three "
    "parties were tried"
)


def meaning(quantity: str) -> str:
    """A quantity of result.json in words."""
    return MEANINGS.get(quantity) or printable(quantity)


def attack_table(attacks: list[dict[str, Any]], security: str = "", width: int = _WIDE) -> RenderableType:
    """What each attack rebuilt, beside its baselines in the same measure and what was meant to prevent it."""
    views = list(dict.fromkeys(", ".join(row["corrupted"]) for row in attacks))
    wide, several = width >= _WIDE, len(views) > 1
    columns = ["attack", "samples", "measure", "rebuilt", *_BASELINES, "step"]
    columns += [*(["won, 95 %", "seconds"] if wide else []), *(["protection"] if security else [])]
    table = _table(f"attacks on the view of {'; of '.join(views)}", *columns, gap=2 if wide else 1)
    for row in attacks:
        metrics = row["metrics"]
        how, since = measure(metrics), metrics.get("solved_at_step")
        table.add_row(
            _named(row, several),
            str(row["samples"])
            if row.get("of") in (None, row["samples"])
            else f"{row['samples']} of {row['of']}",
            how,
            value(metrics, how) or "-",
            *(value(row["baseline"].get(name, {}), how) for name in _BASELINES),
            "" if since is None else str(since),
            *([_better(row.get("gain")), f"{row['seconds']:.1f}"] if wide else []),
            *([security] if security else []),
        )
    refused = [f"{_named(row)}: {why_not(row)}" for row in attacks if row["why"]]
    refused += [f"{_named(row)}: {said}" for row in attacks if (said := doubted(row))]
    return Group(table, *map(Text, refused), _legend(_ATTACK_LEGEND))


def _better(gain: dict[str, Any] | None) -> str:
    """By how much an attack beats the guess, as the ends of an interval, and in what."""
    return "" if gain is None else "{:+.4f} to {:+.4f} {}".format(*gain["interval"], gain["measure"])


def _named(row: dict[str, Any], whose: bool = False) -> str:
    """An attack, or the preset that stands for it; on whose view, where the rows differ in that."""
    name = str(row.get("preset") or row["attack"]).replace("_", "-")
    return f"{name} ({', '.join(row['corrupted'])})" if whose else name


_BASELINES = ("guess", "swapped", "projection")
_ATTACK_LEGEND = (
    "mse: mean squared error, pixels (or columns of a table) in [0, 1], 0 is best · pixels, labels: share "
    "exactly right · error: relative, of a Gram matrix or a span · the same measure for guess: the best "
    "without the secret, the mean of the public samples, or of those of its class where the view tells "
    "classes · "
    "won: by how much it beats the guess, in mse for samples, in the share that is right for labels · "
    "swapped: the same output against other samples · projection: a constant sample corrected to fit the "
    "equations"
)


def retrained_table(attacks: list[dict[str, Any]]) -> RenderableType:
    """What each reconstruction is worth to train on, beside the truth and the guess."""
    measured = [row for row in attacks if row.get("retrained")]
    if not measured:
        return Text("what it is worth to train on: no attack here applies")
    columns = "attack", "trained on", "labels of", "rebuilt", "truth", "guess", "control", "tested on"
    table = _table("what it is worth to train on (test accuracy of fresh networks)", *columns)
    for row in measured:
        found = row["retrained"]
        if not found["why"]:
            cells = (share(found.get(name)) for name in ("rebuilt", "truth", "guess", "control"))
            of = f"{found['trained_on']} of {row['samples']}"
            table.add_row(_named(row), of, f"the {found['labels']}", *cells, str(found["tested_on"]))
    refused = [f"{_named(row)}: {worth(row)}" for row in measured if row["retrained"]["why"]]
    return Group(*([table] if table.rows else []), *map(Text, refused), _legend(_RETRAINED_LEGEND))


_RETRAINED_LEGEND = (
    "the same small network, trained on what was rebuilt, on the true samples, on the guess; labels of the "
    "truth, where neither attack nor view tells any: the most that the images can be worth, and then the "
    "guess has them too · control: as many public images, matched and labelled like what was rebuilt; "
    "only what is above guess and control speaks for an attack"
)


def worth(row: dict[str, Any]) -> str:
    """What a reconstruction is worth to train on, in a few words; empty where that was not measured."""
    found = row.get("retrained")
    if not found:
        return ""
    if found["why"]:
        return f"--measure retrain: {found['why']}"
    rebuilt, truth, guess = (share(found[name]) for name in ("rebuilt", "truth", "guess"))
    alike = found.get("control")
    beside = "" if alike is None else f", on public images matched alike {share(alike)}"
    return f"a network trained on it: {rebuilt} (on the truth {truth}, on the guess {guess}{beside})"


def moment_table(attacks: list[dict[str, Any]]) -> RenderableType:
    """The first message after which each attack succeeds, for some sample and for all."""
    columns = "attack, success means, for, message, when, label, from, to"
    table = _table("when it leaked (bisection over the messages of the view)", *columns.split(", "))
    if not any(row.get("first_success") for row in attacks):
        return Text("when it leaked: no attack here applies")
    for row in attacks:
        found = row.get("first_success")
        if found is None:
            continue
        for which, name in (("any", "some sample"), ("all", "every sample it rebuilds")):
            message, cells = found[which], ("never",)
            if message is not None:
                when = moment(message["phase"], message["round"])
                cells = str(message["seq"]), when, *(message[key] for key in ("label", "sender", "receiver"))
            table.add_row(row["attack"].replace("_", "-"), found["criterion"], name, *cells)
    return table


def control_table(attacks: list[dict[str, Any]]) -> RenderableType:
    """What each attack scores on runs of the same protocol with other secrets."""
    columns = "attack, control, measure, scored, guess, better than the guess by, verdict"
    title = "zero lines: the protocol and the attack run again where the secrets are others"
    table = _table(title, *columns.split(", "))
    if not any(row.get("controls") for row in attacks):
        return Text("zero lines: no attack here applies")
    for row in attacks:
        for name, control in row.get("controls", {}).items():
            if not control["applicable"]:
                table.add_row(
                    row["attack"].replace("_", "-"), name, "", "", "", "", f"not applicable: {control['why']}"
                )
                continue
            how, gain = measure(control["metrics"]), control["gain"]
            cells = (how, value(control["metrics"], how), value(row["baseline"].get("guess", {}), how))
            told = (
                ""
                if gain is None
                else f"{gain['mean']:+.4f}  [{gain['interval'][0]:+.4f}, {gain['interval'][1]:+.4f}]"
            )
            table.add_row(row["attack"].replace("_", "-"), name, *cells, told, verdict(row, control, how))
    return Group(table, _legend(_CONTROL_LEGEND))


_CONTROL_LEGEND = (
    "swapped: every sample in another's place · ideal: a view that a simulator makes from the allowed "
    "outputs alone · both scored "
    "against the samples of this run; 95 % interval over samples"
)


def verdict(row: dict[str, Any], control: dict[str, Any], how: str) -> str:
    """Whether an attack on other secrets stays at its prior, in words."""
    gain = control["gain"]
    if gain is not None:
        return "no better than its prior" if gain["interval"][0] <= 0 else "better than its prior"
    key = _KEYS.get(how, "")
    if key in control["metrics"] and key in row["baseline"].get("guess", {}):
        better = control["metrics"][key] < row["baseline"]["guess"][key]
        return "better than its prior" if better else "no better than its prior"
    return ""


def measure(metrics: dict[str, Any]) -> str:
    """The metric that says most: labels, `pixels` where most are exact, else `mse`; empty for none."""
    if "labels_right" in metrics:
        return "labels"
    if "classes_right" in metrics:
        return "labels up to a renaming of classes"
    if metrics.get("exact_pixels", 0.0) > 0.5:
        return "pixels"
    return next((name for name in ("mse", "error") if _KEYS[name] in metrics), "")


def value(metrics: dict[str, Any], how: str) -> str:
    """One metric in a few characters; empty where it is missing."""
    key = _KEYS.get(how, "")
    if key not in metrics:
        return ""
    return f"{metrics[key]:.4f}" if how in ("mse", "error") else f"{metrics[key]:.1%}"


def outcome(row: dict[str, Any]) -> str:
    """What an attack rebuilt, in its most telling measure."""
    if not row["applicable"]:
        return "failed" if row.get("failed") else "not applicable"
    if "relative_error" in row["metrics"]:
        return f"relative error {row['metrics']['relative_error']:.2%}"
    how = measure(row["metrics"])
    worse = ", worse than the guess" if doubted(row).startswith("worse") else ""
    return f"{how} {value(row['metrics'], how)}{worse}" if how else "nothing to score"


def doubted(row: dict[str, Any]) -> str:
    """What speaks against the outcome of an attack, if something does: by the scorer, or by its own word."""
    gain, notes = row.get("gain"), row.get("notes", {})
    found = ["worse than the guess"] if gain is not None and gain["interval"][1] < 0 else []
    if notes.get("rotation_confirmed") is False:
        found.append(
            f"its rotation is not confirmed: {notes['levels_from_whole']:.2f} levels from whole numbers in "
            "the range; points that have nothing to do with them lie .29 away"
        )
    return "; ".join(found)


def why_not(row: dict[str, Any]) -> str:
    """Why an attack rebuilt nothing: that it does not apply, or crashed."""
    return f"{'failed' if row.get('failed') else 'not applicable'}: {row['why']}"


_KEYS = {"labels": "labels_right", "labels up to a renaming of classes": "classes_right",
         "pixels": "exact_pixels", "mse": "mse", "error": "relative_error"}  # fmt: skip


def _table(title: str, *columns: str, gap: int = 2) -> Table:
    table = Table(title=title, title_justify="left", box=None, padding=(0, gap, 0, 0), pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _legend(text: str) -> Text:
    return Text(text, style="dim")


def plural(count: int, noun: str) -> str:
    """`1 owner`, `3 owners`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


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
