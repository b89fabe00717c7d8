"""Networks are seen in views and weights: their runs do without a ledger, but for those of `whole_runs`."""

from __future__ import annotations

import pytest

from tests.conftest import Runs


@pytest.fixture(scope="session")
def runs(runs_without_ledger: Runs) -> Runs:
    """Finished small runs without a ledger: do not write into their folders."""
    return runs_without_ledger
