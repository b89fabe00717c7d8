"""What a run folder holds, on a terminal: as it is, with no markup, and with escapes instead of control
characters.

Labels, names and types come out of transcripts and JSON files that may be a stranger's. Everything that the
command line prints passes here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment


def printable(text: object) -> str:
    """One line that a terminal shows as it stands: `\\x1b`, `\\n`, `\\u202e` stand for what it would obey."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


class PlainConsole(Console):
    """A console on which no text is markup, moves the cursor, sets a colour or turns the writing."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(markup=False, emoji=False, **settings)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else "\n".join(map(printable, text.split("\n"))), style, control)
