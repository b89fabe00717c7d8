"""Mutated run folders against the commands that read them: `python -m tests.parties.fuzz_folders [COUNT]
[SEED]`.

A copy of a run gets damaged pages or strange cells in a transcript, or strange values in config.json or
result.json. Each command then ends well, or says in one line what is wrong.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from typer.testing import CliRunner

from scenarios.cli import app
from scenarios.run.execute import execute
from tests.conftest import small
from tests.parties.fuzz_frames import Mutator as FrameMutator

COMMANDS = (
    ("show",), ("show", "--party", "cloud_trainer"), ("show", "--verify"), ("learned",), ("coalitions",),
    ("compare",), ("attack", "--attack", "gradient"),
    ("attack", "--attack", "labels", "--attack", "master-key"),
    ("predict", "--samples", "2", "--runtime", "inline"),
)  # fmt: skip
SECONDS = 30.0  # that any command may take
STRANGE: tuple[Any, ...] = (
    None, True, -1, 0, 2**40, 10**30, 1.5, -0.0, "", "x", "\x1b[2J", "[/]", "../../etc/passwd", "x" * 10_000,
    [], {}, [[]], {"": {}}, [None], ["x"] * 50, "plain", "ray", "9" * 30,
)  # fmt: skip
CELLS = (
    None,
    -1,
    0,
    2**62,
    1.5,
    "",
    "x",
    "\x1b[2J",
    "9" * 5000,
    b"",
    b"\xff" * 32,
    "[1, 2]",
    "{}",
    "sent",
    "data_owner:7",
)


class Mutator:
    """Damages a copy of a run folder in one place."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def damage(self, folder: Path) -> str:
        """Returns what was done."""
        kind = self._below(6)
        if kind < 3:
            return (self._pages, self._cell, self._state)[kind](folder)
        return self._json(folder / ("result.json", "config.json", "manifest.json")[kind - 3])

    def _below(self, n: int) -> int:
        return int(self._rng.integers(max(n, 1)))

    def _transcript(self, folder: Path) -> Path:
        paths = sorted((folder / "transcripts").glob("*.sqlite"))
        return paths[self._below(len(paths))]

    def _pages(self, folder: Path) -> str:
        path = self._transcript(folder)
        content = bytearray(path.read_bytes())
        for _ in range(1 << self._below(8)):
            content[self._below(min(len(content), 1 << (7 + self._below(14))))] = self._below(256)
        path.write_bytes(content if self._below(4) else content[: self._below(len(content))])
        return f"pages of {path.name}"

    def _state(self, folder: Path) -> str:
        """What a party kept for those who ask the network, as another frame that is almost right."""
        paths = sorted((folder / "state").iterdir())
        path = paths[self._below(len(paths))]
        frames = [each.read_bytes() for each in paths]
        path.write_bytes(FrameMutator(frames, self._below(1 << 30)).next() if self._below(4) else frames[0])
        return f"state of {path.name}"

    def _cell(self, folder: Path) -> str:
        path, value = self._transcript(folder), CELLS[self._below(len(CELLS))]
        table = ("rows", "rows", "meta", "payloads", "steps")[self._below(5)]
        with closing(sqlite3.connect(path)) as connection, connection:
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            column = columns[self._below(len(columns))]
            some = "" if self._below(3) == 0 else " WHERE rowid % 3 = 1"
            try:
                connection.execute(f"UPDATE {table} SET {column} = ?{some}", (value,))
            except sqlite3.Error:  # a key that comes twice, or none
                connection.execute(f"DELETE FROM {table}{some}")
        return f"{table}.{column} = {value!r:.40} in {path.name}"

    def _json(self, path: Path) -> str:
        if self._below(8) == 0:
            text = path.read_text(encoding="utf-8")
            path.write_text(
                text[: self._below(len(text))] + "[" * (10_000 * self._below(2)), encoding="utf-8"
            )
            return f"{path.name} cut"
        content, where = self._replaced(json.loads(path.read_text(encoding="utf-8")))
        path.write_text(json.dumps(content), encoding="utf-8")
        return f"{path.name}{where}"

    def _replaced(self, value: Any) -> tuple[Any, str]:
        """The value with one part replaced or taken away, and where."""
        if isinstance(value, dict) and value and self._below(5):
            key = sorted(value)[self._below(len(value))]
            if self._below(5) == 0:
                return {name: each for name, each in value.items() if name != key}, f": no {key}"
            changed, where = self._replaced(value[key])
            return {**value, key: changed}, f".{key}{where}"
        if isinstance(value, list) and value and self._below(5):
            at = self._below(len(value))
            changed, where = self._replaced(value[at])
            return [*value[:at], changed, *value[at + 1 :]], f"[{at}]{where}"
        strange = STRANGE[self._below(len(STRANGE))]
        return strange, f" = {strange!r:.40}"


def fuzz(run: Path, scratch: Path, count: int, seed: int) -> tuple[Counter[int], list[str]]:
    """(exit statuses, what was not as it should be) of every command on mutated copies of a run."""
    mutator, statuses, faults = Mutator(seed), Counter[int](), []
    for number in range(count):
        folder = scratch / "copy"
        shutil.copytree(run, folder)
        done = mutator.damage(folder)
        for command, *options in COMMANDS:
            started = time.monotonic()
            outcome = CliRunner().invoke(app, [command, str(folder), *options])
            statuses[outcome.exit_code] += 1
            fault = _fault(outcome, time.monotonic() - started)
            if fault:
                faults.append(f"{seed}/{number} {done}: {command} {' '.join(options)}: {fault}")
        shutil.rmtree(folder)
    return statuses, faults


def _fault(outcome: Any, seconds: float) -> str:
    """What is wrong with what a command said."""
    if not (outcome.exception is None or isinstance(outcome.exception, SystemExit)):
        return f"raised {outcome.exception!r:.100}"
    lines = outcome.stderr.splitlines()
    if outcome.exit_code and not outcome.stdout.startswith("altered:"):
        if (
            len(lines) != 1
            or not lines[0].startswith("keyhole: ")
            or "internal error" in lines[0]
            or len(lines[0]) > 1000
        ):
            return f"said {outcome.stderr!r:.200}"
    elif lines:
        return f"said {outcome.stderr!r:.200}"
    if not all(letter.isprintable() for letter in outcome.output.replace("\n", "")):
        return "printed a control character"
    return f"took {seconds:.0f} s" if seconds > SECONDS else ""


def main(count: int = 300, seed: int = 0) -> None:
    """Fuzz, and say what came of it."""
    with tempfile.TemporaryDirectory() as scratch:
        from dataclasses import replace

        execute(replace(small(), out=Path(scratch) / "run"))
        started = time.monotonic()
        statuses, faults = fuzz(Path(scratch) / "run", Path(scratch), count, seed)
    print(*faults, sep="\n")
    print(
        f"{count} folders in {time.monotonic() - started:.0f} s: {len(faults)} faults; "
        f"exit statuses {dict(sorted(statuses.items()))}"
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
