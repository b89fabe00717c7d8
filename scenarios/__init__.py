"""Experiments: which protocol on which data, how it is scored and shown. `load_run` opens a stored run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scenarios.run.folder import RunFolder

__all__ = ["load_run"]


def load_run(path: str | os.PathLike[str]) -> RunFolder:
    """A stored run, finished or not; `DataError` if there is none at this path."""
    from scenarios.run.folder import load_run as opened  # here: every command imports this package first

    return opened(path)
