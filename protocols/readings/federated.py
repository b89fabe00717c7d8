"""What views of federated learning say: the model before and after an owner's steps, so D X of its samples.

Whoever sees a copy beside the average that its round began with has W1 - W1' = D X, D unknown, as in a split
network (`split.py`), and the change of every other layer.
"""

from __future__ import annotations

from collections.abc import Iterator

from protocols.language.relations import KnownMap, Plain, Relation
from protocols.language.roles import DATA_OWNER, KEY_AUTHORITY
from protocols.language.view import View
from protocols.readings import masks, split
from protocols.readings.samples import owned


def relations(view: View) -> Iterator[Relation]:
    """The layers that were handed out and came back, how the first one moved, and what else crosses."""
    yield from split.averages(view)
    yield from split.updates(view)
    yield Plain(labels=("pk", "pks", "share_pk", "share_pks"), quantity="public keys for masks")
    yield Plain(labels=("stayed", "opened", "hidden_mean", "hidden_copy"))
    for found in masks.opened(view):
        yield split.with_bias(found, view.config) if isinstance(found, KnownMap) else found
    yield from owned("weights", KEY_AUTHORITY.value, view, "it draws the network and averages the copies")
    yield from owned("weights", DATA_OWNER.value, view, "of its own copy")
