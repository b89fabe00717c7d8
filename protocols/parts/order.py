"""In which order an owner uses its samples: in stored order, or permuted in each epoch.

`reshuffle`: an order of its own in each epoch. The cloud holds the labels, so it must know who is who: it
hides nothing. `unlinkable`: the same by the owner's own coins, with the labels at the owner, so that no
message says which samples a batch holds. But Z1 of a sample moves little from one epoch to the next: on
digits (480 samples, h = 48) the nearest Z1 of the epoch before is the same sample's for 10 % after the first
epoch and for 96 % after the fifth (chance .2 %; with noise +-10 44 %), so who keeps all Z1 links them again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.language.errors import ConfigError
from protocols.language.state import Owner
from protocols.network.config import Labels, Order
from protocols.network.schedule import Visit, permutation


def check(config: Any) -> None:
    """Refuse a private order where somebody else has to know it."""
    if config.order is Order.PRIVATE and config.labels is not Labels.OWNER:
        raise ConfigError(
            "--defence unlinkable needs --labels owner: with labels the cloud would have to know who is who"
        )


def own_rows(state: Owner, visit: Visit) -> NDArray[Any]:
    """O: X_B of its batch."""
    return state.inputs["images"][own_order(state, visit)]


def own_labels(state: Owner, visit: Visit) -> NDArray[Any]:
    """O: y_B of its batch."""
    return state.inputs["labels"][own_order(state, visit)]


def own_order(state: Owner, visit: Visit) -> slice | NDArray[np.int64]:
    """O: which of its samples are its batch; where the order is private, drawn anew from its coins in each
    epoch.
    """
    config = state.config
    if config.order is not Order.PRIVATE:
        return visit.rows(config, state.index)
    epoch, batch = visit.position(config, state.index)
    if state.held.get("order", (None,))[0] != epoch:
        drawn = permutation(state.coins.stream("order"), config.counts[state.index])
        state.held["order"] = epoch, drawn
    order: NDArray[np.int64] = state.held["order"][1]
    return order[batch]
