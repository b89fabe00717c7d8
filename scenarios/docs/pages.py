"""A page for each protocol, attack and scheme: of its file, its figure, options, an audit and a small run.

Nothing on them is written by hand: what a file says of itself in its docstring, `SUMMARY` and `SECURITY`,
what an audit of a small instance and the ledger of a small run find, and those rows of the tables in docs/
that name it.
"""

from __future__ import annotations

import importlib
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from parties.adversary.catalogue import HEAD_ATTACKS, PRESETS, find_attack, summary
from parties.registry import find_protocol
from protocols.language.figure import Arrow
from protocols.language.options import as_plain, flag, options_of
from scenarios.docs.figure import as_svg
from scenarios.run.catalogue import asked_for, find_scenario
from scenarios.run.execute import execute
from scenarios.run.experiment import prepare
from scenarios.show.listing import SCHEMES
from scenarios.show.summary import meaning, size
from scenarios.show.terminal import dashed
from scenarios.show.units import moment
from scenarios.study.audits import audited

_SMALL: Mapping[str, Any] = MappingProxyType(
    {"samples": 48, "hidden": 32, "batch": 16, "epochs": 3, "seed": 7, "runtime": "inline"}
)
_OF = MappingProxyType({  # pairings, and heads, are dear
    "mitig1": {**_SMALL, "samples": 16, "hidden": 4, "batch": 8},
    "vertical_fe": {
        "samples": 16, "batch": 4, "epochs": 2, "target": 1, "owners": 2, "seed": 7, "runtime": "inline",
    },
    "he_train": {"dataset": "iris", "epochs": 1, "seed": 7, "runtime": "inline"},
    "reverse_he": {"seed": 7, "runtime": "inline", "queries": 20, "key_bits": 2048},
})  # fmt: skip


def protocol_page(name: str, rows: Rows) -> str:
    """Figure, what it promises, what the views determine, options, what a small run says and costs."""
    protocol = find_protocol(name)
    module = importlib.import_module(f"protocols.{name}")
    return "\n\n".join([
        f"# `{dashed(name)}`", f"{_sentence(protocol.SUMMARY)}",
        f"```\nkeyhole run {dashed(name)}\n```",
        "## Who says what to whom", as_svg(protocol.FIGURE, dashed(name)),
        "Dashed: in runs with the options in brackets only.",
        table(("phase", "from", "to", "label", "what it is", "only with"), map(_arrow, protocol.FIGURE)),
        "## What it promises", _sentence(protocol.SECURITY), prose(module.__doc__ or ""),
        "## What the views determine", *_audit(name), *_small_run(name),
        "## Options of its own", table(("option", "default", "what it does"), _options(protocol.Options)),
        *rows.naming(dashed(name)),
    ])  # fmt: skip


def attack_page(name: str, rows: Rows) -> str:
    """What it does, takes and assumes, by its file, and what was measured."""
    attack, said = find_attack(name), dashed(name)
    module: Any = importlib.import_module(_module_of(name, attack))
    takes = [] if name in HEAD_ATTACKS else [f"Takes from a view: {_kinds(attack.CONSUMES)}."]
    presets = [
        f"* `{dashed(key)}`: {each.describe()}" for key, each in PRESETS.items() if each.attack == name
    ]
    return "\n\n".join([
        f"# `{said}`", _sentence(summary(name)), f"```\nkeyhole attack RUN --attack {said}\n```", *takes,
        *(["Presets that use it:", "\n".join(presets)] if presets else []),
        "## How, by its file", prose(module.__doc__ or ""), *rows.naming(name),
    ])  # fmt: skip


def scheme_page(name: str, rows: Rows) -> str:
    """Security, algorithms, parameters and deviations, by its file, and what was measured."""
    file, about = next((file, about) for file, (scheme, about) in SCHEMES.items() if scheme == name)
    module: Any = importlib.import_module(f"protocols.crypto.{file}")
    return "\n\n".join([
        f"# `{name}`", _sentence(about), f"**Security.** {_sentence(module.SECURITY)}",
        "## How, by its file", prose(module.__doc__ or ""), *rows.naming(name),
    ])  # fmt: skip


class Rows:
    """The rows of tables in pages, by what their first two cells name."""

    def __init__(self, pages: Mapping[str, str]) -> None:
        """`pages`: markdown by file name."""
        self._rows = [
            (page, cells)
            for page, text in pages.items()
            for cells in map(_cells, text.splitlines())
            if len(cells) > 1 and not set("".join(cells)) <= set("-: ")
        ]

    def naming(self, name: str) -> list[str]:
        """The rows that name it in backticks, as a section; empty if there are none."""
        word = re.compile(rf"`(--attack |--scheme )?{re.escape(name).replace('_', '[-_]')}\b[^`]*`")
        found = [(page, cells) for page, cells in self._rows if word.search(" ".join(cells[:2]))]
        if not found:
            return []
        listed = [
            f"* {_LINK.sub('](../', ': '.join(filter(None, cells)))} "
            f"([{page.removesuffix('.md')}](../{page}))"
            for page, cells in found
        ]
        return ["## What the tables of these pages say", "\n".join(listed)]


