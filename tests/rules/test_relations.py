"""Every relation that a protocol states is true of the owners' real inputs, and every label that was received
has one.
"""

import numpy as np
import pytest
import torch

from parties.adversary.adversary import Adversary
from parties.record.view import Kind
from protocols.language import relations as r
from protocols.language.relations import now
from protocols.network.head_config import HeadConfig
from scenarios.run.catalogue import PROTOCOLS, find_protocol
from scenarios.run.folder import load_run
from tests.rules import head_truth
from tests.rules.head_truth import HeadTruth
from tests.rules.test_digests import LINES

PARTIES = ("cloud_trainer", "key_authority", "data_owner:0")
_TRIED = 6  # relations of a type whose arrays are computed: they hold for all steps alike
_FLOAT = 2e-6


def coalitions(run):
    """Every party by itself, of owners the first, and all others together."""
    roles = [name for name in run.sources if name.endswith(":0") or ":" not in name]
    return [(name,) for name in roles] + [tuple(roles)]


def every(run, parties):
    view = run.view(*parties)
    return list(find_protocol(view.protocol).relations(view))


class Truth:
    """The owners' samples in whole pixels, and the maps that some view of the run holds."""

    def __init__(self, run, wrong=False):
        truth = run.truth()
        self.x, self.y, self.x_max = truth.images.astype(np.int64), truth.labels, truth.x_max
        known = [k for k in every(run, tuple(run.sources)) if isinstance(k, r.KnownMap)]
        self.maps = {k.map: (now(k.value), k.noise) for k in reversed(known) if k.map.name in ("w1", "copy")}
        if wrong:
            self.x, self.y = self.x[::-1], self.y + 1
            self.maps = {name: (value[::-1], noise) for name, (value, noise) in self.maps.items()}


def truth_of(run, wrong=False):
    """What a run's relations are held against; something else if `wrong`."""
    return (HeadTruth if isinstance(run.config(), HeadConfig) else Truth)(run, wrong)


def check(relation, truth):
    """Raise AssertionError where a relation is false; whether there was something to check."""
    found = CHECKS.get(type(relation))
    return found is not None and found(relation, truth) is not False


def samples(s, truth):
    assert np.array_equal(now(s.values), truth.x[s.samples])


def labels(s, truth):
    assert np.array_equal(now(s.values), truth.y[s.samples])


def equations(e, truth):
    a, values = now(e.a), now(e.values)
    assert np.allclose(truth.x[e.samples] @ a.T, values, rtol=0, atol=e.noise)


def combinations(c, truth):
    a, values = now(c.weights), now(c.values)
    bound = c.noise + c.relative * np.abs(a).sum(axis=1, keepdims=True)
    assert (np.abs(a @ truth.x[c.samples] - values) <= bound + 1e-9).all()


def products(p, truth):
    if p.map not in truth.maps or (p.samples < 0).any():
        return False
    w, noise = truth.maps[p.map]
    expected, values = truth.x[p.samples] @ w.T, now(p.values)
    assert (
        np.abs(expected - values).max()
        <= 2 * p.noise + _FLOAT * np.abs(expected).max() + noise * truth.x.sum(1).max()
    )


def update(u, truth):
    (used,) = np.nonzero(u.terms)
    if not {u.before, u.after} <= truth.maps.keys() or used.max(initial=-1) >= u.steps.known:
        return False
    (before, e1), (after, e2) = truth.maps[u.before], truth.maps[u.after]
    moved = sum(u.terms[k] * u.steps.error(k).T @ truth.x[u.steps.samples[k]] for k in used)
    assert np.abs(before - after - moved).max() <= e1 + e2 + 4 * u.roundings * _FLOAT * np.abs(before).max()


def label_errors(e, truth):
    assert len(now(e.values)) == len(e.samples)


