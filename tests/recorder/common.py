"""Code that is not written in the language: a split network of two layers in numpy, recorded as it trains."""

import numpy as np
from sklearn.datasets import load_digits

from protocols.language.relations import Labels, Map, Products, Update
from protocols.language.statements import steps
from scenarios.recorder.recorder import record

OWNER, CLOUD = "data_owner:0", "cloud_trainer"
SAMPLES, BATCH, HIDDEN, LR, X_MAX = 32, 8, 12, 0.5, 16
DIGITS = load_digits()
IMAGES, LABELS = DIGITS.data.astype(int)[:SAMPLES], DIGITS.target[:SAMPLES]
SIZES = {"shape": (8, 8), "x_max": X_MAX, "classes": 10, "counts": (SAMPLES,)}


def split_training(path, rounds=24, truth=True, related=None, wrong=False):
    """Record it. `related`: in how many rounds the relation of Z1 is stated; `wrong`: of other samples."""
    rng = np.random.default_rng(0)
    w1, w2 = rng.normal(0, 0.3, (HIDDEN, 64)), rng.normal(0, 0.3, (10, HIDDEN))
    errors, used = [], []
    with record(path, roles={"hospital": OWNER, "hub": CLOUD}, **SIZES) as r:
        if truth:
            r.truth("hospital", images=IMAGES.reshape(-1, 8, 8), labels=LABELS)
        told = r.send("hospital", "hub", labels=LABELS)
        r.relation(Labels(np.arange(SAMPLES), told))
        for t in range(rounds):
            r.begin(t)
            index = np.arange(BATCH) + t % (SAMPLES // BATCH) * BATCH
            x = IMAGES[index] / X_MAX
            z = x @ w1.T
            sent = r.send("hospital", "hub", z1=z.astype(np.float32))
            if related is None or t < related:
                r.relation(Products(index[::-1] if wrong else index, sent.times(X_MAX), Map("w1", 0, t)))
            p = np.exp(np.maximum(z, 0) @ w2.T)
            p /= p.sum(axis=1, keepdims=True)
            p[np.arange(BATCH), LABELS[index]] -= 1
            dz = (p @ w2 * (z > 0) / BATCH).astype(np.float32)
            errors.append(r.send("hub", "hospital", dz1=dz))
            used.append(index)
            w2 -= LR / BATCH * p.T @ np.maximum(z, 0)
            w1 -= LR * dz.T @ x
        moved = steps(tuple(used), tuple(errors))
        for t in range(1, rounds):
            terms = np.zeros(rounds)
            terms[t - 1] = LR / X_MAX
            r.relation(Update(Map("w1", 0, t - 1), Map("w1", 0, t), terms, moved, since=t))
    return r.run
