"""A secure sum: every owner pads its samples, with pads of the helper that cancel; the cloud adds up what
arrives.
"""

from dataclasses import dataclass

import numpy as np

from protocols.language.figure import Arrow
from protocols.language.roles import CLOUD_TRAINER, DATA_OWNER, Role
from protocols.language.state import State
from protocols.network import training
from protocols.network.config import Training

HELPER = Role("helper")
NAME, SUMMARY, SECURITY = "one_time_pads", "a secure sum of samples", "one-time pads: nobody learns a sample"
ROLES = (DATA_OWNER, HELPER, CLOUD_TRAINER)
FIGURE = (
    Arrow("setup", HELPER, DATA_OWNER, "pad", "pads that cancel"),
    Arrow("step", DATA_OWNER, CLOUD_TRAINER, "padded", "X + pad"),
)


class Helper(State, role=HELPER):
    """What the helper holds."""


@dataclass(frozen=True)
class Options(Training):
    """Nothing of its own."""


def run(s, config):
    o, h, c = s.each(DATA_OWNER), s.at(HELPER), s.at(CLOUD_TRAINER)
    with s.phase("setup"):
        pads = h.send(o, pad=s.scatter(h.do(draw), o))
    with s.phase("step", 0):
        c.do(total, s.gather(o.send(c, padded=o.do(padded, pads))))
    with s.phase("accuracy", 1):
        c.do(training.start_model)
        yield s.reveal(c.do(training.weights), why="accuracy")


def steps(config):
    return 1


def draw(h: Helper) -> list:
    n, owners = h.config.features, len(h.config.counts)
    pads = [h.coins.stream("pads").uniform(4096.0, 1, n) for _ in range(owners - 1)]
    return [*pads, -np.sum(pads, axis=0)]


def padded(state, pad):
    return state.inputs["images"][:1] + pad


def total(state, parts):
    state.held["total"] = np.sum(parts, axis=0)
