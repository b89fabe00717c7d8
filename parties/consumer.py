"""The consumer: is trusted with the decisions of an encrypted head; it has no private input of its own."""

from __future__ import annotations

from parties.party import Party


class Consumer(Party):
    """A party without samples; decisions come to it by the protocol's own messages."""
