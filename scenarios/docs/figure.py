"""The message figure of a protocol as SVG, which needs no script and no network."""

from __future__ import annotations

from html import escape

from protocols.language.figure import Figure
from scenarios.page import drawing
from scenarios.page.timeline import Crossing


def as_svg(figure: Figure, name: str) -> str:
    """The figure as a sequence diagram: a line for each role, an arrow for each label, dashed where only some
    runs have it.
    """
    crossed = [
        Crossing(phase, *arrow.key[1:], number)
        for number, (phase, arrow) in enumerate(zip(_phases(figure), figure, strict=True))
    ]
    drawn = drawing.diagram(crossed, {})
    body = [_phase(phase) for phase in drawn.phases] + [_lane(lane, drawn.height) for lane in drawn.lanes]
    for placed in drawn.arrows:
        arrow = figure[placed.number]
        x, dashes = (placed.x1 + placed.x2) / 2, ' stroke-dasharray="5 4"' if arrow.when else ""
        body.append(
            f'<line x1="{placed.x1}" x2="{placed.x2}" y1="{placed.y}" y2="{placed.y}" stroke="currentColor" '
            f'stroke-width="1.4"{dashes} marker-end="url(#head)"/>'
            + _text(x, placed.y - 6, f"{arrow.label}: {arrow.note}" if arrow.note else arrow.label, 12)
            + _text(x, placed.y + 13, f"[{arrow.when}]" if arrow.when else "", 10)
        )
    head = (
        '<defs><marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" '
        'orient="auto"><path d="M0 0 8 4 0 8z" fill="currentColor"/></marker></defs>'
    )
    size = f'viewBox="0 0 {drawing.WIDTH} {drawn.height}" style="width: 100%; max-width: 60rem"'
    said = f"Sequence diagram of {escape(name)}: {len(figure)} kinds of messages"
    return f'<svg {size} role="img" aria-label="{said}" font-family="sans-serif">{head}{"".join(body)}</svg>'


def _phases(figure: Figure) -> list[str]:
    """The phase of each arrow; one that comes a second time has another heading there."""
    named = list[str]()
    for before, arrow in zip((None, *figure), figure, strict=False):
        again = before is not None and before.phase != arrow.phase and arrow.phase in named
        same = before is not None and before.phase == arrow.phase
        named.append(named[-1] if same else f"{arrow.phase}, again" if again else arrow.phase)
    return named


def _text(x: float, y: float, text: str, points: int, how: str = 'text-anchor="middle"') -> str:
    return f'<text x="{x}" y="{y}" font-size="{points}" fill="currentColor" {how}>{escape(text)}</text>'


def _phase(phase: drawing.Phase) -> str:
    band = f'<rect x="0" y="{phase.y - 16}" width="{drawing.WIDTH}" height="22" fill="#8883"/>'
    return band + _text(8, phase.y, phase.name, 12, "")


def _lane(lane: drawing.Lane, height: float) -> str:
    line = f'<line x1="{lane.x}" x2="{lane.x}" y1="30" y2="{height - 8}" stroke="#8886" stroke-width="1.5"/>'
    return line + _text(lane.x, 22, lane.role.replace("_", " "), 12)
