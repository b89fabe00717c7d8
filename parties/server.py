"""The server: holds a public base and an encrypted head, and answers queries; it has no private input of its own."""

from __future__ import annotations

from parties.party import Party


class Server(Party):
    """A party without samples; the public base is among its inputs."""
