"""`keyhole audit PROTOCOL`: what the view of each party, and of each pair, determines on a small instance."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from parties.registry import PROTOCOLS
from scenarios.run.command import Scenarios, command
from scenarios.show.terminal import console, dashed

if TYPE_CHECKING:
    from scenarios.run.experiment import Scenario


class Audits(Scenarios):
    """The protocols as commands, with the options of their instance."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(map(dashed, PROTOCOLS))

    def about(self, summary: str) -> str:
        return f"What each view determines of: {summary}"

    def made(self, name: str, scenario: Scenario) -> Any:
        from scenarios.run.small import audit_options

        about = self.about(scenario.protocol.SUMMARY)
        return command(name, audit_options(scenario), partial(audit_scenario, scenario), about)


def audit_scenario(scenario: Scenario, given: dict[str, Any]) -> None:
    """Audit, and print or draw what was found."""
    from scenarios.show.audit_table import draw_audit, show_audit
    from scenarios.study.audits import audited

    content = audited(scenario, given)
    if given.get("out") is not None:
        draw_audit(given["out"], content)
    if given.get("json"):
        print(json.dumps(content, indent=1))
    else:
        show_audit(console(), content)
