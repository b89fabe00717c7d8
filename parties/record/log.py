"""The log of a run: structlog events of all parties, one JSON object a line, appended to one file.

Key-value, past tense, and never a payload: labels, sizes and counts only.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import structlog


def open_log(path: Path) -> Any:
    """Return a logger that appends to `path`.

    Each event is one write to a file opened for appending, so that lines of several processes do not mix.
    """
    descriptor = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    file = os.fdopen(descriptor, "a", buffering=1, encoding="utf-8")
    return structlog.wrap_logger(
        structlog.WriteLogger(file),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.EventRenamer("event"),
            structlog.processors.JSONRenderer(sort_keys=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
    )
