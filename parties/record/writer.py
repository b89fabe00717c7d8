"""Writing transcripts: a thread of each host digests, writes and commits, while the parties compute on.

What waits for it is bounded; when more comes, the parties wait. It commits every half second, so that a
killed run leaves what was committed: of entries and steps in their order, a beginning. How a transcript is
read back is in `transcript.py`, and how one is gone on with in `continued.py`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from parties.record.kept import Kept
from parties.record.transcript import SCHEMA, TABLES, Frame, packed
from protocols.language.errors import TranscriptError
from protocols.language.message import Header, describe, digest, encode
from protocols.language.options import as_plain
from protocols.language.roles import EXPERIMENTER
from protocols.language.session import NO_ROUND
from protocols.language.view import Kind

_COMMIT_SECONDS = 0.5
_COMMIT_BYTES = 32 << 20
_WAITING_BYTES = 64 << 20  # what may wait for the writer before the parties do
_RECENT_BYTES = 64 << 20  # of received payloads that are held, and for how long: what a sender that dies
_RECENT_SECONDS = 3.0  # may not have committed; it does so every half second, unless it has much to write
_LOCKED_SECONDS = 10.0  # that a file may be read while it is to change its mode, which waits for nobody
_ROW_BYTES = 512  # what a row without its payload counts for
_PAGE_BYTES = 1 << 14  # payloads of 150 kB are written in half the time of 4 kB pages


class Recorder(Protocol):
    """What a party tells of its view, entry by entry, as it comes about."""

    def note(self, party: str, kind: Kind, label: str, value: Any) -> None: ...
    def message(self, party: str, kind: Kind, header: Header, value: Any, frame: Frame) -> None: ...
    def step(self, party: str, step: str, header: Header, public: list[Any], frame: Frame) -> None: ...


class TranscriptWriter:
    """Appends to one host's transcript; memory does not grow with the run."""

    def __init__(self, path: Path | str, kept: Kept, protocol: str = "", config: Any = None) -> None:
        """Create the file with mode 0600; `config`: the public configuration, of the protocol's own class."""
        public = json.dumps(as_plain(config) if config else {})
        meta = {"schema": str(SCHEMA), **kept.meta, "protocol": protocol, "config": public}
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except OSError as fault:
            raise _unwritten(path, fault) from None
        self._begin(path, kept, meta)

    def _begin(self, path: Path | str, kept: Kept, meta: dict[str, str]) -> None:
        """Open the file and start the thread that writes it."""
        self._path = path
        try:
            self._held = _held(Path(path).parent)
            self._file = _File(path, kept)
            self._file.begin(meta)
        except (OSError, sqlite3.Error) as fault:
            raise _unwritten(path, fault) from None
        self._waiting: deque[tuple[int, Callable[..., None], tuple[Any, ...]]] = deque()
        self._waiting_bytes = 0
        self._changed = threading.Condition()
        self._fault: Exception | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="transcript", daemon=True)
        self._thread.start()

    def note(self, party: str, kind: Kind, label: str, value: Any) -> None:
        """Record an input or the coins of a party."""
        self.message(party, kind, Header(-1, "", NO_ROUND, "", "", label), value, encode(value))

    def message(self, party: str, kind: Kind, header: Header, value: Any, frame: Frame) -> None:
        """Record one message of a party's view: its value as type and shape, and its read-only frame."""
        self._put(_ROW_BYTES + frame.nbytes, self._file.row, party, kind, header, describe(value), frame)

    def step(self, party: str, step: str, header: Header, public: list[Any], frame: Frame) -> None:
        """Record that a party ran a local step, after a row of its public arguments, if it has any."""
        described = describe(public) if public else None
        self._put(2 * _ROW_BYTES + frame.nbytes, self._file.step, party, step, header, described, frame)

    def sync(self) -> None:
        """Wait until everything so far can be read by others."""
        done = threading.Event()
        self._put(0, self._file.commit_and_tell, done)
        while not done.wait(_COMMIT_SECONDS):
            self._check()

    def position(self) -> tuple[int, int]:
        """The last entry and the number of steps so far, once others can read all that."""
        self.sync()
        return self._file.position

    def keep_received(self) -> None:
        """Store the payloads of the last messages from others as well: of a run that failed, their senders'
        transcripts may end before.
        """
        self._put(0, self._file.keep_recent)

    def close(self) -> None:
        """Write what is waiting, fold the write-ahead log into the file and close it."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        if self._held is not None:
            os.close(self._held)
            self._held = None
        self._check()

    def _put(self, nbytes: int, write: Callable[..., None], *entry: Any) -> None:
        """Have `write(*entry)` called by the writer's thread."""
        with self._changed:
            while self._waiting_bytes > _WAITING_BYTES and self._fault is None:
                self._changed.wait()
            self._check()
            self._waiting.append((nbytes, write, entry))
            self._waiting_bytes += nbytes
            self._changed.notify_all()

    def _check(self) -> None:
        if self._fault is not None:
            raise _unwritten(self._path, self._fault)

    def _work(self) -> None:
        try:
            while self._write_waiting():
                pass
            self._file.close()
        except Exception as fault:  # a full disk, say: the next message that is recorded raises it
            with self._changed:
                self._fault = fault
                self._changed.notify_all()
            self._file.abandon()

    def _write_waiting(self) -> bool:
        """Write what is waiting, or commit when nothing came for a while; returns whether to go on."""
        with self._changed:
            if not self._waiting and not self._closing:
                self._changed.wait(_COMMIT_SECONDS)
            entries, self._waiting = self._waiting, deque()
            closing = self._closing
        for nbytes, write, entry in entries:
            write(*entry)
            with self._changed:
                self._waiting_bytes -= nbytes
                self._changed.notify_all()
        self._file.commit_if_due()
        return bool(entries) or not closing


