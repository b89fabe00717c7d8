"""The log of a run: structlog events of all parties, one JSON object a line, appended to one file.

Key-value, past tense, and never a payload: labels, sizes and counts only.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog


class _Lines:
    """Writes a line an event; one that cannot be written, on a full disk, stops nothing: the transcript
    does.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def msg(self, line: str) -> None:
        with suppress(OSError):
            os.write(self._descriptor, f"{line}\n".encode())

    info = warning = error = msg

    def __del__(self) -> None:
        with suppress(OSError):
            os.close(self._descriptor)


def open_log(path: Path) -> Any:
    """Return a logger that appends to `path`.

    Each event is one write to a file opened for appending, so that lines of several processes do not mix.
    """
    descriptor = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    return structlog.wrap_logger(
        _Lines(descriptor),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.EventRenamer("event"),
            structlog.processors.JSONRenderer(sort_keys=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
    )
