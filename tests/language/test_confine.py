"""No step has a way around the language."""

import inspect

import pytest

from protocols import plain, plain_fe
from protocols.language.confine import check_step
from protocols.language.errors import VisibilityError
from protocols.language.state import State
from protocols.network import training
from tests import toy_protocol


@pytest.mark.parametrize("step", toy_protocol.CHEATS, ids=lambda step: step.__name__)
def test_a_step_that_could_reach_another_partys_value_is_refused(step):
    with pytest.raises(VisibilityError, match=step.__name__):
        check_step(step)


@pytest.mark.parametrize(
    "step", [lambda state: None, toy_protocol.make_closure(), len, print, State, "double"]
)
def test_only_module_level_functions_are_steps(step):
    with pytest.raises(VisibilityError):
        check_step(step)


def test_honest_steps_pass():
    for step in (toy_protocol.make, toy_protocol.double, toy_protocol.total, toy_protocol.halves):
        check_step(step)


@pytest.mark.parametrize("module", [plain, plain_fe, training], ids=lambda m: m.__name__)
def test_every_step_of_the_protocols_passes(module):
    steps = [f for _, f in inspect.getmembers(module, inspect.isfunction)
             if f.__module__ == module.__name__ and next(iter(inspect.signature(f).parameters), "") == "state"]  # fmt: skip
    assert len(steps) >= 4
    for step in steps:
        check_step(step)
