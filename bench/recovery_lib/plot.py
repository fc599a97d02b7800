"""The pictures: every single pause of one round trip time, as SVG written by hand."""

import math

from common.svg import text

from .faults import FAULTS
from .subjects import SUBJECTS

LEFT, RIGHT, TOP = 320, 130, 74
WIDTH = 1000
SCALE = WIDTH - LEFT - RIGHT
LEAST, MOST = 1, 100_000  # milliseconds
LINE = 11
BETWEEN = 12
LOST_AT = {"hangs": WIDTH - 86, "dies": WIDTH - 54, "wrong": WIDTH - 20}

STYLE = """
  .back { fill: #ffffff } text { fill: #1f2328; font: 12px system-ui, sans-serif }
  .small { font-size: 11px; fill: #59636e } .line { stroke: #d1d9e0 } .band { fill: #f6f8fa }
  .wanted { stroke: #cf222e; stroke-width: 2 }
  .etcp { fill: #0969da; stroke: #0969da } .etcp-mptcp { fill: #8250df; stroke: #8250df }
  .tcp { fill: #59636e; stroke: #59636e } .mptcp-1 { fill: #9a6700; stroke: #9a6700 }
  .mptcp-2 { fill: #1a7f37; stroke: #1a7f37 }
  .up { fill-opacity: .55; stroke: none } .down { fill: none; stroke-opacity: .75 }
  .lost { fill: none; stroke-width: 1.5 }
  @media (prefers-color-scheme: dark) {
    .back { fill: #0d1117 } text { fill: #f0f6fc } .small { fill: #9198a1 }
    .line { stroke: #3d444d } .band { fill: #151b23 } .wanted { stroke: #f85149 }
    .etcp { fill: #58a6ff; stroke: #58a6ff } .etcp-mptcp { fill: #bc8cff; stroke: #bc8cff }
    .tcp { fill: #9198a1; stroke: #9198a1 } .mptcp-1 { fill: #d29922; stroke: #d29922 }
    .mptcp-2 { fill: #3fb950; stroke: #3fb950 } .down { fill: none }
  }
"""


def picture(rtt, samples, options):
    """A line of dots for each fault and subject, a bar where the limit of etcp is."""
    body, y = [], TOP
    for number, key in enumerate(options.faults):
        fault = FAULTS[key]
        subjects = [subject for subject in options.subjects
                    if SUBJECTS[subject].has_proxies or not fault.needs_proxies]
        height = LINE * len(subjects) + BETWEEN
        if number % 2 == 0:
            body.append(f'<rect class="band" x="0" y="{y}" width="{WIDTH}" height="{height}"/>')
        body.append(text(LEFT - 12, y + height / 2 + 4, fault.title, "end"))
        middle = y + BETWEEN / 2 + LINE / 2
        for subject in subjects:
            body += line_of(samples, subject, key, rtt, middle)
            if SUBJECTS[subject].has_proxies and fault.wanted:
                at = position(fault.limit(rtt))
                body.append(f'<path class="wanted" d="M{at:.1f} {middle - LINE / 2:.1f}v{LINE}"/>')
            middle += LINE
        y += height
    height = y + 34
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" role="img">',
        f"<title>Pauses at a round trip time of {rtt:g} ms</title>", f"<style>{STYLE}</style>",
        f'<rect class="back" width="{WIDTH}" height="{height}"/>',
        *body, *axis(y), *legend(rtt, options), "</svg>", ""])


def line_of(samples, subject, fault, rtt, y):
    """The dots of one subject at one fault: those up a little above those down."""
    dots = []
    for cell, taken in samples.items():
        if (cell.subject, cell.fault, cell.rtt) != (subject, fault, rtt):
            continue
        at_y = y + (-2 if cell.direction == "up" else 2)
        for one in taken:
            if one["pause"] is not None:
                x = position(one["pause"])
                dots.append(f'<circle class="{subject} {cell.direction}" cx="{x:.1f}" '
                            f'cy="{at_y:.1f}" r="2.6"/>')
        for outcome in sorted({one["outcome"] for one in taken} - {"back"}):
            x = LOST_AT[outcome]
            dots.append(f'<path class="{subject} lost" d="M{x - 3} {at_y - 3:.1f}l6 6m0 -6l-6 6"/>')
    return dots


def position(pause):
    pause = min(max(pause, LEAST), MOST)
    return LEFT + SCALE * math.log(pause / LEAST) / math.log(MOST / LEAST)


def axis(bottom):
    marks = []
    for power in range(6):
        x, pause = position(10 ** power), 10 ** power
        label = f"{pause} ms" if pause < 1000 else f"{pause // 1000} s"
        marks += [f'<path class="line" d="M{x:.1f} {TOP}V{bottom}"/>',
                  text(x, bottom + 16, label, "middle", "small")]
    return marks + [text(x, bottom + 16, outcome, "middle", "small")
                    for outcome, x in LOST_AT.items()]


def legend(rtt, options):
    parts = [text(16, 24, f"Pauses at a round trip time of {rtt:g} ms, each a dot: "
                          "filled up, hollow down; a red bar is what etcp is to keep")]
    x = 16
    for subject in options.subjects:
        title = SUBJECTS[subject].title.replace("`", "")
        parts += [f'<circle class="{subject} up" cx="{x + 4}" cy="46" r="4"/>',
                  text(x + 14, 50, title)]
        x += 44 + 6.6 * len(title)
    return parts
