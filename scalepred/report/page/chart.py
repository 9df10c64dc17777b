"""A picture of numbers as inline SVG: axes, lines, bands, marks and their legend.

Colours are variables of the page, so that a picture follows its light or dark scheme:
--t text, --l lines, --b background, --fit, --out, --tgt what was fitted, held out,
asked for. What is drawn has a class for its colour (`fit`, `out`, `tgt`, `plain`,
`s1` to `s8`) and one for its form (`line`, `band`, `open`, `full`, ...); see `STYLE`,
which the page must hold once.

A script may move what is drawn (zoom.js): capital letters of a path lead places, small
ones the form of a mark. A picture is laid out for the large text of a narrow screen,
where 640 units are about 370 pixels; on a wide one the text takes fewer units.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from scalepred.report.elements import escape
from scalepred.report.page.axis import LETTER, Axis, choose_ticks
from scalepred.report.page.paths import draw_dots, draw_shape, say, thin, trace

WIDTH, HEIGHT = 640, 380
_LEFT, _RIGHT, _BOTTOM = 66, 26, 52
_ROW = 24  # of the legend
# More marks than this are dots, whose places are whole units.
MOST_SHAPES = 1500
# Between these places of a line there is a place more, so that it is cut cleanly.
_FINE = 8

STYLE = """
:root { --s1: #0072b2; --s2: #d55e00; --s3: #009e73; --s4: #b8609a; --s5: #b07d00;
  --s6: #3c95c8; --s7: #7a5c3e; --s8: #6a6f76; }
@media (prefers-color-scheme: dark) { :root { --s1: #6cb8ea; --s2: #f08b4b;
  --s3: #3ccaa0; --s4: #e39bc8; --s5: #e6b93c; --s6: #9fd4f5; --s7: #c9a787;
  --s8: #a9b0b8; } }
.chart { display: block; width: 100%; height: auto; --c: var(--t); }
.chart text { fill: var(--t); font: 13px system-ui, sans-serif;
  font-variant-numeric: tabular-nums; }
@media screen and (max-width: 640px) { .chart text { font-size: 18px; } }
.chart .grid { fill: none; stroke: var(--l); }
.chart .fit { --c: var(--fit); } .chart .out { --c: var(--out); }
.chart .tgt { --c: var(--tgt); } .chart .plain { --c: var(--t); }
.chart .s1 { --c: var(--s1); } .chart .s2 { --c: var(--s2); }
.chart .s3 { --c: var(--s3); } .chart .s4 { --c: var(--s4); }
.chart .s5 { --c: var(--s5); } .chart .s6 { --c: var(--s6); }
.chart .s7 { --c: var(--s7); } .chart .s8 { --c: var(--s8); }
.chart .line { fill: none; stroke: var(--c); stroke-width: 2.2;
  stroke-linejoin: round; }
.chart .thin { fill: none; stroke: var(--c); stroke-width: 1.2; }
.chart .faint { opacity: .55; }
.chart .dashed { stroke-dasharray: 5 4; }
.chart .band { fill: var(--c); opacity: .17; stroke: none; }
.chart .open { fill: var(--b); stroke: var(--c); stroke-width: 1.4; }
.chart .full { fill: var(--c); stroke: none; }
.chart .ends { fill: none; stroke: var(--c); stroke-linecap: square; }
.chart .rim { stroke: var(--b); stroke-width: 1.5; paint-order: stroke; }
.chart .shade { fill: var(--t); opacity: .07; stroke: none; }
.chart .dots { fill: none; stroke: var(--c); stroke-width: 3; opacity: .5; }
.chart .round { stroke-linecap: round; } .chart .square { stroke-linecap: square; }
@media print { .chart .square { stroke-linecap: round; } }
.chart .halo { paint-order: stroke; stroke: var(--b); stroke-width: 4px;
  stroke-linejoin: round; }
"""


class Key(NamedTuple):
    """One entry of a legend.

    Attributes:
        shape: of `Chart.marks`, or line or band.
        style: classes.
        text: what it means.
        region: whose marks a script hides with this entry.
        series: likewise.
    """

    shape: str
    style: str
    text: str
    region: str = ""
    series: str = ""

    @property
    def width(self) -> float:
        """In units, with the gap that follows."""
        return 34 + len(self.text) * LETTER


class Chart:
    """What is drawn so far; in the order in which it is drawn."""

    def __init__(
        self,
        kind: str,
        x: Axis,
        y: Axis,
        keys: Sequence[Key] = (),
        *,
        height: int = HEIGHT,
        right: int = _RIGHT,
        zooms: bool = False,
    ) -> None:
        """An empty chart.

        Args:
            kind: which one of a page, for scripts.
            x: to the right.
            y: upwards.
            keys: the legend, above the axes.
            height: of the whole, in units.
            right: units beside the axes on the right, for labels of lines.
            zooms: a script may show other ranges, and a linear axis upwards. So lines
                keep the places at which they are bent there only.
        """
        self.kind, self.x, self.y, self.height = kind, x, y, height
        self._rows = _break_rows(keys)
        self.top, self.bottom = _ROW * (len(self._rows) + 1) + 4, height - _BOTTOM
        self._y_ticks = choose_ticks(y, self.bottom - self.top, is_upward=True)
        longest = max((len(y.write(tick)) for tick in self._y_ticks), default=0)
        self.left = max(_LEFT, math.ceil(longest * LETTER) + 12)
        self.right = WIDTH - right
        self._zooms = zooms
        self._parts: list[str] = []

    def at_x(self, numbers: np.ndarray | float) -> np.ndarray:
        """Units from the left, shaped like the numbers."""
        return self.left + self.x.share(numbers) * (self.right - self.left)

    def at_y(self, numbers: np.ndarray | float) -> np.ndarray:
        """Units from the top."""
        return self.bottom - self.y.share(numbers) * (self.bottom - self.top)

    def line(
        self, x: np.ndarray, y: np.ndarray, style: str = "plain line", **data: str
    ) -> None:
        """A line through [places], cut at the axes' ends; NaN leaves a gap."""
        across, down = self._cut(self.at_x(x), self.at_y(y))
        # Each stretch of numbers between gaps.
        known = np.flatnonzero(np.isfinite(across) & np.isfinite(down))
        stretches = np.split(known, np.flatnonzero(np.diff(known) > 1) + 1)
        drawn = "".join(
            trace(*self._thin(across[own], down[own]))
            for own in stretches
            if len(own) > 1
        )
        if drawn:
            self._draw_path(drawn, style, data)

    def band(
        self,
        x: np.ndarray,
        lower: np.ndarray,
        upper: np.ndarray,
        style: str = "plain band",
        **data: str,
    ) -> None:
        """The area between two lines [places]; nothing where they are not finite."""
        known = np.isfinite(x) & ~np.isnan(lower) & ~np.isnan(upper)
        if known.sum() < 2:
            return
        across = np.clip(self.at_x(x[known]), self.left, self.right)
        low, high = (
            self._thin(across, np.clip(self.at_y(end[known]), self.top, self.bottom))
            for end in (lower, upper)
        )
        around = (np.append(low[i], high[i][::-1]) for i in range(2))
        self._draw_path(trace(*around) + "z", style, data)

    def marks(
        self,
        x: np.ndarray,
        y: np.ndarray,
        shape: str,
        style: str,
        *,
        size: float = 3.6,
        **data: str,
    ) -> None:
        """One path for all marks [marks] that lie between the axes' ends.

        Args:
            x: numbers, not places.
            y: likewise.
            shape: circle | square | diamond | star | cross.
            style: classes, such as "fit open".
            size: half the width, in units.
            data: attributes for scripts, such as series and region.
        """
        across, down = self.at_x(x), self.at_y(y)
        seen = self._holds(across, down)
        across, down = across[seen], down[seen]
        if not len(across):
            return
        places = list(zip(across.tolist(), down.tolist(), strict=True))
        if shape == "square" and "full" in style.split():
            # The square ends of short lines are squares, in fewer bytes. In a PDF lines
            # without length have none.
            drawn = "".join(f"M{say(x)} {say(y)}h.1" for x, y in places)
            self._draw_path(drawn, style.replace("full", "ends"), data, 1.8 * size)
            return
        drawn = "".join(draw_shape(shape, *place, size) for place in places)
        self._draw_path(drawn, style, data)

    def dots(
        self, x: np.ndarray, y: np.ndarray, shape: str, style: str, **data: str
    ) -> None:
        """`marks` of thousands: small, in whole units, none twice.

        Args:
            x: numbers, not places.
            y: likewise.
            shape: circle, or else square.
            style: the class of the colour, and further ones.
            data: attributes for scripts.
        """
        across, down = self.at_x(x), self.at_y(y)
        seen = self._holds(across, down)
        if np.any(seen):
            cap = "round" if shape == "circle" else "square"
            drawn = draw_dots(across[seen], down[seen])
            self._draw_path(drawn, f"{style} dots {cap}", data)

    def bars(
        self,
        x: np.ndarray,
        lower: np.ndarray,
        upper: np.ndarray,
        style: str = "plain thin",
        **data: str,
    ) -> None:
        """Vertical bars [bars], cut at the axes' ends; none where an end is NaN."""
        across = self.at_x(x)
        low, high = (
            np.clip(self.at_y(end), self.top, self.bottom) for end in (lower, upper)
        )
        known = np.isfinite(low) & np.isfinite(high)
        known &= (across >= self.left) & (across <= self.right) & (low != high)
        drawn = "".join(
            f"M{say(x)} {say(y)}V{say(end)}"
            for x, y, end in zip(across[known], low[known], high[known], strict=True)
        )
        if drawn:
            self._draw_path(drawn, style, data)

    def star(
        self,
        x: float,
        y: float,
        lower: float,
        upper: float,
        told: str,
        **data: str,
    ) -> None:
        """A star with its interval, and the words that a pointer on it brings up."""
        place = [np.array([number]) for number in (x, y, lower, upper)]
        self._parts.append(f"<g{_attributes(data)}><title>{escape(told)}</title>")
        self.bars(place[0], place[2], place[3], "tgt line")
        self.marks(place[0], place[1], "star", "tgt full rim", size=9.0)
        self._parts.append("</g>")

    def vertical(self, x: float, text: str, row: int = 0) -> None:
        """A dashed line at a number, with words beside its upper end.

        Args:
            x: the number.
            text: the words; right of the line, or left where there is no room.
            row: lines of text from the top at which they stand.
        """
        across = float(self.at_x(x))
        if not self.left <= across <= self.right:
            return
        self._parts.append(
            f'<path class="plain thin dashed faint" d="M{say(across)} {self.top}'
            f'V{self.bottom}"/>'
        )
        is_right = across + len(text) * LETTER < WIDTH
        shift, anchor = (6, "start") if is_right else (-6, "end")
        self._parts.append(
            f'<text class="halo" data-keeps="y" x="{say(across)}" dx="{shift}" '
            f'y="{self.top + 16 + row * 22}"{_anchor(anchor)}>{escape(text)}</text>'
        )

    def horizontal(self, y: float, text: str) -> None:
        """A dashed line at a number, with words above its left end."""
        down = float(self.at_y(y))
        if not self.top <= down <= self.bottom:
            return
        self._parts.append(
            f'<path class="plain thin dashed faint" d="M{self.left} {say(down)}'
            f'H{self.right}"/>'
        )
        self._parts.append(
            f'<text class="halo" data-keeps="x" x="{self.left + 6}" y="{say(down)}" '
            f'dy="-6">{escape(text)}</text>'
        )

    def words(
        self, across: float, down: float, text: str, anchor: str = "start"
    ) -> None:
        """Text at a place in units, readable on lines and marks."""
        self._parts.append(
            f'<text class="halo" x="{say(across)}" y="{say(down)}"'
            f"{_anchor(anchor)}>{escape(text)}</text>"
        )

    def add(self, part: str) -> None:
        """A piece of SVG."""
        self._parts.append(part)

    def draw(self, seen: str) -> str:
        """The picture.

        Args:
            seen: a sentence that says what is to be seen, with its numbers, to who
                cannot see it.
        """
        about = " ".join(
            f'data-{name}="{axis.low:.6g} {axis.high:.6g} {ends[0]} {ends[1]} '
            f'{"log" if axis.is_log else "linear"}" data-{name}-shows="{axis.shows}"'
            for name, axis, ends in (
                ("x", self.x, (self.left, self.right)),
                ("y", self.y, (self.bottom, self.top)),
            )
        )
        return (
            f'<svg class="chart" viewBox="0 0 {WIDTH} {self.height}" role="img" '
            f'aria-label="{escape(seen)}" data-chart="{self.kind}" {about}>\n'
            + "\n".join([self._frame(), *self._drawn(), *self._legend()])
            + '\n<g class="marker"></g>\n</svg>\n'
        )

    def _drawn(self) -> list[str]:
        if not self._zooms:
            return self._parts
        return ['<g class="plot">', *self._parts, "</g>"]

    def _frame(self) -> str:
        """Grid lines, ticks and titles of both axes."""
        lines, words = [], []
        for number in choose_ticks(self.x, self.right - self.left):
            across = say(self.at_x(number))
            lines.append(f"M{across} {self.top}V{self.bottom}")
            words.append(
                f'<text x="{across}" y="{self.bottom + 20}">'
                f"{escape(self.x.write(number))}</text>"
            )
        for number in self._y_ticks:
            down = float(self.at_y(number))
            lines.append(f"M{self.left} {say(down)}H{self.right}")
            words.append(
                f'<text x="{self.left - 7}" y="{say(down + 5)}"{_anchor("end")}>'
                f"{escape(self.y.write(number))}</text>"
            )
        middle = (self.left + self.right) / 2
        titles = (
            f'<text x="{say(middle)}" y="{self.height - 8}"{_anchor("middle")}>'
            f'{escape(self.x.title)}</text><text x="2" y="{self.top - 10}">'
            f"{escape(self.y.title)}</text>"
        )
        ticks = f'<path class="grid" d="{"".join(lines)}"/>{"".join(words)}'
        return f'<g class="ticks"{_anchor("middle")}>{ticks}</g>{titles}'

    def _legend(self) -> list[str]:
        """Its entries from left to right."""
        lines = {"line": "M-10 0H10", "band": "M-10 -7H10V7H-10z"}
        drawn = []
        for row, keys in enumerate(self._rows):
            across = 14.0
            for key in keys:
                symbol = lines.get(key.shape) or draw_shape(key.shape, 0, 0, 5)
                about = _attributes({"region": key.region, "series": key.series})
                drawn.append(
                    f'<g class="key"{about} transform="translate({say(across)} '
                    f'{14 + row * _ROW})"><path class="{key.style}" d="{symbol}"/>'
                    f'<text x="16" y="5">{escape(key.text)}</text></g>'
                )
                across += key.width
        return drawn

    def _thin(self, across: np.ndarray, down: np.ndarray) -> tuple[np.ndarray, ...]:
        return (across, down) if self._zooms else thin(across, down)

    def _holds(self, across: np.ndarray, down: np.ndarray) -> np.ndarray:
        """Which places lie between the axes' ends, with half a unit's grace."""
        inside = (across >= self.left - 0.5) & (across <= self.right + 0.5)
        return inside & (down >= self.top - 0.5) & (down <= self.bottom + 0.5)

    def _cut(self, across: np.ndarray, down: np.ndarray) -> tuple[np.ndarray, ...]:
        """A line with NaN where it leaves the axes."""
        if np.all(self._holds(across, down)):
            return across, down
        count = len(across)
        fine = np.linspace(0, count - 1, _FINE * (count - 1) + 1)
        across, down = (np.interp(fine, np.arange(count), p) for p in (across, down))
        return across, np.where(self._holds(across, down), down, np.nan)

    def _draw_path(
        self, path: str, style: str, data: dict[str, str], width: float = 0.0
    ) -> None:
        stroke = f' stroke-width="{say(width)}"' if width else ""
        self._parts.append(
            f'<path class="{style}"{_attributes(data)}{stroke} d="{path}"/>'
        )


def _break_rows(keys: Sequence[Key]) -> list[list[Key]]:
    """The entries of a legend in as few rows as hold them."""
    rows: list[list[Key]] = []
    for key in keys:
        if not rows or sum(k.width for k in (*rows[-1], key)) > WIDTH:
            rows.append([])
        rows[-1].append(key)
    return rows


def _anchor(anchor: str) -> str:
    return "" if anchor == "start" else f' text-anchor="{anchor}"'


def _attributes(data: dict[str, str]) -> str:
    """data-NAME="..." of each that is not empty; "_" in a name stands for "-"."""
    return "".join(
        f' data-{name.replace("_", "-")}="{escape(text)}"'
        for name, text in data.items()
        if text
    )
