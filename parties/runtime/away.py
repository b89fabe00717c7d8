"""A host on another node than the driver's: it writes there, and at its end its files come to the driver.

No file is taken to be seen by two nodes, also where a network file system would carry it: SQLite's log of
writes needs a local one. Files come in pieces, so that memory is bounded.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from parties.runtime.host import HostSpec

_PIECE = 16 << 20  # bytes
_TRANSCRIPT, _LOG, _STATE, _RESTORED = "transcript", "log", "state", "restored"


class Away:
    """The folder of a host, on its own node."""

    def __init__(self, spec: HostSpec, run: str, restored: Mapping[str, bytes]) -> None:
        """`run` names the run, and nobody can guess it; `restored`: what the host's parties kept of another
        run. What one left here that died, of the same run and name, is removed.
        """
        self.folder = Path(tempfile.gettempdir()) / f"keyhole-{run}-{spec.name}"
        self.remove()
        self.folder.mkdir(mode=0o700)
        spec = replace(spec, transcript=str(self.folder / _TRANSCRIPT), log=str(self.folder / _LOG))
        self.spec = replace(
            spec,
            state=spec.state and str(self.folder / _STATE),
            restored=spec.restored and str(self.folder / _RESTORED),
            checkpoints=None,
        )
        if restored:
            (self.folder / _RESTORED).mkdir()
        for party, content in restored.items():
            (self.folder / _RESTORED / party).write_bytes(content)

    def files(self) -> tuple[str, ...]:
        """What the driver fetches."""
        written = (path for path in self.folder.rglob("*") if path.is_file())
        return tuple(
            str(path.relative_to(self.folder)) for path in sorted(written) if path.parent.name != _RESTORED
        )

    def read(self, name: str, offset: int) -> bytes:
        """A piece of a file, empty at its end."""
        with open(self.folder / name, "rb") as file:
            file.seek(offset)
            return file.read(_PIECE)

    def remove(self) -> None:
        """Nothing is left on this node."""
        shutil.rmtree(self.folder, ignore_errors=True)


def fetch(spec: HostSpec, files: Iterable[str], read: Callable[[str, int], bytes]) -> None:
    """Bring what a host wrote on its node to where `spec` says, each file whole or not at all; the log is
    appended.
    """
    for name in files:
        path, appended = _at_the_driver(spec, name), name == _LOG
        path.parent.mkdir(mode=0o700, exist_ok=True)
        into = path if appended else path.with_name(f"{path.name}.part")
        flags = os.O_CREAT | os.O_WRONLY | (os.O_APPEND if appended else os.O_TRUNC)
        offset = 0
        with open(os.open(into, flags, 0o600), "ab" if appended else "wb") as to:
            while piece := read(name, offset):
                to.write(piece)
                offset += len(piece)
        into.replace(path)


def kept(spec: HostSpec) -> dict[str, bytes]:
    """What the parties of a host kept of another run, each its own, read at the driver."""
    if spec.restored is None:
        return {}
    paths = {party: Path(spec.restored) / party for party in spec.parties}
    return {party: path.read_bytes() for party, path in paths.items() if path.is_file()}


def _at_the_driver(spec: HostSpec, name: str) -> Path:
    """Where a file belongs that a host wrote under this name."""
    if name == _LOG:
        return Path(spec.log)
    if name.startswith(_TRANSCRIPT):  # what SQLite left beside it as well, of one that could not be closed
        return Path(spec.transcript + name.removeprefix(_TRANSCRIPT))
    return Path(str(spec.state)) / Path(name).name
