"""Experiments: which protocol on which data, how it is scored and shown. `load_run` opens a stored run."""

from scenarios.run.folder import RunFolder, load_run

__all__ = ["RunFolder", "load_run"]
