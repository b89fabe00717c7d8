"""The key authority: holds master keys and answers key requests; it has no private input of its own."""

from __future__ import annotations

from parties.party import Party


class KeyAuthority(Party):
    """A party without samples; its master keys are drawn by the protocol's own steps."""
