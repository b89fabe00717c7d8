"""Where a limit of size or time kept the ledger from trying, its line names the limit."""

import pytest

from parties.adversary.adversary import Adversary
from parties.adversary.attacks import gram
from parties.adversary.rules import ciphertexts, maps
from tests.conftest import MANY

AUTHORITY, CLOUD = ("key_authority",), ("cloud_trainer",)
BOTH, OWNER = (*CLOUD, *AUTHORITY), (*CLOUD, "data_owner:0")

# A limit, set so low that it is met; the run, whose view, and what a line has to say.
LIMITS = [
    (ciphertexts, "_VISITS", 0, ("plain_fe", {}), CLOUD, "8 batches and 0 visits of each"),
    (ciphertexts, "_BATCHES", 1, ("plain_fe", {}), CLOUD, "not tried beyond 1 batches"),
    (maps, "_GRAM_SAMPLES", 8, ("mitig2", {}), CLOUD, "no more than 8 are solved for"),
    (gram, "RANK", 63, ("mitig2", {}), CLOUD, "by their rank not tried beyond 63 pixels"),
    (maps, "_LATTICES", 0, ("mitig2", MANY), OWNER, "not tried beyond 256 samples and 0 lattices"),
    (maps, "_UNKNOWNS", 4, ("mitig2", MANY), OWNER, "not tried beyond 4 samples and 4 lattices"),
    (maps, "_CHANGES", 1, ("mitig2", MANY), BOTH, "not tried beyond 1 changes and 256 samples"),
    (maps, "_SPANNED", 2, ("mitig2", MANY), AUTHORITY, "no lattice tried here: 4 samples in one sum"),
    (maps, "LATTICE", 63, ("mitig2", {}), CLOUD, "no lattice: more than 63 pixels"),
]  # fmt: skip


@pytest.mark.parametrize(("module", "name", "limit", "made", "parties", "said"), LIMITS)
def test_a_limit_that_was_met_is_named(
    runs_without_ledger, monkeypatch, module, name, limit, made, parties, said
):
    run, _ = runs_without_ledger(made[0], **made[1])
    monkeypatch.setattr(module, name, limit)
    lines = Adversary(run.view_sources(parties)).learned()
    assert any(said in line.detail for line in lines), [line.detail for line in lines]