def instance(i, truth):
    if i.hides:
        return hidden(i, truth)
    keys = next(iter(i.messages()), None)
    if keys is None:
        return False
    some = np.arange(min(3, len(keys.vectors)))
    z = i.products(i.rows(now(keys.key), some), 0, None)
    x = truth.x[i.blocks[0]]
    assert np.array_equal(z, x.T @ keys.vectors[some, : len(x)].T if i.across else x @ keys.vectors[some].T)


def hidden(i, truth):
    for keys in i.messages():
        if keys.map in truth.maps:
            w = i.rounded(truth.maps[keys.map][0])[:2]
            z = i.products(i.rows(now(keys.key), np.arange(2)), 0, np.arange(2))
            assert np.array_equal(z, truth.x[i.blocks[0]][:2] @ w.T)
            return True
    return False


def master_key(m, truth):
    opened = m.instance.open(m.secret(), 0, np.arange(2))
    assert np.array_equal(opened, truth.x[m.instance.blocks[0][:2]])


def replay(p, truth):
    count = 0
    for product, w in p.run(lambda index: truth.x[index]):
        expected = truth.x[product.samples] @ w.T
        assert np.abs(now(product.values) - expected).max() <= _FLOAT * np.abs(expected).max()
        count += 1
    return count > 0


def known_map(k, truth):
    """Whoever holds a map holds the one by which the products of the run were made."""
    if k.map not in truth.maps:
        return False
    value, noise = truth.maps[k.map]
    assert np.abs(now(k.value) - value).max() <= k.noise + noise


def gradient(g, truth):
    if not g.exact:
        return False
    weights = [torch.tensor(w, dtype=torch.float64).requires_grad_() for w in g.weights()]
    x = torch.tensor(truth.x[g.samples] / truth.x_max)
    y = torch.eye(len(weights[-1]), dtype=torch.float64)[
        truth.y[g.samples].astype(np.int64) % len(weights[-1])
    ]
    expected = torch.autograd.grad(g.loss(weights, x, y), weights)
    for found, right in zip(g.gradients(), expected, strict=True):
        assert np.abs(found - right.numpy()).max() <= 1e-3 * right.abs().max().item() + 1e-5


def trained(t, truth):
    """The network moved along the gradient of these samples with their labels: a cosine of a half at least,
    as batches differ and the gradient turns; with labels of others it is far less.
    """
    if not t.exact or t.start is None:
        return False
    weights = [torch.tensor(w, dtype=torch.float64).requires_grad_() for w in t.start()]
    x, eye = torch.tensor(truth.x[t.samples] / truth.x_max), torch.eye(len(weights[-1]), dtype=torch.float64)
    loss = t.loss(weights, x, eye[truth.y[t.samples].astype(np.int64) % len(eye)])
    along = np.concatenate([g.numpy().ravel() for g in torch.autograd.grad(loss, weights)])
    moved = np.concatenate([(a - b).ravel() for a, b in zip(t.start(), t.end(), strict=True)])
    assert moved @ along > 0.5 * np.linalg.norm(moved) * np.linalg.norm(along)


def gradients(g, truth):
    if not len(g.steps):
        return False
    steps = np.unique(g.steps)[[0, -1]]
    chosen, x = np.isin(g.steps, steps), truth.x[g.samples]
    w, heads = np.asarray(now(g.weights))[chosen].astype(np.int64), g.heads[chosen]
    t = 2 * (truth.y[g.samples][:, None] == heads) - 1
    assert np.array_equal(g.values(np.unique(steps)), (x @ w.T - g.scale * t).T @ x)


def class_sums(c, truth):
    t = 2 * (truth.y[c.samples][:, None] == c.heads) - 1
    assert (np.abs(t.T @ truth.x[c.samples] - now(c.values)) <= now(c.noise)[:, None] + 1e-6).all()


