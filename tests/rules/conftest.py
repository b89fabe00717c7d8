"""Finished runs of the lines of `digests.txt`, each run once for all rules."""

from pathlib import Path

import pytest

from tests.rules.test_digests import carry_out


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The folder of the finished run of a line."""
    done: dict[str, Path] = {}

    def of(line: str) -> Path:
        if line not in done:
            done[line] = carry_out(line, "inline", tmp_path_factory.mktemp("line"))
        return done[line]

    return of
