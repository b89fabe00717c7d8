"""`keyhole doctor`: what is missing on this machine, and how to mend it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from scenarios.show.tables import table
from scenarios.show.terminal import console, reported

_SAID = {"ok": "ok", "advice": "could be better", "missing": "MISSING"}


def doctor(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the checks as JSON and nothing else.")
    ] = False,
) -> None:
    """Check what a run needs of this machine; exit status 1 where something is missing."""
    with reported():
        from scenarios.run.doctor import checks

        found = checks()
        bad = any(check.state == "missing" for check in found)
        if as_json:
            print(json.dumps({"ready": not bad, "checks": [asdict(check) for check in found]}, indent=1))
        else:
            out = console()
            out.print(
                table(("", "", "found"), [(each.name, _SAID[each.state], each.found) for each in found])
            )
            for each in found:
                if each.state != "ok":
                    out.print(f"\n{each.name}: {each.found}\n  to mend it: {each.mend}", soft_wrap=True)
            out.print("\nready to run" if not bad else "\nnot ready to run", style="bold")
        if bad:
            raise typer.Exit(1)
