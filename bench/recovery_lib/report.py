"""The page: tables from the results, around the text of `recovery.md` beside this file."""

import pathlib
import string

from common.page import head, machine, row

from . import plan, plot
from .faults import FAULTS
from .subjects import SUBJECTS
from .summary import Summary, duration

DIRECTIONS = ("up", "down")


def write(run, options):
    """Writes page and pictures. Returns the table of limits, for the terminal."""
    results = {cell: Summary(run.results[cell]) for cell in plan.cells(options)
               if cell in run.results}
    page = Page(results, run, options)
    pictures = page.pictures()
    template = string.Template(pathlib.Path(__file__).with_name("recovery.md").read_text())
    wanted = page.wanted()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(template.substitute(
        samples=options.samples, baseline_samples=min(options.samples, options.baseline_samples),
        wanted=wanted, missed=page.missed(), comparison=page.comparison(), pictures=pictures,
        faults=page.faults(), noise=page.noise(), machine=machine(), version=run.programs.version))
    return f"{wanted}\n\n{page.missed()}\n"


def broken(run):
    """Streams that lost or doubled a byte, or were lost although etcp carried them."""
    return [f"{cell}: {one['outcome']}: {one.get('words', '')}"
            for cell, samples in run.results.items() for one in samples
            if one["outcome"] == "wrong"
            or one["outcome"] != "back" and SUBJECTS[cell.subject].has_proxies]


class Page:
    """The parts of the page that come from the results."""

    def __init__(self, results, run, options):
        self.options, self.samples = options, run.results
        self.cells = {(cell.subject, cell.fault, cell.rtt, cell.direction): summary
                      for cell, summary in results.items()}
        self.proxied = [key for key in options.subjects if SUBJECTS[key].has_proxies]

    def wanted(self):
        """For each etcp: every fault and direction, all round trip times, against the limit."""
        tables = []
        for subject in self.proxied:
            lines = [f"### {SUBJECTS[subject].title}", "",
                     *head("fault", "", "wanted", *(f"RTT {rtt:g}" for rtt in self.options.rtt))]
            for key in self.options.faults:
                for direction in DIRECTIONS:
                    fault = FAULTS[key]
                    figures = [self.judged(subject, key, rtt, direction)
                               for rtt in self.options.rtt]
                    wanted = fault.wanted_text()
                    if fault.most_attaches is not None:
                        attaches = f"attaches ≤ {fault.most_attaches}"
                        wanted = f"{wanted}, {attaches}" if wanted else attaches
                    lines.append(row(fault.title, direction, wanted, *figures))
            tables.append("\n".join(lines))
        return "\n\n".join(tables)

    def judged(self, subject, key, rtt, direction):
        summary = self.cells.get((subject, key, rtt, direction))
        if not summary:
            return ""
        fault = FAULTS[key]
        limit = fault.limit(rtt)
        figure = summary.text(limit)
        if fault.most_attaches is not None:
            figure += f", {summary.attaches} attaches"
        if limit:
            figure += f" ≤ {duration(limit)}"
        if summary.written:
            figure += f", written after {summary.written_text(limit)}"
        return f"{figure} {'✗' if summary.failures(fault, rtt) else '✓'}"

    def missed(self):
        lines = []
        for (subject, key, rtt, direction), summary in self.cells.items():
            if subject in self.proxied and (found := summary.failures(FAULTS[key], rtt)):
                lines.append(f"- {SUBJECTS[subject].title}: {FAULTS[key].title}, {direction}, "
                             f"RTT {rtt:g}: {'; '.join(found)}")
        return "\n".join(lines) or "None."

    def comparison(self):
        """All subjects side by side, a table for each round trip time."""
        tables = []
        for rtt in self.options.rtt:
            lines = [f"### RTT {rtt:g} ms", "",
                     *head("fault", *(SUBJECTS[key].title for key in self.options.subjects))]
            for key in self.options.faults:
                lines.append(row(FAULTS[key].title, *(
                    self.both_ways(subject, key, rtt) for subject in self.options.subjects)))
            tables.append("\n".join(lines))
        return "\n\n".join(tables)

    def both_ways(self, subject, key, rtt):
        found = {direction: summary.text() for direction in DIRECTIONS
                 if (summary := self.cells.get((subject, key, rtt, direction)))}
        if len(found) == 2 and len(set(found.values())) == 1:
            return found["up"]
        return "<br>".join(f"{direction} {text}" for direction, text in found.items()) or "–"

    def pictures(self):
        lines = []
        for rtt in self.options.rtt:
            name = f"{self.options.out.stem}-rtt{rtt:g}.svg"
            self.options.out.with_name(name).write_text(
                plot.picture(rtt, self.samples, self.options))
            lines.append(f"![All pauses at a round trip time of {rtt:g} ms]({name})")
        return "\n\n".join(lines)

    def faults(self):
        lines = head("fault", "key", "counted", "worlds at once")
        for key in self.options.faults:
            fault = FAULTS[key]
            worlds = self.options.worlds if fault.is_quiet else max(1, self.options.worlds // 4)
            lines.append(row(fault.title, f"`{key}`", fault.counted, f"≤ {worlds}"))
        return "\n".join(lines)

    def noise(self):
        """The longest gap in a second without a fault, over all samples."""
        worst = sorted(one["healthy_worst"] for samples in self.samples.values()
                       for one in samples)
        if not worst:
            return "nothing was measured"
        return (f"{worst[len(worst) // 2]:.1f} ms in the median, "
                f"{worst[len(worst) * 99 // 100]:.1f} ms in the 99th percentile")
