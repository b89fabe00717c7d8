"""A short part of the fuzzing; `fuzz_frames.py` and `fuzz_folders.py` do the whole."""

import pytest

from protocols.crypto import ipfe_rlwe
from protocols.language.message import decode
from protocols.network.config import Scheme
from tests.conftest import MANY
from tests.parties import fuzz_folders, fuzz_frames


def test_mutated_frames_are_refused_in_one_line_or_canonical(runs):
    outcome = fuzz_frames.fuzz(fuzz_frames.frames_of(runs()[0]), 4000, seed=1)
    assert outcome.refused.total() > 3500


@pytest.mark.parametrize(
    ("protocol", "options"),
    [("plain_fe", {}), ("plain_fe", {"scheme": "rlwe"}), ("mitig2", MANY), ("reverse_he", {})],
    ids=str,
)
def test_what_is_decoded_of_mutated_frames_is_used_or_refused_in_a_line(protocol, options, runs):
    messages = fuzz_frames.messages_of(runs(protocol, **options)[0])
    outcome = fuzz_frames.use(messages, 1500, seed=1, seconds=20)
    assert outcome.accepted > 0 and outcome.refused.total() > 100


def test_the_corpus_has_the_records_of_every_scheme_that_a_run_can_choose(runs):
    for scheme in Scheme:
        assert any(scheme.value in line for line in fuzz_frames.RUNS) or scheme is Scheme.LWE
    found = {type(decode(frame)) for frame in fuzz_frames.frames_of(runs("plain_fe", scheme="rlwe")[0])}
    assert {ipfe_rlwe.RlwePublicKey, ipfe_rlwe.RlweCiphertext, ipfe_rlwe.RlweFunctionKey} <= found


def test_commands_on_mutated_folders_end_well_or_with_one_line(runs, tmp_path):
    statuses, faults = fuzz_folders.fuzz(runs()[0].path, tmp_path, 5, seed=0)
    assert faults == [] and statuses[1] > 0
