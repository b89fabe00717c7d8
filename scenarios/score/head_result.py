"""What a run with encrypted heads is scored by: decisions that its consumer revealed, heads trained again.

The owner forgets its head. The scorer, which holds the truth, repeats its training from its inputs and coins,
with the same step.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parties.data.datasets import features_of
from parties.data.shares import shares
from parties.party import fresh_state
from protocols import reverse_he
from protocols.crypto.coins import derive
from protocols.language.roles import DATA_OWNER
from protocols.language.state import State
from protocols.network.head_config import Encoding
from protocols.network.public_base import base_inputs
from scenarios.run.experiment import Experiment
from scenarios.run.folder import RunFolder
from scenarios.run.report import Epoch
from scenarios.run.result import Accuracy, Head, HeadBytes, HeadTimes, Scored

Layers = tuple[NDArray[np.float32], ...]


@dataclass(frozen=True)
class ClearHead:
    """An owner's head in the clear, (out, in + 1) a layer, and the state in which its base is at hand."""

    state: State
    layers: Layers

    def float_logits(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """(m, k) of images, in float32."""
        a = reverse_he.phi(self.state, images)
        for place, layer in enumerate(self.layers):
            a = a @ layer[:, :-1].T + layer[:, -1]
            a = np.maximum(a, 0) if place < len(self.layers) - 1 else a
        return a

    def integer_logits(self, images: NDArray[Any]) -> NDArray[np.int64]:
        """(m, k) of images, by the integer head."""
        return reverse_he.integer_head(self.layers, self.state.config, reverse_he.phi(self.state, images))


def clear_heads(experiment: Experiment) -> list[ClearHead]:
    """Repeat the training of every owner."""
    data, found = experiment.data, []
    assert experiment.base is not None
    for name, mine in zip(
        experiment.players(DATA_OWNER),
        shares(experiment.spec, len(experiment.config.counts), experiment.split),
        strict=True,
    ):
        state = fresh_state(name, experiment.config, derive(experiment.run_key, name), experiment.bound)
        state.inputs = {"images": data.x_train[mine], "labels": data.y_train[mine]}
        if experiment.spec.by_features:
            state.inputs["features"] = features_of(experiment.spec).of(state.inputs["images"])
        state.inputs |= dict(base_inputs(experiment.base))
        reverse_he.train_head(state)
        found.append(ClearHead(state, tuple(layer[0] for layer in state.head)))
    return found


def scored(experiment: Experiment, run: RunFolder, rounds: Sequence[Epoch]) -> Scored:
    """Accuracy of the decisions, and what is measured of the heads; of many owners the mean."""
    heads, (x, _) = clear_heads(experiment), _queries(experiment)
    revealed = [entry.revealed for entry in rounds]
    decisions, test = _decisions(revealed), decided(experiment, revealed)
    in_float = np.stack([head.float_logits(x).argmax(1) for head in heads])
    accuracy = Accuracy(
        train=float(np.mean([_on_own_samples(head) for head in heads])),
        test=test,
        baseline_test=None,
        test_by_epoch=(test,),
        seconds_by_epoch=(rounds[-1].seconds,),
    )
    measured = Head(
        queries=decisions.size,
        refused=int((decisions == reverse_he.REFUSED).sum()),
        argmax_agreement=float(np.mean(decisions == in_float)),
        bytes=_sizes(experiment, run),
        milliseconds=_milliseconds(run, decisions.size),
    )
    return Scored(accuracy=accuracy, steps=reverse_he.steps(experiment.config), head=measured)


def decided(experiment: Experiment, revealed: Sequence[Any]) -> float:
    """The share of the decisions that are right, mean over owners, from what each message of queries
    revealed.
    """
    return float(np.mean(_decisions(revealed) == _queries(experiment)[1]))


def baseline(experiment: Experiment) -> float:
    """The share of the queries about which the float head in the clear decides rightly, mean over owners."""
    x, y = _queries(experiment)
    return float(np.mean([head.float_logits(x).argmax(1) == y for head in clear_heads(experiment)]))


def _decisions(revealed: Sequence[Any]) -> NDArray[Any]:
    """(owners, queries)."""
    return np.concatenate([np.stack(told["decisions"]) for told in revealed], axis=1)


def _on_own_samples(head: ClearHead) -> float:
    inputs = head.state.inputs
    return float(np.mean(_encoded(head, inputs["images"]).argmax(1) == inputs["labels"]))


def _encoded(head: ClearHead, images: NDArray[Any]) -> NDArray[Any]:
    """Logits of the head as it was encrypted."""
    if head.state.config.encoding is Encoding.FLOAT:
        return head.float_logits(images)
    return head.integer_logits(images)


def _queries(experiment: Experiment) -> tuple[NDArray[Any], NDArray[Any]]:
    data, count = experiment.data, experiment.config.queries
    assert data.x_test is not None and data.y_test is not None
    return data.x_test[:count], data.y_test[:count]


def _sizes(experiment: Experiment, run: RunFolder) -> HeadBytes:
    """Bytes of a ciphertext, of the encrypted head, and of the encrypted answer to one query."""
    view = run.view("server")
    head, answer = (sum(row.nbytes for row in view.rows(label)) for label in ("head", "r"))
    view.close()
    config, owners = experiment.config, len(experiment.config.counts)
    each = {"head": head // owners, "answer": answer // (config.queries * owners)}
    return HeadBytes(ciphertext=config.params.nbytes, **each)


def _milliseconds(run: RunFolder, queries: int) -> HeadTimes:
    """Mean time of a query at server and authority, by the clock and of processors, from the hosts."""
    lines = [json.loads(line) for line in (run.path / "run.log").read_text(encoding="utf-8").splitlines()]
    timed = {line["step"]: line for line in lines if line["event"] == "step_timed"}
    steps = (("server", "encrypted_logits"), ("authority", "decide"))
    parts = [(party, step, kind, suffix) for party, step in steps
             for kind, suffix in (("seconds", ""), ("processor_seconds", "_processor"))]  # fmt: skip
    mean = {
        party + suffix: round(1e3 * timed[step][kind] / queries, 3) for party, step, kind, suffix in parts
    }
    return HeadTimes(**mean)
