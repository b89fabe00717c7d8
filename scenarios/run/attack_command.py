"""`keyhole attack`: attack a stored transcript again, offline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from scenarios.run.options import Measure
from scenarios.show.terminal import console, reported, warned


def attack(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN")],
    attack: Annotated[list[str], typer.Option("--attack", help="An attack or a preset; repeatable.")],
    corrupt: Annotated[
        str, typer.Option("--corrupt", help="Such as cloud_trainer,data_owner:2; a preset names its own.")
    ] = "cloud_trainer",
    period: Annotated[int | None, typer.Option("--period", min=1, help="Of lp's smoothness rows.")] = None,
    threshold: Annotated[
        int | None, typer.Option("--threshold", min=0, help="Of lp's smoothness rows.")
    ] = None,
    known: Annotated[
        int | None, typer.Option("--known", min=0, help="Training samples that the adversary knows.")
    ] = None,
    when: Annotated[
        bool, typer.Option("--when", help="Find the first message after which the attack succeeds.")
    ] = False,
    controls: Annotated[
        bool,
        typer.Option(
            "--controls", help="Run the protocol again on swapped and on simulated samples, and attack that."
        ),
    ] = False,
    measure: Annotated[
        Measure | None,
        typer.Option(
            "--measure", help="The accuracy of a fresh network that is trained on what was rebuilt."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the rows as JSON.")] = False,
) -> None:
    """Attack a stored transcript again, offline: the attack sees the stored view and nothing else."""
    with reported():
        from parties.adversary.adversary import Adversary
        from scenarios.run.attacks import attack_run
        from scenarios.run.controls import with_controls
        from scenarios.run.experiment import attack_named, parties_named
        from scenarios.run.folder import load_run
        from scenarios.run.moment import with_moments
        from scenarios.run.status import incomplete
        from scenarios.show.summary import (
            attack_table,
            control_table,
            moment_table,
            protection,
            retrained_table,
        )

        folder, corrupted = load_run(run_folder), parties_named((corrupt,))
        warned(incomplete(folder))
        names, prior = tuple(dict.fromkeys(map(attack_named, attack))), folder.prior(period, threshold, known)
        rows = attack_run(folder, names, corrupted, prior, Adversary, 0, measure)
        rows = with_moments(folder, rows, prior) if when else rows
        rows = with_controls(folder, rows, prior) if controls else rows
        if as_json:
            print(json.dumps(rows, indent=1))
            return
        out, finished = console(), (folder.path / "result.json").exists()
        out.print(attack_table(rows, protection(folder.result) if finished else "", out.width))
        if measure:
            out.print(retrained_table(rows))
        if when:
            out.print(moment_table(rows))
        if controls:
            out.print(control_table(rows))
        for row in rows:
            if row.get("figure"):
                print(f"{folder.path / row['figure']}")
