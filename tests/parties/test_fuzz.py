"""A short part of the fuzzing; `fuzz_frames.py` and `fuzz_folders.py` do the whole."""

from tests.parties import fuzz_folders, fuzz_frames


def test_mutated_frames_are_refused_in_one_line_or_canonical(runs):
    outcome = fuzz_frames.fuzz(fuzz_frames.frames_of(runs()[0]), 4000, seed=1)
    assert outcome.refused.total() > 3500


def test_commands_on_mutated_folders_end_well_or_with_one_line(runs, tmp_path):
    statuses, faults = fuzz_folders.fuzz(runs()[0].path, tmp_path, 5, seed=0)
    assert faults == [] and statuses[1] > 0