_LINK = re.compile(r"\]\((?=[\w-]+\.md)")  # to another page of docs/, of which made pages are a folder below


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(_cell(value) for value in line)} |" for line in lines)


def prose(text: str) -> str:
    """A docstring as markdown: what is indented stays as it is, and `<` is no tag."""
    lines, block = list[str](), False
    for line in text.strip().splitlines():
        indented = line.startswith("    ")
        if indented != block and lines and lines[-1]:
            lines.append("")
        bullet = (
            not indented and line.startswith("* ") and bool(lines) and not lines[-1].startswith(("* ", "  "))
        )
        if bullet and lines[-1]:
            lines.append("")
        block = indented if line.strip() else block
        lines.append(line if indented else _escaped(line))
    return "\n".join(lines)


def _escaped(line: str) -> str:
    parts = line.split("`")
    return "`".join(
        part if number % 2 else part.replace("<", "&lt;").replace("[", "\\[")
        for number, part in enumerate(parts)
    )


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:].rstrip('.')}.".replace("<", "&lt;")


def _arrow(arrow: Arrow) -> tuple[str, ...]:
    return (arrow.phase, arrow.sender.value, arrow.receiver.value, f"`{arrow.label}`", arrow.note,
            arrow.when.replace(",", ", "))  # fmt: skip


def _module_of(name: str, attack: Any) -> str:
    if name in HEAD_ATTACKS:
        return f"parties.adversary.heads.{HEAD_ATTACKS[name]}"
    return f"parties.adversary.{getattr(attack, 'module', f'attacks.{name}')}"


def _kinds(kinds: Iterable[Any]) -> str:
    names = [
        " or ".join(f"`{part.__name__}`" for part in getattr(kind, "__args__", (kind,))) for kind in kinds
    ]
    return ", ".join(names) + " (relations, `protocols/language/relations.py`)"


def _options(options: Any) -> Iterable[tuple[str, str, str]]:
    """Those that the protocol's class declares beyond what every training has."""
    for each in options_of(options).values():
        default = "" if each.default is None else dashed(str(as_plain(each.default)))
        yield f"`{each.flag}`", default, each.about.help


_SIZES = ("features", "counts", "layers", "batch", "epochs")


def _audit(name: str) -> list[str]:
    found = audited(asked_for(name), {})
    rows = [
        (" + ".join(finding["parties"]), answer["name"], f"{answer['determined']} of {answer['total']}",
         answer["verdict"], "" if answer["since"] is None else moment(*answer["since"]))
        for finding in found["findings"] for answer in finding["quantities"]
        if answer["determined"] or answer["undecided"]
    ]  # fmt: skip
    sizes = ", ".join(f"{key} {found['config'][key]}" for key in _SIZES if key in found["config"])
    columns = ("view", "what", "determined", "verdict", "since")
    return [
        f"By `keyhole audit {dashed(name)}`: {sizes}; {found['arithmetic']}. A view, or the views of parties "
        "together, and what of the others' secrets follows from it; what is not listed was not found "
        "determined there.",
        table(columns, rows) if rows else "No view determines any.",
    ]


def _small_run(name: str) -> list[str]:
    given = _OF.get(name, _SMALL)
    with tempfile.TemporaryDirectory(prefix="keyhole-docs-") as folder:
        experiment = prepare(find_scenario(name), {**given, "out": str(Path(folder) / "run")})
        _, result = execute(experiment)
    said = " ".join(flag(key) if value is True else f"{flag(key)} {value}" for key, value in given.items())
    edges = [
        (edge["sender"], edge["receiver"], f"`{edge['label']}`", edge["messages"], size(edge["bytes"]))
        for edge in result["traffic"]
    ]
    lines = [
        (row["party"], meaning(row["quantity"]), row["of"], row["how"], _number(row["since_round"]))
        for row in result["learned"]
    ]
    return [
        "## What the ledger of a small run says",
        f"`keyhole run {dashed(name)} {said}`, its lines of knowledge, held against an audit (words as in "
        "[Who learned what](../who-learned-what.md)):",
        table(("party", "what", "of", "how", "since step"), lines),
        "## What it sends",
        "In the same run:",
        table(("from", "to", "label", "messages", "bytes"), edges),
    ]


def _number(round: int | None) -> str:
    return "" if round is None else str(round)