def _unwritten(path: Path | str, fault: Exception) -> TranscriptError:
    return TranscriptError(f"the transcript {path} cannot be written: {fault}")


def fold_away(path: Path | str) -> None:
    """Fold the write-ahead log of a transcript into the file, whose writer is gone."""
    if Path(f"{path}-wal").is_file():
        with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            db.execute("PRAGMA journal_mode=DELETE")


def _held(folder: Path) -> int | None:
    """Hold a folder, with others, until the process ends or what is returned is closed."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:  # a file system that has no locks, or one who looks whether anybody writes
        os.close(descriptor)
        return None
    return descriptor


def written_to(folder: Path) -> bool:
    """Whether a process on this machine still writes transcripts into a folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system that has no locks
        return False
    finally:
        os.close(descriptor)
    return False


class _File:
    """The SQLite file behind a writer; used by its thread alone once it has begun."""

    def __init__(self, path: Path | str, kept: Kept) -> None:
        self._kept = kept
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._rows: list[tuple[Any, ...]] = []
        self._steps: list[tuple[Any, ...]] = []
        self._pending_bytes, self._count, self._last = 0, 0, time.monotonic()
        self._count_steps = 0
        self._digested: tuple[Frame | None, bytes] = (None, b"")
        self._recent: deque[tuple[float, bytes, Frame]] = deque()
        self._recent_bytes = 0

    def begin(self, meta: dict[str, str]) -> None:
        """Make the tables, where they are missing."""
        settings = f"PRAGMA page_size={_PAGE_BYTES}; PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;"
        self._once_unread(settings + TABLES)
        self._db.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
        (self._count,) = self._db.execute("SELECT COALESCE(MAX(id), 0) FROM rows").fetchone()
        (self._count_steps,) = self._db.execute("SELECT COUNT(*) FROM steps").fetchone()
        self._db.execute("BEGIN")

    def _once_unread(self, script: str) -> None:
        """Carry out what changes the mode of the file, which SQLite refuses while somebody reads it: hosts of
        a run that goes on read each other's.
        """
        until = time.monotonic() + _LOCKED_SECONDS
        while True:
            try:
                self._db.executescript(script)
                return
            except sqlite3.OperationalError as fault:
                if "locked" not in str(fault) or time.monotonic() > until:
                    raise
                time.sleep(0.01)

    @property
    def position(self) -> tuple[int, int]:
        """The last entry, and the number of steps."""
        return self._count, self._count_steps

    def step(
        self, party: str, step: str, header: Header, described: tuple[str, Any] | None, frame: Frame
    ) -> None:
        """Add what a local step is told, if anything, and the step; it stands after the rows so far. Both are
        committed together: of a killed run no arguments are left without their step.
        """
        if described is not None:
            self._add(party, Kind.PUBLIC, header, described, frame)
        self._steps.append((party, self._count, header.phase, header.round, step))
        self._count_steps += 1
        self.commit_if_due()

    def row(self, party: str, kind: Kind, header: Header, described: tuple[str, Any], frame: Frame) -> None:
        """Add an entry of a view, and its payload."""
        self._add(party, kind, header, described, frame)
        self.commit_if_due()

    def _add(self, party: str, kind: Kind, header: Header, described: tuple[str, Any], frame: Frame) -> None:
        (dtype, shape), sha = described, self._digest(frame)
        self._count += 1
        self._rows.append(
            (self._count, party, kind.value, header.seq, header.phase, header.round, header.sender,
             header.receiver, header.label, dtype, json.dumps(shape), frame.nbytes, sha)
        )  # fmt: skip
        if not self._kept.keeps(party, kind, header):
            return
        if kind is not Kind.RECEIVED or header.sender == EXPERIMENTER.value:
            self._keep(sha, frame)
        else:
            self._remember(sha, frame)

    def _remember(self, sha: bytes, frame: Frame) -> None:
        """Hold on to what was received a moment ago: its sender need not have committed it yet."""
        now = time.monotonic()
        self._recent.append((now, sha, frame))
        self._recent_bytes += frame.nbytes
        oldest = now - _RECENT_SECONDS
        while self._recent and (self._recent_bytes > _RECENT_BYTES or self._recent[0][0] < oldest):
            self._recent_bytes -= self._recent.popleft()[2].nbytes

    def keep_recent(self) -> None:
        """Store what was received last, as its sender may have died before it did."""
        for _, sha, frame in self._recent:
            self._keep(sha, frame)

    def _keep(self, sha: bytes, frame: Frame) -> None:
        """Store a payload, unless it is there."""
        if self._db.execute("SELECT 1 FROM payloads WHERE sha256 = ?", (sha,)).fetchone() is None:
            data = packed(frame)
            self._db.execute("INSERT INTO payloads (sha256, data) VALUES (?, ?)", (sha, data))
            self._pending_bytes += len(data)

    def _digest(self, frame: Frame) -> bytes:
        """SHA-256 of a frame; that of a broadcast, which comes once for each receiver, is computed once."""
        if frame is not self._digested[0]:
            self._digested = (frame, digest(frame))
        return self._digested[1]

    def commit_if_due(self) -> None:
        """Commit after half a second, 32 MB or 2000 rows."""
        waited = time.monotonic() - self._last > _COMMIT_SECONDS and (self._rows or self._steps)
        if waited or self._pending_bytes > _COMMIT_BYTES or len(self._rows) > 2000:
            self.commit()

    def commit(self) -> None:
        """Make everything so far readable for others."""
        self._db.executemany("INSERT INTO rows VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)", self._rows)
        self._db.executemany(
            "INSERT INTO steps (party, after_row, phase, round, step) VALUES (?,?,?,?,?)", self._steps
        )
        self._db.execute("COMMIT")
        self._rows, self._steps, self._pending_bytes, self._last = [], [], 0, time.monotonic()
        self._digested = (None, b"")
        self._db.execute("BEGIN")

    def commit_and_tell(self, done: threading.Event) -> None:
        """Commit, for somebody who waits for it."""
        self.commit()
        done.set()

    def abandon(self) -> None:
        """Close the file as far as it was written."""
        with contextlib.suppress(sqlite3.Error):
            self._db.close()

    def close(self) -> None:
        """Commit, fold the write-ahead log into the file and close it."""
        self.commit()
        self._db.execute("COMMIT")
        self._once_unread("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA journal_mode=DELETE;")
        self._db.close()
