"""Tables without frames, as all commands print them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import RenderableType
from rich.table import Table


def table(
    columns: Sequence[str], rows: Iterable[Sequence[RenderableType]], title: str | None = None, gap: int = 2
) -> Table:
    """A column whose name begins with `>` is set to the right and never broken; others fold."""
    found = Table(title=title, title_justify="left", box=None, padding=(0, gap, 0, 0), pad_edge=False)
    for name in columns:
        right = name.startswith(">")
        found.add_column(
            name.removeprefix(">"), justify="right" if right else "left", overflow="fold", no_wrap=right
        )
    for row in rows:
        found.add_row(*row)
    return found
