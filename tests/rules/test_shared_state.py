"""A run changes nothing that all parties of a process share; `runs` looks at it around each of its runs."""

import pytest

from protocols.network import training
from scenarios.run.catalogue import PROTOCOLS
from tests.conftest import TINY


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_run_leaves_the_globals_and_generators_as_they_were(runs, name):
    runs(name, **(TINY if name == "mitig1" else {}))


def test_a_change_would_be_seen(runs, monkeypatch):
    monkeypatch.setattr(training, "last", [], raising=False)
    forward = training.forward_upper

    def remembers(*args):
        training.last.append(args)
        return forward(*args)

    monkeypatch.setattr(training, "forward_upper", remembers)
    with pytest.raises(AssertionError, match="protocols.network.training"):
        runs("plain", samples=47)
