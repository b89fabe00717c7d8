"""The command line: `keyhole ...`, and `python -m scenarios ...`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from parties.adversary.behaviours import find_behaviour
from parties.adversary.catalogue import (
    ATTACKS,
    HEAD_ATTACKS,
    PRESETS,
    find_attack,
    find_head_attack,
    find_target,
)
from parties.data.datasets import NAMES, Split
from parties.record.transcript import Record
from protocols.language.errors import ConfigError
from protocols.language.figure import as_mermaid, as_text
from protocols.network.config import (
    Activation,
    Authority,
    Gradient,
    Init,
    Labels,
    Loss,
    Optimizer,
    Pixels,
    Scheme,
)
from protocols.network.head_config import Encoding, Release
from protocols.parts.defences import DEFENCES
from scenarios.run.attack_command import attack
from scenarios.run.catalogue import PROTOCOLS, SCENARIOS, find_protocol, find_scenario
from scenarios.run.experiment import Experiment, Options, Preset, prepare
from scenarios.show.learned_command import coalitions, learned
from scenarios.show.terminal import (
    OneLine,
    console,
    dashed,
    parties_named,
    plain,
    progress,
    reported,
    show_tracebacks,
)
from scenarios.study.matrix_command import matrix
from scenarios.study.sweep_command import sweep

app = typer.Typer(
    name="keyhole",
    cls=OneLine,
    help="Run protocols that train networks on encrypted data, and see what each party learns. Not for production secrets.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

for _command in (attack, learned, coalitions):
    app.command()(_command)

_NAMES = " | ".join(name.replace("_", "-") for name in SCENARIOS)


class RuntimeName(str, Enum):
    """Where parties run."""

    RAY = "ray"
    INLINE = "inline"


def _option(*names: str, panel: str = "Run", **settings: Any) -> Any:
    return typer.Option(*names, rich_help_panel=panel, **settings)


@app.callback()
def main(
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails.")] = False,
) -> None:
    show_tracebacks(debug)


@app.command("list")
def list_() -> None:
    """List protocols, schemes, scenarios, attacks and data sets."""
    from protocols.crypto import febo, fhipe, ipfe_ddh, ipfe_lwe, paillier
    from protocols.crypto.groups.named import GROUPS, PAIRINGS

    table = Table("kind", "name", "what it is", "security", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in PROTOCOLS:
        module = find_protocol(name)
        table.add_row("protocol", dashed(name), module.SUMMARY, module.SECURITY)
    table.add_row("scheme", "lwe", "inner products over Z_2^64 (default)", ipfe_lwe.SECURITY)
    table.add_row("scheme", "ddh", f"inner products; --group {' | '.join(GROUPS)}", ipfe_ddh.SECURITY)
    table.add_row(
        "scheme",
        "fhipe",
        f"function-hiding inner products, of mitig1; --group {' | '.join(PAIRINGS)}",
        fhipe.SECURITY,
    )
    table.add_row("scheme", "febo", "labels element by element: --labels febo", febo.SECURITY)
    table.add_row(
        "scheme", "paillier", "encrypted heads, of reverse-he; --key-bits 3072 | 2048", paillier.SECURITY
    )
    for name in SCENARIOS:
        table.add_row(
            "scenario", dashed(name), f"keyhole run {dashed(name)}", "of the protocol and its scheme"
        )
    table.add_row(
        "scenario", "compare", "keyhole run compare: all protocols on one data set", "of each protocol"
    )
    for name in ATTACKS:
        table.add_row("attack", dashed(name), find_attack(name).SUMMARY, "")
    for name in HEAD_ATTACKS:
        table.add_row("attack", dashed(name), f"{find_head_attack(name).SUMMARY} (keyhole matrix)", "")
    for name, preset in PRESETS.items():
        table.add_row("preset", dashed(name), preset.describe(), "")
    for name, defence in DEFENCES.items():
        fits = f"of {', '.join(map(dashed, defence.protocols))}: {defence.meaning}"
        table.add_row("defence", dashed(name) + (":VALUE" if defence.takes_value else ""), fits, "")
    for name in (*NAMES, "FILE.npz"):
        table.add_row("dataset", name, _DATASETS[name], "")
    for column in table.columns[:2]:
        column.no_wrap = True
    console().print(table)


_DATASETS = {
    "digits": "1797 images of 8x8, part of scikit-learn (default)",
    "mnist": "70 000 images of 28x28; idx files in --data-dir, or fetched where a network exists",
    "cifar10": "images of 32x32x3; files in --data-dir; --gray",
    "FILE.npz": "images or X, labels or y; optionally test_images and test_labels",
}


@app.command()
def run(
    scenario: Annotated[str, typer.Argument(help=f"{_NAMES} | compare")],
    preset: Annotated[
        Preset | None,
        _option("--preset", help="paper: the network and training of Ionita and Ionita.", panel="Data"),
    ] = None,
    dataset: Annotated[
        str | None, _option("--dataset", help="digits | mnist | cifar10 | FILE.npz", panel="Data")
    ] = None,
    data_dir: Annotated[
        Path | None, _option("--data-dir", help="Folder of the data set's files.", panel="Data")
    ] = None,
    gray: Annotated[bool | None, _option("--gray", help="Turn colour images gray.", panel="Data")] = None,
    samples: Annotated[
        int | None, _option("--samples", help="Training samples to use.", panel="Data")
    ] = None,
    owners: Annotated[
        int | None, _option("--owners", help="How many data owners share the data.", panel="Data")
    ] = None,
    split: Annotated[Split | None, _option("--split", help="How they share it.", panel="Data")] = None,
    runtime: Annotated[
        RuntimeName | None, _option("--runtime", help="ray: parties in processes of their own.")
    ] = None,
    address: Annotated[str | None, _option("--address", help="A Ray cluster, or auto.")] = None,
    seed: Annotated[
        int | None,
        _option("--seed", min=0, help="Make the run repeatable. Whoever knows it holds every key."),
    ] = None,
    record: Annotated[
        Record | None, _option("--record", help="Keep payloads, or headers and digests only.")
    ] = None,
    out: Annotated[Path | None, _option("--out", help="The run folder itself.")] = None,
    as_json: Annotated[bool, _option("--json", help="Print result.json and nothing else.")] = False,
    quiet: Annotated[bool, _option("--quiet", help="No progress bar.")] = False,
    layers: Annotated[
        str | None, _option("--layers", help="Widths, such as 300,100; the first is h.", panel="Network")
    ] = None,
    hidden: Annotated[
        int | None, _option("--hidden", help="h, for a network of one hidden layer.", panel="Network")
    ] = None,
    activation: Annotated[
        Activation | None, _option("--activation", help="Between layers.", panel="Network")
    ] = None,
    loss: Annotated[
        Loss | None, _option("--loss", help="ce: softmax; bce: a sigmoid per class.", panel="Network")
    ] = None,
    batch: Annotated[int | None, _option("--batch", help="Samples in a batch.", panel="Network")] = None,
    epochs: Annotated[int | None, _option("--epochs", help="Passes over the data.", panel="Network")] = None,
    lr: Annotated[float | None, _option("--lr", help="Learning rate.", panel="Network")] = None,
    momentum: Annotated[
        float | None, _option("--momentum", help="Of SGD; Adam's first decay rate.", panel="Network")
    ] = None,
    optimizer: Annotated[
        Optimizer | None, _option("--optimizer", help="At every party.", panel="Network")
    ] = None,
    pixels: Annotated[
        Pixels | None,
        _option("--pixels", help="unit: divided by their maximum; raw: as they are.", panel="Network"),
    ] = None,
    init: Annotated[
        Init | None,
        _option(
            "--init",
            help="Who draws W1: owner, as in a split network; shared: the owner from a public seed; cloud: plain only.",
            panel="Network",
        ),
    ] = None,
    per_round: Annotated[
        int | None, _option("--per-round", min=1, help="Owners that take part in a round.", panel="Owners")
    ] = None,
    local_steps: Annotated[
        int | None,
        _option("--local-steps", min=1, help="Steps of each before copies are averaged.", panel="Owners"),
    ] = None,
    rounds: Annotated[
        int | None, _option("--rounds", min=1, help="In place of --epochs.", panel="Owners")
    ] = None,
    scheme: Annotated[
        Scheme | None, _option("--scheme", help="What protects the samples.", panel="Protection")
    ] = None,
    group: Annotated[
        str | None, _option("--group", help="Group for ddh and febo.", panel="Protection")
    ] = None,
    weight_scale: Annotated[
        int | None, _option("--weight-scale", help="Fixed-point steps per unit of W1.", panel="Protection")
    ] = None,
    weight_bound: Annotated[
        float | None, _option("--weight-bound", help="Bound on |W1|.", panel="Protection")
    ] = None,
    labels: Annotated[
        Labels | None, _option("--labels", help="How labels reach the cloud.", panel="Protection")
    ] = None,
    gradient: Annotated[
        Gradient | None, _option("--gradient", help="Who computes dW1.", panel="Protection")
    ] = None,
    authority: Annotated[
        Authority | None,
        _option("--authority", help="mitig1: who holds the master keys.", panel="Protection"),
    ] = None,
    malicious: Annotated[
        str | None,
        _option(
            "--malicious", help="plain-fe: unit-keys, what the cloud does in place of W1.", panel="Attack"
        ),
    ] = None,
    attack: Annotated[
        list[str] | None,
        _option("--attack", help="An attack or a preset to run at the end; repeatable.", panel="Attack"),
    ] = None,
    corrupt: Annotated[
        str | None,
        _option("--corrupt", help="Corrupted parties, such as cloud_trainer,data_owner:2.", panel="Attack"),
    ] = None,
    period: Annotated[
        int | None, _option("--period", min=1, help="Of lp's smoothness rows.", panel="Attack")
    ] = None,
    threshold: Annotated[
        int | None,
        _option(
            "--threshold",
            min=0,
            help="Of lp's smoothness rows, in 255ths of the pixel range.",
            panel="Attack",
        ),
    ] = None,
    known: Annotated[
        int | None,
        _option("--known", min=0, help="Training samples that the adversary knows.", panel="Attack"),
    ] = None,
    first: Annotated[
        str | None,
        _option("--first", help="A first convolution: conv:6x5x5, kernels and their size.", panel="Network"),
    ] = None,
    defence: Annotated[
        list[str] | None,
        _option(
            "--defence",
            help="NAME or NAME:VALUE, as `keyhole list` has them; repeatable.",
            panel="Protection",
        ),
    ] = None,
    head: Annotated[
        str | None,
        _option("--head", help="reverse-he: widths of the head, such as 64-5 or 64-16-5.", panel="Head"),
    ] = None,
    shots: Annotated[
        int | None,
        _option("--shots", min=1, help="reverse-he: the owner's samples of every class.", panel="Head"),
    ] = None,
    queries: Annotated[
        int | None,
        _option("--queries", min=1, help="reverse-he: held-out images to ask about.", panel="Head"),
    ] = None,
    release: Annotated[
        Release | None, _option("--release", help="reverse-he: what goes back to the server.", panel="Head")
    ] = None,
    key_bits: Annotated[
        int | None, _option("--key-bits", help="reverse-he: 3072, or 2048 on request.", panel="Head")
    ] = None,
    encoding: Annotated[
        Encoding | None,
        _option("--encoding", help="reverse-he: int; float is phe's, and leaks.", panel="Head"),
    ] = None,
    base: Annotated[
        Path | None,
        _option(
            "--base", help="reverse-he: a base of yours, the state dict of dense layers (.pt).", panel="Head"
        ),
    ] = None,
    budget: Annotated[
        float | None,
        _option("--budget", help="compare: seconds a protocol may take; beyond, it is extrapolated."),
    ] = None,
) -> None:
    """Run a scenario: train, record what each party sees, and say who learned what."""
    options = Options(
        preset=preset, dataset=dataset, data_dir=data_dir, gray=gray, samples=samples, runtime=runtime.value if runtime else None,
        address=address, owners=owners, split=split, seed=seed, record=record, out=out, layers=layers, hidden=hidden,
        activation=activation, loss=loss, batch=batch, epochs=epochs, lr=lr, momentum=momentum, optimizer=optimizer, pixels=pixels,
        init=init, per_round=per_round, local_steps=local_steps, rounds=rounds, authority=authority, scheme=scheme, group=group,
        weight_scale=weight_scale, weight_bound=weight_bound, labels=labels, gradient=gradient,
        attack=tuple(dict.fromkeys(map(plain, attack or ()))), period=period, threshold=threshold,
        known=known, first=first, defence=tuple(dict.fromkeys(defence or ())), head=head, shots=shots,
        queries=queries, release=release, key_bits=key_bits, encoding=encoding, base=base,
    )  # fmt: skip
    with reported():
        from scenarios.run.execute import execute
        from scenarios.show.summary import show_result

        for name in options.attack or ():
            find_target(name)
        if malicious is not None:
            options = replace(options, malicious=find_behaviour(malicious).NAME)
        if corrupt is not None:
            options = replace(options, corrupt=parties_named(corrupt))
        if plain(scenario) == "compare":
            _compare(options, budget, as_json, quiet)
            return
        if budget is not None:
            raise ConfigError(f"--budget is no option of {dashed(scenario)}")
        experiment = prepare(find_scenario(scenario), options)
        with progress(experiment, silent=as_json or quiet) as observe:
            folder, result = execute(experiment, observe)
        if as_json:
            print(json.dumps(result, indent=1))
        else:
            show_result(console(), folder, result)


@app.command()
def show(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN")],
    party: Annotated[str | None, typer.Option("--party", help="One party's view.")] = None,
    label: Annotated[str | None, typer.Option("--label", help="Messages of one label.")] = None,
    dump: Annotated[
        Path | None, typer.Option("--dump", help="Write the first matching payload here (.npy, else JSON).")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check payloads, both ends and the digest.")
    ] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Rows to print.")] = 40,
) -> None:
    """Show a transcript as a table, dump a payload, or verify a run."""
    with reported():
        from scenarios.run.folder import load_run
        from scenarios.show.inspect import dump_payload, rows_table, verified

        folder = load_run(run_folder)
        if verify:
            verified(folder, console())
        elif dump is not None:
            print(dump_payload(folder, party, label, dump))
        else:
            console().print(rows_table(folder, party, label, limit))


@app.command()
def figure(
    protocol: Annotated[str, typer.Argument(help=_NAMES)],
    mermaid: Annotated[bool, typer.Option("--mermaid", help="As a mermaid sequence diagram.")] = False,
) -> None:
    """Draw the message figure of a protocol."""
    with reported():
        drawn = find_protocol(protocol).FIGURE
        print(as_mermaid(drawn) if mermaid else as_text(drawn))


@app.command()
def predict(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN")],
    dataset: Annotated[str | None, typer.Option("--dataset", help="The run's own if not given.")] = None,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Folder of the data set's files.")
    ] = None,
    samples: Annotated[int | None, typer.Option("--samples", min=1, help="At most so many.")] = None,
    runtime: Annotated[RuntimeName, typer.Option("--runtime")] = RuntimeName.RAY,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the result; else RUN/predictions/N.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print prediction.json and nothing else.")] = False,
) -> None:
    """Ask a trained network about held-out samples, under the confidentiality of the protocol that trained it."""
    with reported():
        from scenarios.run.folder import load_run
        from scenarios.run.predict import predict as ask
        from scenarios.run.predict import query
        from scenarios.show.summary import show_prediction

        folder, result = ask(query(load_run(run_folder), dataset, data_dir, samples, runtime.value, out))
        if as_json:
            print(json.dumps(result, indent=1))
        else:
            show_prediction(console(), folder, result)


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...")],
    as_json: Annotated[bool, typer.Option("--json", help="Print compare.json and nothing else.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Also write JSON, CSV and a picture into this folder.")
    ] = None,
) -> None:
    """Show finished runs side by side: accuracy, time, bytes, what each party saw."""
    with reported():
        from scenarios.show.comparison_table import show_comparison
        from scenarios.study.comparison import stored_comparison

        content = stored_comparison(runs, out)
        if as_json:
            print(json.dumps(content, indent=1))
        else:
            show_comparison(console(), content, out)


@app.command()
def bench(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            help="groups | digits | seeds | febo | mnist | cifar | mitig2 | owners | mitig1 | mitig1-mnist | gradient | gram | known | averages | noise | paillier | ckks; all without any."
        ),
    ] = None,
    data_dir: Annotated[Path, typer.Option("--data-dir", help="Holds mnist/ and cifar10/.")] = Path(
        "../shared/data"
    ),
    samples: Annotated[
        int | None, typer.Option("--samples", help="Training samples, to try a smaller size.")
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs")] = None,
    hidden: Annotated[int | None, typer.Option("--hidden")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Also write the figures here, as JSON.")] = None,
) -> None:
    """Measure the project's figures on this machine."""
    with reported():
        from scenarios.study.bench import run_benches
        from scenarios.study.bench_tools import Sizes

        run_benches(tuple(what or ()), Sizes(data_dir, samples, epochs, hidden), out, console())


app.command()(sweep)
app.command()(matrix)


def _compare(options: Options, budget: float | None, as_json: bool, quiet: bool) -> None:
    """`keyhole run compare`: every protocol, then the table; status 1 if one failed."""
    from scenarios.show.comparison_table import show_comparison
    from scenarios.study.compare import BUDGET_SECONDS, failed
    from scenarios.study.compare import compare as run_all

    silent = as_json or quiet or not sys.stderr.isatty()

    def watch(experiment: Experiment) -> AbstractContextManager[Callable[[str, int], None]]:
        if not silent:
            print(dashed(experiment.scenario.name), file=sys.stderr)
        return progress(experiment, silent)

    folder, content = run_all(options, BUDGET_SECONDS if budget is None else budget, watch)
    if as_json:
        print(json.dumps(content, indent=1))
    else:
        show_comparison(console(), content, folder)
    if failed(content):
        raise typer.Exit(1)


def script(scenario: str) -> None:
    """Entry of `python -m scenarios.<scenario>`: the options of `keyhole run <scenario>`."""
    app(["run", scenario, *sys.argv[1:]], prog_name=f"python -m scenarios.{scenario}")
