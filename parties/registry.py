"""Protocols by name: the project's own, those of installed packages, and files that a user wrote.

A file is known by its path and the SHA-256 of what was loaded. `Source` names both; a process that is sent
one imports the file before it reads what else it was sent, so that parties in processes of their own know the
file's steps and classes.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import os
import re
import sys
from dataclasses import dataclass
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from protocols.language.confine import check_module
from protocols.language.errors import ConfigError, DataError
from protocols.language.options import from_plain
from protocols.language.protocol import ProtocolFile, completed

PROTOCOLS = ("plain", "plain_fe", "mitig1", "mitig2", "fedsgd", "vertical_fe", "he_train", "reverse_he")
RECORDED = "recorded"  # whose transcripts are read, and which nobody runs
_files: dict[Source, ModuleType] = {}


@dataclass(frozen=True)
class Source:
    """A file that holds a protocol or an attack: where it is, and the SHA-256 of its text."""

    path: str
    sha256: str

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return opened, (self.path, self.sha256)


def opened(path: str, sha256: str = "") -> Source:
    """Import a file, once in a process; `DataError` if it is missing, or its SHA-256 is another than the
    given one.
    """
    try:
        if Path(path).exists() and not Path(path).is_file():  # a fifo would be waited for
            raise DataError(f"{path}: not a file")
        text = Path(path).read_bytes()
    except OSError as cause:
        raise DataError(f"{path}: cannot be read: {cause.strerror}") from None
    source = Source(str(Path(path).resolve()), hashlib.sha256(text).hexdigest())
    if sha256 and sha256 != source.sha256:
        raise DataError(
            f"{path}: changed since the run (SHA-256 {source.sha256[:12]}..., then {sha256[:12]}...); "
            "restore it to go on"
        )
    if source not in _files:
        _files[source] = _imported(source, text)
    return source


def _imported(source: Source, text: bytes) -> ModuleType:
    stem = "".join(c if c.isalnum() else "_" for c in Path(source.path).stem)
    module = ModuleType(f"{stem}_{source.sha256[:8]}")
    module.__file__ = source.path
    sys.modules[module.__name__] = module  # dataclasses and pickled classes look it up
    try:
        exec(compile(text, source.path, "exec"), module.__dict__)
    except Exception as cause:
        del sys.modules[module.__name__]
        raise ConfigError(f"{source.path}: cannot be imported: {type(cause).__name__}: {cause}") from None
    if hasattr(module, "FIGURE"):
        check_module(module)  # before any of its steps runs, in every process that runs them
    return module


def module_of(source: Source) -> ModuleType:
    """The module that a file became."""
    return _files[source]


def source_of(protocol: Any) -> Source | None:
    """The file that a protocol was imported from; None for those of the project and of installed packages."""
    return next((source for source, module in _files.items() if module is protocol), None)


def sources() -> tuple[Source, ...]:
    """The files that this process has opened."""
    return tuple(_files)


def find_protocol(name: str) -> ProtocolFile:
    """A protocol by its name, `-` and `_` are the same; a file has one once it was opened. `ConfigError`
    lists the names.
    """
    plain = name.replace("-", "_")
    if plain in (*PROTOCOLS, RECORDED):
        return completed(importlib.import_module(f"protocols.{plain}"))
    module = of_others(plain, "FIGURE", "keyhole.protocols")
    if module is None:
        known = ", ".join(each.replace("_", "-") for each in PROTOCOLS)
        raise ConfigError(f"unknown protocol {name!r}; known: {known}, or the path of a file")
    check_module(module)
    return completed(module)


def said(module: str, *names: str) -> list[str]:
    """What a module of the project says of itself in constants at its top, such as `SUMMARY`: read from its
    text, as importing it may take seconds.
    """
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ConfigError(f"there is no module {module}")
    top = re.split(r"\n(?:def |class |@)", Path(spec.origin).read_text(encoding="utf-8"), maxsplit=1)[0]
    values = {
        target.id: node.value
        for node in ast.parse(top).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return [str(ast.literal_eval(values[name])) for name in names]


def of_others(name: str, has: str, group: str) -> ModuleType | None:
    """The module of this `NAME` that a file became, or that an installed package offers; `has` tells what it
    is.
    """
    for module in reversed(_files.values()):
        if getattr(module, "NAME", None) == name and hasattr(module, has):
            return module
    installed = entry_points(group=group)
    return installed[name].load() if name in installed.names else None


def installed() -> tuple[str, ...]:
    """Protocols of installed packages."""
    return tuple(sorted(entry_points(group="keyhole.protocols").names))


def read_config(protocol: str, plain: dict[str, Any]) -> Any:
    """The configuration that a run of this protocol wrote down; `ConfigError` if it is none."""
    return from_plain(find_protocol(protocol).Options, plain)


def trust(source: Source) -> None:
    """Remember that the user of this machine named a file, and so has had it run."""
    folder = _trusted()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / source.sha256).touch()


def reopen(path: str, sha256: str) -> Source:
    """Import the file of a stored run, if the user of this machine has ever named it: a run folder may be
    somebody else's.
    """
    if not (_trusted() / sha256).exists():
        raise DataError(
            f"{path}: is code, and was never run here; read it, and then name it once: keyhole figure {path}"
        )
    return opened(path, sha256)


def _trusted() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "keyhole" / "files"
