"""What attacks compute is seen in views: runs do without a ledger."""

from __future__ import annotations

import pytest

from tests.conftest import Runs


@pytest.fixture(scope="session")
def runs(runs_without_ledger: Runs) -> Runs:
    """Finished small runs without a ledger: do not write into their folders."""
    return runs_without_ledger
