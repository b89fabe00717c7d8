"""The command line: `keyhole ...`, and `python -m scenarios ...`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from parties.registry import PROTOCOLS, find_protocol
from protocols.language.errors import ConfigError
from scenarios.page.report_command import report
from scenarios.recorder.gather_command import gather
from scenarios.run.attack_command import attack
from scenarios.run.command import Comparing, Scenarios
from scenarios.run.new_command import new
from scenarios.show.check_command import check
from scenarios.show.doctor_command import doctor
from scenarios.show.export_command import export
from scenarios.show.learned_command import coalitions, learned
from scenarios.show.terminal import OneLine, console, reported, show_tracebacks, warned
from scenarios.study.audit_command import Audits
from scenarios.study.matrix_command import matrix
from scenarios.study.reproduce_command import reproduce
from scenarios.study.sweep_command import sweep
from scenarios.viewer.view_command import view

app = typer.Typer(
    name="keyhole",
    cls=OneLine,
    help="Run protocols that train networks on encrypted data, and see what each party learns. Not for "
    "production secrets.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for _command in (attack, learned, coalitions, check, gather, report, view, export, doctor):
    app.command()(_command)

_NAMES = " | ".join(name.replace("_", "-") for name in PROTOCOLS)


runs = typer.Typer(
    cls=Scenarios,
    help="Run a scenario: train, record what each party sees, and say who learned what.",
    no_args_is_help=True,
    invoke_without_command=True,
)
app.add_typer(runs, name="run")
app.add_typer(new, name="new")

audits = typer.Typer(
    cls=Audits, help="Say what each view determines, on a small instance.", no_args_is_help=True
)
app.add_typer(audits, name="audit")


@runs.callback()
def _run(
    context: typer.Context,
    resume: Annotated[
        Path | None,
        typer.Option(
            "--resume",
            metavar="RUN",
            help="Go on with a run that was stopped, or a grid of runs, instead of SCENARIO.",
        ),
    ] = None,
    address: Annotated[str | None, typer.Option("--address", help="A Ray cluster, for --resume.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print result.json, for --resume.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar, for --resume.")] = False,
    log_to: Annotated[
        list[str] | None, typer.Option("--log-to", metavar="TOOL:DIR", help="As for a run, for --resume.")
    ] = None,
) -> None:
    """Options are the scenario's own: `keyhole run SCENARIO --help`."""
    if context.invoked_subcommand is not None and resume is None:
        return
    with reported():
        if resume is None:
            raise ConfigError("name a scenario, or a run to --resume")
        if context.invoked_subcommand is not None:
            raise ConfigError("--resume goes on with a run as it was begun: give no scenario")
        from scenarios.run.command import run_resumed

        run_resumed(resume, address, as_json, quiet, tuple(log_to or ()))
    raise typer.Exit(0)


@audits.callback()
def _audit() -> None:
    """Options are the protocol's own: `keyhole audit PROTOCOL --help`."""


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(version("keyhole"))
        raise typer.Exit(0)


