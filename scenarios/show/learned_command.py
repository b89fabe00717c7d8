"""`keyhole learned` and `keyhole coalitions`: who knows what after a run, and who has to collude to know
more.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from scenarios.show.terminal import console, reported, warned


def learned(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN")],
    corrupt: Annotated[
        str | None,
        typer.Option(
            "--corrupt", help="A coalition, such as cloud_trainer,data_owner:2; every role by itself without."
        ),
    ] = None,
    no_audit: Annotated[bool, typer.Option("--no-audit", help="Do not ask a small instance.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the lines as JSON.")] = False,
) -> None:
    """Say what each party learned, since which step, of how much, computed anew from the views."""
    with reported():
        from parties.adversary.adversary import Adversary
        from scenarios.run import learned as knowledge
        from scenarios.run.experiment import parties_named
        from scenarios.run.folder import load_run
        from scenarios.run.status import incomplete
        from scenarios.show.charts import draw_knowledge
        from scenarios.show.summary import learned_table, matrix_table

        folder = load_run(run_folder)
        warned(incomplete(folder))
        coalition = () if corrupt is None else parties_named((corrupt,))
        lines = knowledge.learned(folder, Adversary, coalition)
        rows = knowledge.learned_rows(lines if no_audit else knowledge.held_against_audit(folder, lines))
        if as_json:
            print(json.dumps(rows, indent=1))
            return
        out, picture = console(), draw_knowledge(folder.path, rows)
        asked = ", ".join(coalition)
        out.print(matrix_table(rows, [asked] if asked else list(dict.fromkeys(row["party"] for row in rows))))
        out.print()
        out.print(learned_table(rows, out.width))
        if picture is not None:
            print(picture)


def coalitions(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN")],
    as_json: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False,
) -> None:
    """Find the smallest coalitions that read another owner's samples exactly."""
    with reported():
        from parties.adversary.adversary import Adversary
        from scenarios.run.folder import load_run
        from scenarios.run.learned import learned_rows, smallest_coalitions
        from scenarios.run.status import incomplete
        from scenarios.show.summary import coalition_table

        folder = load_run(run_folder)
        warned(incomplete(folder))
        found = smallest_coalitions(folder, Adversary)
        rows = [{"coalition": list(f.coalition), "reads": f.reads,
                 "line": None if f.line is None else learned_rows([f.line])[0]} for f in found]  # fmt: skip
        if as_json:
            print(json.dumps(rows, indent=1))
        else:
            out = console()
            out.print(coalition_table(rows, out.width))
