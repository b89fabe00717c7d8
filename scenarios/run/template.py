"""NAME: what your protocol does, step by step, in the symbols of its paper.

1. O: Z1 = W1 X_B^T            O -> C: Z1, y
2. C: forward, backward        C -> O: dZ1
3. O: W1 <- W1 - lr dZ1^T X_B / B
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from protocols import plain
from protocols.language.figure import Arrow
from protocols.language.options import option
from protocols.language.roles import CLOUD_TRAINER, DATA_OWNER
from protocols.language.session import Session
from protocols.language.state import Owner
from protocols.network import nn, training
from protocols.network.config import Training
from protocols.network.schedule import Batch, batches

NAME = "template"
SUMMARY = "the owner keeps its samples and W1, the cloud trains the layers above"
SECURITY = "no encryption: the cloud sees Z1 and the labels"
ROLES = (DATA_OWNER, CLOUD_TRAINER)
FIGURE = (
    Arrow("step", DATA_OWNER, CLOUD_TRAINER, "z1", "Z1 = W1 X_B^T"),
    Arrow("step", DATA_OWNER, CLOUD_TRAINER, "labels", "y"),
    Arrow("step", CLOUD_TRAINER, DATA_OWNER, "dz1"),
)


@dataclass(frozen=True)
class Options(Training):
    """The options of training, and those of this protocol; each shows up in --help."""

    scale: float = option(1.0, "What Z1 is multiplied by: an example of an option.", least=0)


def run(s: Session, config: Options) -> Iterator[Any]:
    """Train; yields what is revealed after each epoch, by which accuracy is measured."""
    o, c, step = s.at(DATA_OWNER), s.at(CLOUD_TRAINER), 0
    with s.phase("setup"):
        o.do(training.start_first)
        c.do(training.start_upper)
    for _ in range(config.epochs):
        for batch in batches(config):
            with s.phase("step", step):
                z1, labels = o.send(c, z1=o.do(first_layer, batch), labels=o.do(labels_of, batch))
                dz1 = c.send(o, dz1=c.do(training.upper_layers, z1, labels))
                o.do(update_w1, dz1, batch)
            step += 1
        with s.phase("accuracy", step):
            weights = (o.do(training.first_weights), c.do(training.upper_weights))
            yield [s.reveal(part, why="accuracy") for part in weights]


def first_layer(o: Owner, batch: Batch) -> Any:
    """O: Z1 (B, h)."""
    x = training.batch_slice(o.inputs["images"], batch)
    return (o.config.scale * nn.first_layer(x, o.w1.value, o.config.pixel_unit)).numpy()


def labels_of(o: Owner, batch: Batch) -> Any:
    """O: y (B,)."""
    return training.batch_slice(o.inputs["labels"], batch)


def update_w1(o: Owner, dz1: Any, batch: Batch) -> None:
    """O: W1 <- W1 - lr dZ1^T X_B / B."""
    x = training.batch_slice(o.inputs["images"], batch)
    dw1 = nn.first_layer_gradient(training.tensor(o.config.scale * dz1), x, o.config.pixel_unit)
    training.update_w1(o, dw1)


unprotected = plain.unprotected  # the baseline of accuracy: the same training without protection

# What a reader of the messages may write down (protocols/language/relations.py). Until you say it, knowledge
# of these labels reads "not analysed":
#     def relations(view: View) -> Iterator[Relation]: ...
