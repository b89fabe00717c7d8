"""What other code says, recorded: no protocol of this language, but the transcripts of one.

Whoever records (`scenarios/recorder`) states the relations, and this module reads them back. There is nothing
here to run, so nothing that is replayed, audited or asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, NoReturn

from protocols.language import relations as relation
from protocols.language.errors import ConfigError
from protocols.language.options import derived
from protocols.language.session import Session
from protocols.language.statements import stated
from protocols.language.view import View
from protocols.readings import samples

NAME = "recorded"
SUMMARY = "transcripts of code that is not written in the language"
SECURITY = "of the code that was recorded"
ROLES = ()
FIGURE = ()
REFUSAL = "this is a recording of other code: there is no protocol that could be run here"
_LARGEST = 1 << 26


@dataclass(frozen=True)
class Options:
    """What is public of a recording, as far as its author says: sizes of the data."""

    features: int = derived("n, pixels of an image", least=1)
    classes: int = derived("k, classes; 0 where that is not said", 0, least=0)
    x_max: int = derived("pixels are integers from 0 to x_max", 255, least=1)
    counts: tuple[int, ...] = derived("samples of each owner; empty where that is not said", (), least=1)
    shape: tuple[int, ...] = derived("rows, columns and, in colour, channels of an image", (), least=1)

    def __post_init__(self) -> None:
        sizes = (self.features, self.x_max, *self.counts, *self.shape)
        if min(sizes) < 1 or self.classes < 0 or sum(self.counts) > _LARGEST or max(sizes) > _LARGEST:
            raise ConfigError(f"sizes of a recording must be from 1 to {_LARGEST}")
        if self.shape and (len(self.shape) not in (2, 3) or prod(self.shape) != self.features):
            raise ConfigError(f"images of {self.features} pixels cannot be of shape {self.shape}")


def run(s: Session, config: Options) -> Iterator[Any]:
    """Nothing can be run."""
    refused()


def check(config: Options) -> None:
    """Refuse to be run."""
    refused()


def refused() -> NoReturn:
    """Say so."""
    raise ConfigError(REFUSAL)


def relations(view: View) -> Iterator[relation.Relation]:
    """Those that were stated, and the inputs of owners that are parties of the view."""
    if view.config.counts:
        yield from samples.own(view)
    yield from stated(view, sum(view.config.counts))
