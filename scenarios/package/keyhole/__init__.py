"""Keyhole from Python, as from the command line: run a protocol, look at views, attack, audit.

    import keyhole

    run = keyhole.run("mitig2", dataset="digits", samples=140, epochs=12, runtime="inline")
    run.answer                         # who reads what, in a sentence
    run.learned()                      # the ledger: a table in a notebook
    run.attack("lattice_gram")         # rows of result.json; pictures in a notebook
    run.view("cloud_trainer")["z1"]    # what crossed, as arrays

    with keyhole.record("runs/mine", roles=("data_owner:0", "cloud_trainer"), shape=(8, 8)) as r:
        r.send("data_owner:0", "cloud_trainer", z1=activations)    # of code that is not written here

Options are those of `keyhole run SCENARIO --help`, with `_` for `-`; choices are texts. What cannot be
carried out raises a subclass of `KeyholeError` with one line. Not for production secrets.
"""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from protocols.language.errors import ConfigError, KeyholeError
from protocols.language.statements import steps
from scenarios.recorder.flower import gather
from scenarios.recorder.recorder import record
from scenarios.recorder.torch_hook import Sgd, watch
from scenarios.run.folder import RunFolder, load_run
from scenarios.show.units import moment

__all__ = [
    "Attacks", "Audit", "KeyholeError", "Rows", "Run", "Sgd", "audit", "gather", "load", "record", "run",
    "steps", "watch",
]  # fmt: skip

_HEIGHT = 720  # pixels of a page in a notebook


class Rows(list[dict[str, Any]]):
    """Rows of result.json, which a notebook shows as a table of the keys in `columns`."""

    def __init__(self, rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
        super().__init__(rows)
        self.columns = tuple(columns)

    def _repr_html_(self) -> str:
        heads = "".join(f"<th>{html.escape(name.replace('_', ' '))}</th>" for name in self.columns)
        lines = ("".join(f"<td>{self._cell(row, name)}</td>" for name in self.columns) for row in self)
        body = "".join(f"<tr>{line}</tr>" for line in lines)
        return f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"

    def _cell(self, row: dict[str, Any], name: str) -> str:
        value = row.get(name)
        return "" if value is None else html.escape(str(value))


class Attacks(Rows):
    """Rows of attacks, with what came of them, and originals, the prior's guess and rebuilt images below one
    another.
    """

    def __init__(self, rows: Sequence[dict[str, Any]], run: RunFolder) -> None:
        measured = ("retrained",) if any("retrained" in row for row in rows) else ()
        super().__init__(rows, ("attack", "outcome", *measured, "images"))
        self._run = run

    def _cell(self, row: dict[str, Any], name: str) -> str:
        from scenarios.page.page import sprite_of
        from scenarios.show.summary import outcome, why_not, worth

        if name == "outcome":
            return html.escape(outcome(row) if row["applicable"] else why_not(row))
        if name == "retrained":
            return html.escape(worth(row))
        if name != "images":
            return super()._cell(row, name)
        sprite = sprite_of(self._run, row.get("sprite"))
        if sprite is None:
            return ""
        said = "originals, the prior's guess, rebuilt"
        style = f"image-rendering: pixelated; width: {sprite['columns'] * 48}px; max-width: none"
        return f'<img src="{sprite["url"]}" alt="{said}" style="{style}">'


class Audit(dict[str, Any]):
    """What `keyhole audit --json` prints, which a notebook shows as a table."""

    def _repr_html_(self) -> str:
        rows = [
            {"party": " + ".join(finding["parties"]), **answer, "since": _moment(answer["since"])}
            for finding in self["findings"]
            for answer in finding["quantities"]
        ]
        return Rows(rows, ("party", "name", "determined", "total", "verdict", "since"))._repr_html_()


class Run(RunFolder):
    """A run on disk, finished or not."""

    @property
    def answer(self) -> str:
        """Who reads what was to stay private, since when, and what it cost, in a few sentences."""
        from scenarios.page.answer import answer

        return answer(self.result)

    def learned(self, *parties: str) -> Rows:
        """Who knows what, computed anew: for every role, or for the coalition of `parties`."""
        from parties.adversary.adversary import Adversary
        from scenarios.run.experiment import parties_named
        from scenarios.run.learned import held_against_audit, learned, learned_rows

        lines = learned(self, Adversary, parties_named(parties) if parties else ())
        shown = ("party", "quantity", "of", "how", "since_round", "detail")
        return Rows(learned_rows(held_against_audit(self, lines)), shown)

    def attack(
        self, *attacks: str, corrupt: str | Sequence[str] = "cloud_trainer", known: int | None = None,
        measure: str | None = None,
    ) -> Attacks:  # fmt: skip
        """Attack the stored view of `corrupt`, which is all that the attacks see; a row for each.

        `measure="retrain"`: also the accuracy of a fresh network that is trained on what was rebuilt.
        """
        from parties.adversary.adversary import Adversary
        from scenarios.run.attacks import attack_run
        from scenarios.run.experiment import attack_named, parties_named
        from scenarios.run.options import RUN_OPTIONS, converted

        corrupted = parties_named((corrupt,) if isinstance(corrupt, str) else tuple(corrupt))
        asked = None if measure is None else converted(RUN_OPTIONS["measure"], measure)
        names, prior = tuple(map(attack_named, attacks)), self.prior(known=known)
        rows = attack_run(self, names, corrupted, prior, Adversary, 0, asked)
        return Attacks(rows, self)

    def report(self) -> Path:
        """Write `report.html` anew, and return where it is."""
        from scenarios.page.page import write_report

        return write_report(self)

    def _repr_html_(self) -> str:
        from scenarios.page.page import page

        if not self.recorded and not (self.path / "result.json").exists():
            return f"<p>{html.escape(str(self.path))}: not finished</p>"
        text = html.escape(page([self]))
        style = f"width: 100%; height: {_HEIGHT}px; border: 0"
        return f'<iframe sandbox="allow-scripts" srcdoc="{text}" style="{style}"></iframe>'


def run(scenario: str, *, progress: bool = False, **options: Any) -> Run:
    """Carry out a run of a scenario, or of a protocol in a file, and return it.

    `options` are those of the command line: `epochs=5`, `labels="owner"`, `attack=["stack", "labels"]`,
    `defence=["noise:10"]`.
    """
    from scenarios.page.page import write_report
    from scenarios.run.catalogue import asked_for
    from scenarios.run.execute import execute
    from scenarios.run.experiment import prepare
    from scenarios.show.terminal import progress_of

    experiment = prepare(asked_for(scenario), _given(options))
    with progress_of(experiment.steps, silent=not progress) as observe:
        folder, _ = execute(experiment, observe)
    write_report(folder)
    return Run(folder.path)


def load(path: str | os.PathLike[str]) -> Run:
    """A stored run; `DataError` if there is none at this path."""
    return Run(load_run(Path(path)).path)


def audit(protocol: str, **options: Any) -> Audit:
    """What each view determines of the others' secrets on a small instance, found without an attack."""
    from scenarios.run.catalogue import asked_for
    from scenarios.study.audits import audited

    return Audit(audited(asked_for(protocol), _given(options)))


def _moment(since: list[Any] | None) -> str:
    return "" if since is None else moment(*since)


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """Options as the command line hands them on: lists as tuples."""
    for name in options:
        if "-" in name:
            raise ConfigError(f"write {name.replace('-', '_')} for {name}")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
