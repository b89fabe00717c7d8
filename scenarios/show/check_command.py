"""`keyhole check`: hold a run against a policy, for continuous integration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from scenarios.show.terminal import reported


def check(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN")],
    policy: Annotated[Path, typer.Option("--policy", help="A TOML file of rules: party, quantity, at_most.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdicts as JSON.")] = False,
) -> None:
    """Fail, with status 1, if a party learned more than a policy allows; names the message that broke it."""
    with reported():
        from scenarios.run import check as checks
        from scenarios.run.folder import load_run
        from scenarios.show.printable import printable

        held = checks.check(load_run(run_folder), checks.read_policy(policy), policy)
        if as_json:
            print(json.dumps(checks.as_json(held), indent=1))
        else:
            lines = [f"broken  {held.unfinished}"] if held.unfinished else []
            order = sorted(held.verdicts, key=lambda verdict: verdict.holds)
            for line in (*lines, *map(checks.said, order)):
                print(printable(line))
        if not held.holds:
            raise typer.Exit(1)
