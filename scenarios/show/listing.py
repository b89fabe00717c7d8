"""`keyhole list`: what there is, on one screen; of one kind what each is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import MappingProxyType

from rich.console import Console
from rich.table import Table

from parties.registry import PROTOCOLS, find_protocol, installed, said
from protocols.crypto.groups.named import GROUPS, PAIRINGS
from protocols.language.errors import ConfigError
from scenarios.show.tables import table
from scenarios.show.terminal import dashed

SCHEMES = MappingProxyType({  # by file: the name, and what it is
    "ipfe_lwe": ("lwe", "inner products over Z_2^64 (default)"),
    "ipfe_rlwe": ("rlwe", "inner products of whole batches"),
    "ipfe_ddh": ("ddh", f"inner products; --group {' | '.join(GROUPS)}"),
    "fhipe": ("fhipe", f"function-hiding inner products, of mitig1; --group {' | '.join(PAIRINGS)}"),
    "qfe": ("qfe", "quadratic forms, of vertical-fe"),
    "ckks": ("ckks", "approximate arithmetic, of he-train; needs keyhole[he]"),
    "febo": ("febo", "labels element by element: --labels febo"),
    "paillier": ("paillier", "encrypted heads, of reverse-he; --key-bits 3072 | 2048"),
})  # fmt: skip

Listed = Iterator[tuple[str, str, str]]  # name, what it is, security


def show_list(console: Console, kind: str | None, datasets: Mapping[str, str]) -> None:
    """Print names by kind, or of one kind what each is and what its security is."""
    kinds: dict[str, Callable[[], Listed]] = {**_KINDS, "datasets": partial(_datasets, datasets)}
    if kind is not None:
        if kind not in kinds:
            raise ConfigError(f"unknown kind {kind!r}; known: {', '.join(kinds)}")
        rows = [*kinds[kind]()]
        columns = (
            ("name", "what it is", "security") if any(row[2] for row in rows) else ("name", "what it is")
        )
        found = table(columns, [row[: len(columns)] for row in rows])
        found.columns[0].no_wrap = True
        console.print(found)
        return
    names = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    names.add_column(no_wrap=True)
    names.add_column()
    for each, listed in kinds.items():
        names.add_row(each, "  ".join(name.replace(" ", "\u00a0") for name, _, _ in listed()))
    names.add_row("scenarios", "every protocol, compare, or the path of a FILE.py: keyhole run SCENARIO")
    console.print(names)
    console.print("\nWhat each is, and its security: keyhole list KIND, such as keyhole list attacks")


def _protocols() -> Listed:
    for name in PROTOCOLS:
        summary, security = said(f"protocols.{name}", "SUMMARY", "SECURITY")
        yield dashed(name), summary, security
    for name in installed():
        module = find_protocol(name)
        yield dashed(name), module.SUMMARY, module.SECURITY


def _schemes() -> Listed:
    for file, (name, about) in SCHEMES.items():
        yield name, about, *said(f"protocols.crypto.{file}", "SECURITY")  # type: ignore[misc]


def _attacks() -> Listed:
    from parties.adversary.catalogue import ATTACKS, HEAD_ATTACKS, summary

    for name in (*ATTACKS, *HEAD_ATTACKS):
        yield dashed(name), summary(name), ""


def _presets() -> Listed:
    from parties.adversary.catalogue import PRESETS
    from scenarios.run.options import Preset, preset_told

    for name, preset in PRESETS.items():
        yield dashed(name), preset.describe(), ""
    for options in Preset:
        yield f"--preset {options.value}", preset_told(options), ""


def _defences() -> Listed:
    from protocols.parts.defences import DEFENCES

    for name, defence in DEFENCES.items():
        fits = f"of {', '.join(map(dashed, defence.protocols))}: {defence.meaning}"
        yield dashed(name) + (":VALUE" if defence.takes_value else ""), fits, ""


def _datasets(datasets: Mapping[str, str]) -> Listed:
    return ((name, about, "") for name, about in datasets.items())


_KINDS: dict[str, Callable[[], Listed]] = {
    "protocols": _protocols, "schemes": _schemes, "attacks": _attacks, "presets": _presets,
    "defences": _defences,
}  # fmt: skip
