"""A short part of the fuzzing; `fuzz_frames.py` does the whole."""

from tests.parties.fuzz_frames import frames_of, fuzz


def test_mutated_frames_are_refused_in_one_line_or_canonical(runs):
    outcome = fuzz(frames_of(runs()[0]), 4000, seed=1)
    assert outcome.refused.total() > 3500
