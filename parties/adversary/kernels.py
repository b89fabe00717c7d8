"""What views of MITIG2 with a first convolution give away: the kernels of a round, and Z1 = convolution of x.

A convolution gives more numbers than an image has pixels, so whoever knows the kernels and Z1 solves for the image by least squares. The
authority that averages knows the kernels that a round begins with, and so does every owner of the round; the cloud knows Z1.
"""

from __future__ import annotations

import numpy as np

from parties.adversary.attack import Learned
from parties.adversary.known_average import averages
from parties.adversary.solvers.least_squares import LeastSquares
from parties.adversary.solvers.rows import integer_share
from parties.adversary.trajectory import by_use, owners_of, uses
from parties.record.view import Kind, View
from protocols.language.roles import CLOUD_TRAINER, DATA_OWNER, KEY_AUTHORITY, party_name, role_of
from protocols.network import conv


def samples(view: View) -> list[Learned]:
    """Lines about the samples of owners outside of the view."""
    roles = {role_of(party) for party in view.parties}
    if roles == {CLOUD_TRAINER}:
        return hidden(view)
    if roles & {KEY_AUTHORITY, DATA_OWNER} and CLOUD_TRAINER in roles:
        return known(view)
    return sums(view) if KEY_AUTHORITY in roles else []


def hidden(view: View) -> list[Learned]:
    """The cloud alone: Z1, with the kernels unknown."""
    if not any(True for _ in view.rows("z1", Kind.RECEIVED)):
        return []
    config = view.config
    detail = f"Z1 = {config.first} of x with the kernels unknown: {config.width} numbers a step, of each batch in its step"
    return [_line(view, f"all {sum(config.counts)} samples", "bounded", detail, 0)]


def sums(view: View) -> list[Learned]:
    """The authority alone: what an owner's kernels changed by."""
    if not any(True for _ in view.rows("w1_copy", Kind.RECEIVED)):
        return []
    kernels, length = view.config.first_shape
    return [
        _line(
            view,
            "the samples of a round",
            "bounded",
            f"W1 - W1' is {kernels * length} sums over their patches",
            0,
        )
    ]


def known(view: View) -> list[Learned]:
    """The cloud with the authority or with an owner: the first batch of a round of the next owner, whose kernels are known."""
    config, corrupted, layer = view.config, owners_of(view), view.config.conv
    if layer is None or not view.has_payloads() or len(config.counts) == len(corrupted):
        return []
    means = averages(view)
    other = next(i for i in range(len(config.counts)) if i not in corrupted)
    use = next(
        (u for number, steps in uses(config) if number in means for u in steps[0] if u.owner == other), None
    )
    row = None if use is None else by_use(view, "z1", Kind.RECEIVED).get((use.step, other))
    if use is None or row is None:
        return []
    system, of = LeastSquares(layer.features), f"the first batch of {party_name(DATA_OWNER, other)}"
    rank = system.add(conv.matrix(means[use.round], layer))
    detail = f"Z1 = {config.first} of x with the averaged kernels known: rank {rank} of {layer.features}"
    if not system.full:
        return [_line(view, of, "bounded", detail, use.step)]
    z1 = np.asarray(view.value(row), np.float64)
    share = integer_share(system.solve(z1) * config.pixel_unit, config.x_max)
    said = f"{detail}; {share:.0%} of the pixels come out as integers"
    return [_line(view, of, "exact" if share == 1.0 else "bounded", said, use.step)]


def _line(view: View, of: str, how: str, detail: str, since: int) -> Learned:
    return Learned(", ".join(view.parties), "samples", of, how, detail, since)