def shift(s, truth):
    """Entries below 0, beyond rounding and noise, are labels of its samples."""
    moved = now(s.values)
    fallen = np.flatnonzero(moved < -6 * s.noise - 1e-5 * np.abs(moved).max() - 1e-7)
    assert np.isin(fallen, truth.y[s.samples]).all()
    return len(fallen) > 0


CHECKS = {
    r.ClassSums: class_sums,
    r.Shift: shift,
    r.Gradient: gradient,
    r.Gradients: gradients,
    r.Trained: trained,
    r.Samples: samples,
    r.Labels: labels,
    r.Equations: equations,
    r.Combinations: combinations,
    r.Products: products,
    r.Update: update,
    r.LabelErrors: label_errors,
    r.Instance: instance,
    r.MasterKey: master_key,
    r.Replay: replay,
    r.KnownMap: known_map,
    **head_truth.CHECKS,
}


def holds_master_keys(line):
    """Whether the authority of a line draws keys, and does not only average."""
    return (
        line.startswith(("plain-fe", "mitig1", "reverse-he", "vertical-fe"))
        and "--authority owner" not in line
    )


@pytest.mark.parametrize("line", [line for _, line in LINES])
def test_relations_are_true_and_cover_every_label(line, finished):
    run = load_run(finished(line))
    truth, checked = truth_of(run), set()
    for parties in coalitions(run):
        found, tried = every(run, parties), {}
        for relation in found:
            tried.setdefault(type(relation), []).append(relation)
        for kind, some in tried.items():
            for relation in (*some[:_TRIED], *some[_TRIED:][-2:]):
                if check(relation, truth):
                    checked.add(kind)
        covered = {label for relation in found for label in relation.labels}
        received = {row.label for row in run.view(*parties).rows(None, Kind.RECEIVED)}
        assert received <= covered, (parties, received - covered)
        if parties == ("key_authority",) and holds_master_keys(line):
            assert any(isinstance(relation, r.Own | r.MasterKey) for relation in found), (
                "its secret is its own"
            )
    assert len(checked) >= 2, f"only {checked} could be held against the truth"


# Lines that between them hold every type of relation that has a check.
MUTATED = (
    "plain",
    "plain-fe --labels febo --gradient fe --scheme ddh",
    "plain-fe --owners 3 --layers 8,6 --activation sigmoid --loss bce",
    "mitig1",
    "mitig2 --init shared --momentum 0",
    "mitig2 --owners 4 --batch 4 --epochs 2",
    "fedsgd --owners 4 --batch 4 --per-round 2 --rounds 5",
    "vertical-fe --target 1 --owners 3",
    "reverse-he --release logits --head 24-6-5",
    "reverse-he --encoding float",
)


def test_a_relation_is_false_of_other_samples(finished):
    """The checker itself: whatever passes for the owners' samples fails when these stand in another order."""
    seen = set()
    for line in MUTATED:
        run = load_run(finished(line))
        right, wrong = truth_of(run), truth_of(run, wrong=True)
        for relation in every(run, tuple(run.sources)):
            if type(relation) in seen or not check(relation, right):
                continue
            seen.add(type(relation))
            if not isinstance(
                relation, r.LabelErrors
            ):  # whose content is not checked, but how many there are
                with pytest.raises(AssertionError):
                    check(relation, wrong)
    assert seen == set(CHECKS)


def test_a_label_that_nobody_relates_is_not_analysed(finished, monkeypatch):
    run = load_run(finished("mitig2"))
    protocol = find_protocol("mitig2")
    stated = protocol.relations
    monkeypatch.setattr(protocol, "relations", lambda view: (x for x in stated(view) if "z1" not in x.labels))
    how = {item.quantity: item.how for item in Adversary(run.view_sources(("cloud_trainer",))).learned()}
    assert how["z1"] == "not analysed" and how["labels"] == "clear"


def test_every_protocol_has_a_line(finished):
    assert {line.split()[0].replace("-", "_") for _, line in LINES} == set(PROTOCOLS)
