"""A leak that no message shows: padded samples, and later a checksum of the pads. Each alone is noise."""

from dataclasses import dataclass

from protocols.language.figure import Arrow
from protocols.language.roles import CLOUD_TRAINER, DATA_OWNER
from protocols.network import training
from protocols.network.config import Training

NAME, SUMMARY, SECURITY = (
    "checksums",
    "padded samples, checked by the sum of their pads",
    "pads that come back",
)
ROLES = (DATA_OWNER, CLOUD_TRAINER)
FIGURE = (
    Arrow("step", DATA_OWNER, CLOUD_TRAINER, "padded", "X + pad, a fresh pad each step"),
    Arrow("step", DATA_OWNER, CLOUD_TRAINER, "checksum", "the sum of the last three pads"),
)


@dataclass(frozen=True)
class Options(Training):
    """Nothing of its own."""


def run(s, config):
    o, c = s.at(DATA_OWNER), s.at(CLOUD_TRAINER)
    for step in range(config.epochs):
        with s.phase("step", step):
            c.do(keep, o.send(c, padded=o.do(padded, step)))
            if step == 2:
                c.do(keep, o.send(c, checksum=o.do(checksum)))
    with s.phase("accuracy", step):
        c.do(training.start_model)
        yield s.reveal(c.do(training.weights), why="accuracy")


def steps(config):
    return config.epochs


def padded(state, step: int):
    x = state.inputs["images"][:2]
    state.held[step] = state.coins.stream("pad").uniform(255.0, *x.shape)
    return x + state.held[step]


def checksum(state):
    return state.held[0] + state.held[1] + state.held[2]


def keep(state, value):
    state.held.setdefault("kept", []).append(value)
