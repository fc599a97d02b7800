"""The pictures: groups of bars, one bar for each subject, with a dot for every sample."""

import math

from common.svg import text

from .subjects import SUBJECTS

WIDTH, LEFT, RIGHT, TOP = 1000, 250, 110, 74
SCALE = WIDTH - LEFT - RIGHT
BAR, BETWEEN, AXIS = 11, 14, 34

STYLE = """
  .back { fill: #ffffff } text { fill: #1f2328; font: 12px system-ui, sans-serif }
  .small { font-size: 11px; fill: #59636e } .line { stroke: #d1d9e0 } .band { fill: #f6f8fa }
  .dot { fill: #1f2328; fill-opacity: .35 }
  .direct { fill: #8c959f } .mptcp { fill: #bf8700 } .socat { fill: #1a7f37 }
  .haproxy { fill: #4ac26b } .ssh { fill: #cf222e } .stunnel { fill: #bf3989 }
  .rathole { fill: #8250df } .etcp { fill: #0969da }
  @media (prefers-color-scheme: dark) {
    .back { fill: #0d1117 } text { fill: #f0f6fc } .small { fill: #9198a1 }
    .line { stroke: #3d444d } .band { fill: #151b23 } .dot { fill: #f0f6fc; fill-opacity: .4 }
    .etcp { fill: #58a6ff }
  }
"""


class Chart:
    """Draws one picture: figures of a section side by side."""

    def __init__(self, title, unit, is_logarithmic=False, factor=1):
        self.title, self.unit = title, unit
        self._is_logarithmic, self._factor = is_logarithmic, factor
        self._groups = []

    def group(self, label, results, section, name, subjects):
        """Draws the bars of one figure. There is none where it was not measured."""
        bars = [(key, [value * self._factor for value in samples],
                 results.median(section, key, name) * self._factor)
                for key in subjects if (samples := results.samples(section, key, name))]
        if bars:
            self._groups.append((label, bars))

    def svg(self):
        values = [value for _, bars in self._groups for _, samples, median in bars
                  for value in [*samples, median] if value > 0]
        if not values:
            return None
        self._most = max(values) * 1.02
        self._least = min(values) * 0.8 if self._is_logarithmic else 0
        bands, body, y = [], [], TOP
        for number, (label, bars) in enumerate(self._groups):
            height = BAR * len(bars) + BETWEEN
            if number % 2 == 0:
                bands.append(f'<rect class="band" y="{y}" width="{WIDTH}" height="{height}"/>')
            body.append(text(LEFT - 12, y + height / 2 + 4, label, "end"))
            for place, bar in enumerate(bars):
                body += self._bar(y + BETWEEN / 2 + place * BAR, *bar)
            y += height
        height = y + AXIS
        return "\n".join([
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            f'width="{WIDTH}" height="{height}" role="img">',
            f"<title>{self.title}</title>", f"<style>{STYLE}</style>",
            f'<rect class="back" width="{WIDTH}" height="{height}"/>',
            *bands, *self._axis(y), *body, *self._legend(), "</svg>", ""])

    def _bar(self, y, key, samples, median):
        end = self._position(median)
        yield (f'<rect class="{key}" x="{LEFT}" y="{y + 1:.1f}" width="{end - LEFT:.1f}" '
               f'height="{BAR - 2}"/>')
        for sample in samples:
            yield (f'<circle class="dot" cx="{self._position(sample):.1f}" '
                   f'cy="{y + BAR / 2:.1f}" r="2"/>')
        furthest = max(end, *(self._position(sample) for sample in samples))
        yield text(furthest + 6, y + BAR - 1.5, number_text(median), kind="small")

    def _position(self, value):
        if self._is_logarithmic:
            value = max(value, self._least)
            part = math.log(value / self._least) / math.log(self._most / self._least)
        else:
            part = value / self._most
        return LEFT + SCALE * part

    def _axis(self, bottom):
        for mark in self._marks():
            x = self._position(mark)
            yield f'<path class="line" d="M{x:.1f} {TOP}V{bottom}"/>'
            yield text(x, bottom + 16, number_text(mark), "middle", "small")
        yield text(WIDTH - 16, bottom + 30, self.unit, "end", "small")

    def _marks(self):
        if self._is_logarithmic:
            powers = range(math.floor(math.log10(self._least)), math.ceil(math.log10(self._most)))
            marks = [part * 10 ** power for power in powers for part in (1, 2, 5)]
            return [mark for mark in marks if self._least <= mark <= self._most]
        step = 10 ** math.floor(math.log10(self._most))
        step *= next(part for part in (0.2, 0.5, 1, 2) if self._most / step / part <= 8)
        return [step * number for number in range(int(self._most / step) + 1)]

    def _legend(self):
        yield text(16, 24, f"{self.title}: medians, and each sample a dot")
        x = 16
        for key in SUBJECTS:
            if any(key == bar[0] for _, bars in self._groups for bar in bars):
                yield f'<rect class="{key}" x="{x}" y="40" width="9" height="9"/>'
                yield text(x + 14, 49, SUBJECTS[key].title)
                x += 40 + 6.6 * len(SUBJECTS[key].title)


def number_text(value):
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
