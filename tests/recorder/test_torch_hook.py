"""What crosses a cut of a network in torch, recorded by a hook, and what follows of it."""

import numpy as np
import pytest
import torch

from parties.adversary.adversary import Adversary
from protocols.language import relations as r
from protocols.language.errors import ConfigError
from protocols.language.relations import now
from protocols.recorded import relations as related
from scenarios.recorder.recorder import record
from scenarios.recorder.torch_hook import Sgd, watch
from scenarios.run.attacks import attack_run
from scenarios.run.learned import learned
from tests.recorder.common import CLOUD, HIDDEN, IMAGES, LABELS, OWNER, SIZES, X_MAX

BATCH, ROUNDS = 8, 24


def trained(path, bias=False, named=True, momentum=0.5, sgd=True):
    """Train a split network, and record it; returns the run and W1 (h, n) before every step."""
    torch.manual_seed(0)
    bottom = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, HIDDEN, bias=bias))
    top = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Linear(HIDDEN, 10))
    optimizer = torch.optim.SGD([*bottom.parameters(), *top.parameters()], lr=0.5, momentum=momentum)
    held, how = [], Sgd(0.5, momentum) if sgd else None
    with record(path, roles=(OWNER, CLOUD), **SIZES) as rec:
        rec.truth(OWNER, images=IMAGES, labels=LABELS)
        with watch(rec, bottom, owner=OWNER, cloud=CLOUD, sgd=how, unit=X_MAX) as cut:
            for t in range(ROUNDS):
                held.append(bottom[1].weight.detach().numpy().copy())
                index = np.arange(BATCH) + t % 4 * BATCH
                if named:
                    cut.samples(index)
                x = torch.tensor(IMAGES[index].reshape(-1, 8, 8) / X_MAX, dtype=torch.float32)
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(top(bottom(x)), torch.tensor(LABELS[index])).backward()
                optimizer.step()
            with torch.no_grad():
                bottom(x)  # asks, and trains nothing: it is not recorded
        bottom(x)  # nobody watches any more
    return rec.run, held


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_relations_are_true_of_the_network(tmp_path, momentum):
    run, held = trained(tmp_path / "run", momentum=momentum)
    found = list(related(run.view(CLOUD)))
    products = [each for each in found if isinstance(each, r.Products)]
    updates = [each for each in found if isinstance(each, r.Update)]
    assert (len(products), len(updates)) == (ROUNDS, ROUNDS - 1)
    for product in products:
        expected = IMAGES[product.samples] @ held[product.map.time].T
        assert np.allclose(now(product.values), expected, atol=1e-3)
    for u in updates:
        moved = sum(u.terms[k] * u.steps.error(k).T @ IMAGES[u.steps.samples[k]]
                    for k in np.flatnonzero(u.terms))  # fmt: skip
        assert np.allclose(held[u.before.time] - held[u.after.time], moved, atol=1e-5), u.before.time


def test_what_crosses_is_attacked_as_that_of_a_protocol(tmp_path):
    run, _ = trained(tmp_path / "run")
    (row,) = attack_run(run, ["gram"], (CLOUD,), run.prior(), Adversary)
    assert row["metrics"]["relative_error"] < 1e-3 < row["baseline"]["guess"]["relative_error"]
    rows = [row for row in run.view(CLOUD).rows("activations")]
    assert len(rows) == ROUNDS and rows[0].shape == (BATCH, HIDDEN)


@pytest.mark.parametrize(
    "options, how",
    [({"bias": True}, "not analysed"), ({"named": False}, "not analysed"), ({"sgd": False}, "clear")],
)
def test_nothing_is_stated_that_does_not_follow(tmp_path, options, how):
    run, _ = trained(tmp_path / "run", **options)
    found = {line.quantity: line for line in learned(run, Adversary, (CLOUD,))}
    assert found["activations"].how == how
    assert not any(isinstance(each, r.Update) for each in related(run.view(CLOUD)))


def test_samples_that_are_not_those_of_a_pass_are_refused(tmp_path):
    bottom = torch.nn.Linear(64, 3, bias=False)
    with (
        pytest.raises(ConfigError, match="2 samples were named for a pass of 5"),
        record(tmp_path / "run", roles=(OWNER, CLOUD), **SIZES) as rec,
        watch(rec, bottom, owner=OWNER, cloud=CLOUD) as cut,
    ):
        cut.samples([0, 1])
        bottom(torch.zeros(5, 64))


def test_a_second_backward_pass_is_refused(tmp_path):
    bottom = torch.nn.Linear(64, 3, bias=False)
    with (
        pytest.raises(ConfigError, match="two backward passes"),
        record(tmp_path / "run", roles=(OWNER, CLOUD), **SIZES) as rec,
        watch(rec, bottom, owner=OWNER, cloud=CLOUD),
    ):
        loss = bottom(torch.ones(5, 64)).sum()
        loss.backward(retain_graph=True)
        loss.backward()
