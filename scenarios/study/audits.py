"""What an audit of a small instance says: of each view what it determines, rebuilds and depends on."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from parties.audit.audit import Finding, audit
from parties.audit.rebuild import rebuild
from protocols.language.options import as_plain
from scenarios.run.experiment import Scenario
from scenarios.run.small import sizes_of, small_experiment, small_instance
from scenarios.study.audit_influence import influence

_ARITHMETIC = "float64, rounding left out, schemes by their ideal functionality over the reals"
_SECRETS = {"images": "one image", "labels": "one label"}


def audited(scenario: Scenario, given: dict[str, Any]) -> dict[str, Any]:
    """What an audit says, as plain data."""
    began, sizes = time.perf_counter(), sizes_of(scenario, given)
    with tempfile.TemporaryDirectory(prefix="keyhole-audit-") as name:
        folder = Path(name)
        experiment = small_experiment(scenario, given, folder)
        instance = small_instance(experiment)
        report = audit(instance)
        found = {} if not sizes.influence else {
            _SECRETS[what]: small_experiment(scenario, given, folder, what) for what in _SECRETS
        }  # fmt: skip
        lines = influence(experiment, found, folder) if found else []
        rebuilt = {
            each.coalition: rebuild(instance, each.coalition, sizes.rebuild)
            for each in report.findings if sizes.rebuild and worth_rebuilding(each)
        }  # fmt: skip
    return {
        "protocol": scenario.protocol.NAME,
        "config": as_plain(experiment.config),
        "arithmetic": _ARITHMETIC,
        "runs": report.runs,
        "seconds": round(time.perf_counter() - began, 2),
        "findings": [_finding(each) for each in report.findings],
        "rebuilt": [{"parties": list(parties), "starts": [_start(start) for start in starts]}
                    for parties, starts in rebuilt.items()],
        "influence": [{**as_plain(each), "side_channel": each.side_channel} for each in lines],
    }  # fmt: skip


def worth_rebuilding(finding: Finding) -> bool:
    """Whether something that was put in follows from what was seen."""
    return finding.rank > 0 and any(each.determined for each in finding.answers)


def _start(start: Any) -> dict[str, Any]:
    return {"fits": start.fits, "residual": start.residual, "errors": start.errors, "said": start.said()}


def _finding(found: Finding) -> dict[str, Any]:
    return {
        "parties": list(found.coalition),
        "unknowns": found.unknowns,
        "rank": found.rank,
        "gap": None if found.rank == 0 else found.gap,
        "decided": found.decided,
        "in_steps": list(found.steps),
        "left_out": list(found.left_out),
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