@app.callback()
def main(
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    show_tracebacks(debug)


@app.command("list")
def list_(
    kind: Annotated[
        str | None, typer.Argument(help="protocols, schemes, attacks, presets, defences or datasets.")
    ] = None,
) -> None:
    """List protocols, schemes, attacks, defences and data sets; of one KIND, what each is."""
    with reported():
        from scenarios.show.listing import show_list

        show_list(console(), kind, _DATASETS)


_DATASETS = {
    "digits": "1797 images of 8x8, part of scikit-learn (default)",
    "mnist": "70 000 images of 28x28; idx files in --data-dir, or fetched where a network exists",
    "mnist14": "the same, each 2x2 block of pixels as its mean: 14x14",
    "iris": "150 rows of 4 numbers, 3 classes, part of scikit-learn",
    "breast_cancer": "569 rows of 30 numbers, 2 classes, part of scikit-learn",
    "cifar10": "images of 32x32x3; files in --data-dir; --gray",
    "FILE.npz": "images, or X (N, features) of a table; labels or y, texts too; optionally test_images and "
    "test_labels, else a fifth is held out",
    "FILE.csv": "a table, or FILE.parquet (keyhole[tables]); classes in the last one, or in --class-column",
    "FOLDER/": "class folders of PNG or JPEG files of one size; with train/ and test/ or without",
}


@app.command()
def show(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN")],
    party: Annotated[str | None, typer.Option("--party", help="One party's view.")] = None,
    label: Annotated[str | None, typer.Option("--label", help="Messages of one label.")] = None,
    dump: Annotated[
        Path | None, typer.Option("--dump", help="Write the first matching payload here (.npy, else JSON).")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check the files against each other, then replay the run.")
    ] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Rows to print.")] = 40,
    offset: Annotated[int, typer.Option("--offset", min=0, help="Rows to leave out before.")] = 0,
    round_: Annotated[int | None, typer.Option("--round", min=0, help="Rows of one round.")] = None,
) -> None:
    """Show a transcript as a table, dump a payload, or verify a run."""
    with reported():
        from scenarios.run.folder import load_run
        from scenarios.run.status import incomplete
        from scenarios.show.inspect import dump_payload, rows_table, verified

        folder = load_run(run_folder)
        warned("" if verify else incomplete(folder))
        if verify:
            verified(folder, console())
        elif dump is not None:
            print(dump_payload(folder, party, label, dump))
        else:
            out = console()
            out.print(rows_table(folder, party, label, limit, offset, round_, out.width))


@app.command()
def figure(
    protocol: Annotated[str, typer.Argument(help=_NAMES)],
    mermaid: Annotated[bool, typer.Option("--mermaid", help="As a mermaid sequence diagram.")] = False,
) -> None:
    """Draw the message figure of a protocol."""
    with reported():
        from protocols.language.figure import as_mermaid, as_text
        from scenarios.run.catalogue import asked_for

        known = asked_for(protocol).protocol if protocol.endswith(".py") else find_protocol(protocol)
        drawn = known.FIGURE
        if not drawn:
            raise ConfigError(f"{protocol}: has no figure, as it is no protocol that could be run")
        print(as_mermaid(drawn) if mermaid else as_text(drawn))


@app.command()
def predict(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN")],
    dataset: Annotated[str | None, typer.Option("--dataset", help="The run's own if not given.")] = None,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Folder of the data set's files.")
    ] = None,
    samples: Annotated[int | None, typer.Option("--samples", min=1, help="At most so many.")] = None,
    runtime: Annotated[str, typer.Option("--runtime", metavar="[ray|inline]")] = "ray",
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the result; else RUN/predictions/N.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print prediction.json and nothing else.")] = False,
) -> None:
    """Ask a trained network about held-out samples, under the confidentiality of the protocol that trained
    it.
    """
    with reported():
        from scenarios.run.folder import load_run
        from scenarios.run.options import RUN_OPTIONS, converted
        from scenarios.run.predict import predict as ask
        from scenarios.run.predict import query
        from scenarios.show.summary import show_prediction

        where = converted(RUN_OPTIONS["runtime"], runtime).value
        folder, result = ask(query(load_run(run_folder), dataset, data_dir, samples, where, out))
        if as_json:
            print(json.dumps(result, indent=1))
        else:
            show_prediction(console(), folder, result)


@app.command(cls=Comparing)
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...")],
    as_json: Annotated[bool, typer.Option("--json", help="Print compare.json and nothing else.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Also write JSON, CSV and pictures into this folder.")
    ] = None,
) -> None:
    """Show finished runs side by side: accuracy, time, bytes, what each party saw. Without a RUN but with
    options of runs, such as --dataset digits: run every protocol first (keyhole run compare --help).
    """
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
            help="groups | digits | seeds | febo | mnist | cifar | mitig2 | owners | mitig1 | mitig1-mnist | "
            "gradient | gram | known | averages | noise | paillier | ckks | crowd | flower | fedsgd; all "
            "without any."
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
    flower: Annotated[
        str | None,
        typer.Option(
            "--flower", help="A Python that has flwr[simulation], for the benches flower and fedsgd."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Also write the figures here, as JSON.")] = None,
) -> None:
    """Measure the project's figures on this machine."""
    with reported():
        from scenarios.study.bench import run_benches
        from scenarios.study.bench_tools import Sizes

        run_benches(tuple(what or ()), Sizes(data_dir, samples, epochs, hidden, flower), out, console())


app.command()(sweep)
app.command()(matrix)
app.command()(reproduce)


def script(scenario: str) -> None:
    """Entry of `python -m scenarios.<scenario>`: the options of `keyhole run <scenario>`."""
    app(["run", scenario, *sys.argv[1:]], prog_name=f"python -m scenarios.{scenario}")
