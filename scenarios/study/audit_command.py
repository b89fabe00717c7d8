"""`keyhole audit PROTOCOL`: what the view of each party, and of each pair, determines on a small instance."""

from __future__ import annotations

import json
import time
from functools import partial
from typing import Any

from protocols.language.options import as_plain
from scenarios.run.catalogue import asked_for
from scenarios.run.command import Scenarios, command
from scenarios.run.experiment import Scenario
from scenarios.show.terminal import console, reported
from scenarios.study.audit_instance import audit_options, small_instance


class Audits(Scenarios):
    """The protocols as commands, with the options of their instance."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [name for name in super().list_commands(ctx) if name != "compare"]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        with reported():
            scenario = asked_for(cmd_name)
            about = f"What each view determines: {scenario.protocol.SUMMARY}"
            return command(cmd_name, audit_options(scenario), partial(audit_scenario, scenario), about)


def audit_scenario(scenario: Scenario, given: dict[str, Any]) -> None:
    """Audit, and print or write what was found."""
    from parties.audit.audit import audit
    from scenarios.show.audit_table import draw_audit, show_audit

    as_json, out = given.pop("json", None), given.pop("out", None)
    began = time.perf_counter()
    instance, experiment = small_instance(scenario, given)
    report = audit(instance)
    content = as_content(scenario, experiment, report, time.perf_counter() - began)
    if out is not None:
        draw_audit(out, content)
    if as_json:
        print(json.dumps(content, indent=1))
    else:
        show_audit(console(), content)


def as_content(scenario: Scenario, experiment: Any, report: Any, seconds: float) -> dict[str, Any]:
    """The findings as plain data."""
    return {
        "protocol": scenario.protocol.NAME,
        "config": as_plain(experiment.config),
        "arithmetic": "float64, ideal functionalities over the reals: no cryptography was run",
        "runs": report.runs,
        "seconds": round(seconds, 2),
        "findings": [_finding(each) for each in report.findings],
    }


def _finding(found: Any) -> dict[str, Any]:
    return {
        "parties": list(found.coalition),
        "unknowns": found.unknowns,
        "rank": found.rank,
        "gap": found.gap,
        "decided": found.decided,
        "steps_only": list(found.steps),
        "moments": [list(moment) for moment in found.moments],
        "quantities": [
            {
                "name": each.name, "total": each.total, "determined": each.determined,
                "undecided": each.undecided, "verdict": each.verdict, "residual": each.residual,
                "first": None if each.since is None else list(each.since[0]),
                "since": None if each.since is None else list(each.since[1]),
                "curve": list(each.curve),
            }
            for each in found.answers
        ],
    }  # fmt: skip
