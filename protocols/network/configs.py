"""Which class holds the public configuration of which protocol."""

from __future__ import annotations

import importlib
from typing import Any

from protocols.language.options import from_plain
from protocols.network.head_config import HeadConfig


def read_config(protocol: str, plain: dict[str, Any]) -> Any:
    """The configuration that a run of this protocol wrote down; `ConfigError` if it is none."""
    if protocol == "reverse_he":
        return HeadConfig.from_plain(plain)
    return from_plain(importlib.import_module(f"protocols.{protocol}").Options, plain)
