"""Relations of encrypted heads, held against heads that are trained again from what their owners put in."""

import numpy as np

from protocols import reverse_he
from protocols.crypto import paillier
from protocols.crypto.coins import Coins
from protocols.crypto.paillier import phe_secret
from protocols.language import head_relations as h
from protocols.language.relations import now
from protocols.language.state import State
from protocols.language.view import Kind
from protocols.network.head_config import Encoding
from protocols.network.head_integers import quantise_features, quantise_head


def state_of(run, name):
    """An owner as it began: its inputs and its coins, from its own view."""
    view = run.view(name)
    inputs = {row.label: view.value(row) for row in view.rows(None, Kind.INPUT)}
    coins, weights = view["coins"][0], view["weights"][0]
    rng = np.random.default_rng(list(weights.tobytes()))
    return State(config=run.config(), inputs=inputs, coins=Coins(coins.tobytes()), rng=rng, held={})


class HeadTruth:
    """The heads of all owners, what was asked, and the features of it; in another order if `wrong`."""

    def __init__(self, run, wrong=False):
        self.config = run.config()
        names = sorted(name for name in run.sources if name.startswith("data_owner"))
        states = [state_of(run, name) for name in names]
        for state in states:
            reverse_he.train_head(state)
        self.layers = tuple(np.stack(layer) for layer in zip(*(s.head for s in states), strict=True))
        self.layers = tuple(layer[:, 0] for layer in self.layers)
        self.x = np.concatenate([state.inputs["images"].astype(np.int64) for state in states])
        self.y = np.concatenate([state.inputs["labels"] for state in states])
        view = run.view("server")
        self.asked = np.concatenate([value for _, value in view.values("x", Kind.RECEIVED)])
        self.phi = reverse_he.phi(states[0], self.asked)
        coins = run.view("key_authority")["coins"][0].tobytes()
        self.sk = paillier.setup(self.config.params, Coins(coins))[1]
        if wrong:
            self.layers, self.asked = tuple(layer[:, ::-1] for layer in self.layers), self.asked[:-1]
            self.x, self.y = self.x[::-1], self.y + 1

    def first(self, owners):
        """What the encrypted layers make of what was asked: (V, m, rows)."""
        layers = self.layers[0][owners]
        if self.config.encoding is Encoding.FLOAT:
            return self.phi @ layers[:, :, :-1].swapaxes(1, 2) + layers[:, None, :, -1]
        integers = [quantise_head(w[:, :-1], w[:, -1], self.config.form) for w in layers]
        features = quantise_features(self.phi, self.config.form)
        return np.stack([features @ w.T + b for w, b in integers])

    def upper(self, z, owners):
        """The logits."""
        if len(self.layers) == 1:
            return z
        second = (reverse_he.encoded_last_layer(layer, self.config) for layer in self.layers[1][owners])
        return np.stack([reverse_he.upper(at, layer) for at, layer in zip(z, second, strict=True)])


def task(relation, truth):
    config = truth.config
    of = (relation.owners, relation.classes, relation.shots, relation.recipe)
    assert of == (len(config.counts), config.classes, config.shots, config.recipe)
    images = truth.asked / np.float32(config.x_max)
    assert relation.features is not None and np.array_equal(relation.features(images), truth.phi)


def weights(relation, truth):
    form = truth.config.form
    steps = np.append(np.full(truth.config.features, form.weight.scale), form.bias.scale)
    error = 1e-6 if truth.config.encoding is Encoding.FLOAT else 0.5 / steps + 1e-6
    for found, layer in zip(relation.layers(), truth.layers, strict=True):
        off = np.abs(found - layer[relation.owners])
        assert (off <= (error if layer is truth.layers[0] else np.max(error))).all()


def sealed(relation, truth):
    elements, sk = relation.elements(), truth.sk
    again = relation.seal(tuple(layer[relation.owners] for layer in truth.layers), bytes(32))
    assert again.shape == elements.shape and not np.array_equal(again, elements)
    for mine, theirs in zip(elements, again, strict=True):
        assert opened(sk, mine, relation.count) == opened(sk, theirs, relation.count)


def opened(sk, elements, count):
    """The first plaintexts behind bytes of ciphertexts of a head."""
    ciphertexts = elements.reshape(count, -1)
    return [phe_secret(sk).raw_decrypt(int.from_bytes(each.tobytes(), "big")) for each in ciphertexts[:4]]


def exponents(relation, truth):
    layers = tuple(layer[relation.owners] for layer in truth.layers)
    assert np.array_equal(now(relation.exponents), relation.of(layers))


def logits(relation, truth):
    values, z = now(relation.values), truth.first(relation.owners)
    assert values.shape == (len(relation.owners), relation.count, relation.width)
    expected = z if relation.quantity == "pre-activations" else truth.upper(z, relation.owners)
    assert np.allclose(values, expected, rtol=1e-6, atol=1e-6)
    if relation.features is not None and truth.config.encoding is Encoding.INT:
        assert np.array_equal(now(relation.features), quantise_features(truth.phi, truth.config.form))


def decisions(relation, truth):
    assert relation.count == len(truth.asked) and relation.classes == truth.config.classes
    assert len(relation.owners) == len(truth.config.counts)


CHECKS = {
    h.HeadTask: task,
    h.HeadWeights: weights,
    h.SealedHeads: sealed,
    h.HeadExponents: exponents,
    h.HeadLogits: logits,
    h.HeadDecisions: decisions,
}
