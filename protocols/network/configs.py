"""Which class holds the public configuration of which protocol."""

from __future__ import annotations

from typing import Any

from protocols.network.config import Config
from protocols.network.head_config import HeadConfig


def read_config(protocol: str, plain: dict[str, Any]) -> Any:
    """The configuration that a run of this protocol wrote down; `ConfigError` if it is none.

    A `HeadConfig` of `reverse_he`, a `Config` of all others.
    """
    return HeadConfig.from_plain(plain) if protocol == "reverse_he" else Config.from_plain(plain)
