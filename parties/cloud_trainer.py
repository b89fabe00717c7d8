"""The cloud trainer: holds ciphertexts and the model it trains; it has no private input of its own."""

from __future__ import annotations

from parties.party import Party


class CloudTrainer(Party):
    """A party without samples; its weights are drawn by the protocol's own steps."""
