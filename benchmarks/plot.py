"""The ratios as a picture: a line per row, a dot per server, on a logarithmic scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Final

from benchmarks.peers import Peer
from benchmarks.table import Line, heading

COLOURS: Final = ("#444444", "#0b7a4b", "#74b816", "#1c7ed6", "#e8590c")
LEFT, WIDTH, STEP, TOP = 520, 460, 24, 70
TICKS: Final = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20)


def make_plot(lines: Sequence[Line], peers: Sequence[Peer]) -> str:
    """Make an SVG document."""
    shown = [line for line in lines if any(cell.ratio for cell in line.cells.values())]
    height = TOP + STEP * len(shown) + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 40} {height}"',
        ' font-family="system-ui, sans-serif" font-size="12">',
        f'<rect width="100%" height="100%" fill="#ffffff"/><text x="16" y="22" font-size="14">{escape(heading(peers))}</text>',
    ]
    for index, peer in enumerate(peers):
        x = 22 + index * 185
        parts.append(f'<circle cx="{x}" cy="42" r="5" fill="{_colour(index)}"/><text x="{x + 10}" y="46">{escape(peer.title)}</text>')
    bottom = TOP + STEP * len(shown)
    for tick in TICKS:
        colour = "#444444" if tick == 1 else "#dddddd"
        parts.append(f'<line x1="{_x(tick)}" x2="{_x(tick)}" y1="{TOP - 10}" y2="{bottom}" stroke="{colour}"/>')
        parts.append(f'<text x="{_x(tick)}" y="{bottom + 18}" text-anchor="middle">{tick:g}×</text>')
    for number, line in enumerate(shown):
        y = TOP + STEP * number + 6
        parts.append(f'<text x="{LEFT - 14}" y="{y + 4}" text-anchor="end">{escape(line.title)}</text>')
        parts += [_dot(line, peer, index, y) for index, peer in enumerate(peers)]
    return "\n".join([*parts, "</svg>", ""])


def _dot(line: Line, peer: Peer, index: int, y: int) -> str:
    cell = line.cells.get(peer.name)
    if cell is None or not cell.ratio or not cell.low or not cell.high:
        return ""
    label = f"{peer.title}: {cell.ratio:.2f}× ({cell.low:.2f}–{cell.high:.2f}), {cell.value:.1f} {line.unit}"
    paint = f'stroke="{_colour(index)}" stroke-opacity="0.4" stroke-width="3"'
    whisker = f'<line x1="{_x(cell.low)}" x2="{_x(cell.high)}" y1="{y}" y2="{y}" {paint}/>'
    return f'{whisker}<circle cx="{_x(cell.ratio)}" cy="{y}" r="5" fill="{_colour(index)}"><title>{escape(label)}</title></circle>'


def _x(ratio: float) -> float:
    share = math.log(min(max(ratio, TICKS[0]), TICKS[-1]) / TICKS[0]) / math.log(TICKS[-1] / TICKS[0])
    return round(LEFT + share * WIDTH, 1)


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]
