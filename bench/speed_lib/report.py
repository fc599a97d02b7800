"""The page: tables and pictures, around the text of `speed.md` beside this file."""

import pathlib
import string

from common.page import head, machine, row

from . import tables, wanted
from .plot import Chart
from .sections import attach, beside, paths
from .tables import BULK


def write(run):
    """Writes page and pictures. Returns the text for the terminal."""
    results, out = run.results, run.options.out
    out.parent.mkdir(parents=True, exist_ok=True)
    template = string.Template(pathlib.Path(__file__).with_name("speed.md").read_text())
    parts = {
        "wanted": wanted_table(results), "bulk": tables.bulk_rates(results),
        "cpu": tables.bulk_cpu(results), "echo": tables.echo_times(results),
        "rate": tables.rates(results), "memory": tables.memory(results),
        "paths": tables.far_paths(results), "beside": tables.beside_bulk(results),
        "attach": tables.attaches(results), "thousand": tables.thousand(results),
        "start": tables.starts(results), "carriers": tables.several_carriers(results),
        "holder": tables.cost_of_holder(results)}
    pictures = {f"{name}_picture": picture(out, name, chart)
                for name, chart in charts(results).items()}
    page = template.substitute(
        {name: part if "\n" in part or name == "thousand" else "Not measured in this run."
         for name, part in parts.items()},
        missed=missed(results), kept=kept(run), rounds=run.options.rounds, machine=machine(),
        versions=run.tools.versions, **pictures)
    out.write_text(page)
    shown = ("bulk", "cpu", "echo", "rate", "memory", "paths", "beside", "carriers", "holder",
             "attach", "start")
    return "\n\n".join(parts[name] for name in (*shown, "wanted") if parts[name].count("\n") > 1)


def kept(run):
    """Returns which sections were not measured in this run."""
    if not run.kept:
        return "Everything was measured in one run."
    return (f"These were measured in an earlier run of the same etcp: {', '.join(run.kept)}."
            " The others were in one run.")


def wanted_table(results):
    lines = head("etcp's", "wanted", "measured", "")
    for goal in wanted.goals(results):
        lines.append(row(goal.what, goal.limit_text(), goal.figure_text(),
                         "yes" if goal.is_met else "**NO**"))
    return "\n".join(lines)


def missed(results):
    """Returns the reasons why a subject has a dash in the tables."""
    lines = [f"- section {section}, {times} times: {words}"
             for (section, _, words), times in results.failures.items()]
    return "\n".join(["Not measured:", "", *lines]) if lines else ""


def picture(out, name, chart):
    """Returns the reference to a picture that is written beside the page, unless it is empty."""
    svg = chart.svg()
    if svg is None:
        return ""
    path = out.with_name(f"{out.stem}-{name}.svg")
    path.write_text(svg)
    return f"![{chart.title}]({path.name})"


def charts(results):
    bulk = Chart("Bulk", "MB/s")
    cpu = Chart("CPU time of both proxies", "s/GB")
    for name, title in BULK.items():
        bulk.group(title, results, "a", name, results.subjects("a"))
        cpu.group(title, results, "a", f"cpu-{name}", results.subjects("a"))
    echo = Chart("Echo of 64 bytes", "µs", is_logarithmic=True)
    for name, title in (("alone", "alone"), ("others", "among 100 others")):
        for part, label in (("p50", "p50"), ("p99", "p99"), ("p999", "p99.9")):
            echo.group(f"{title}, {label}", results, "b", f"{name}-{part}", results.subjects("b"))
    rate = Chart("Connections in a second", "/s", is_logarithmic=True)
    for name, title in (("one", "one after the other"), ("many", "64 at once")):
        rate.group(title, results, "c", name, results.subjects("c"))
    memory = Chart("Memory of an idle session", "KB", is_logarithmic=True)
    for name, title in (("few", "of 1,000"), ("many", "of very many")):
        for side in ("near", "far"):
            memory.group(f"{title}, {side} proxy", results, "d", f"{name}-{side}",
                         results.subjects("d"))
    slow = Chart("Bulk on a link of 100 Mbit/s", "Mbit/s", factor=8)
    for rtt in paths.RTTS:
        for loss in paths.LOSSES:
            for congestion in paths.CONGESTION:
                slow.group(f"{rtt} ms, {loss} % loss, {congestion}", results, "e",
                           f"{congestion}-{rtt}-{loss}", results.subjects("e"))
    echo_beside = Chart("Echo beside bulk on a link of 50 Mbit/s and 40 ms", "ms")
    for congestion in beside.CONGESTION:
        for way in beside.WAYS:
            for part in ("p50", "p99"):
                echo_beside.group(f"{congestion}, {way}, {part}", results, "f",
                                  f"{congestion}-{way}-{part}", results.subjects("f"))
    pauses = Chart("Pause while the carrier is replaced", "ms", is_logarithmic=True)
    for name in attach.COUNTS:
        count = results.median("g", "etcp", f"{name}-count")
        for cut, title in attach.CUTS.items():
            label = f"{count:,.0f} sessions, {title}" if count else name
            pauses.group(label, results, "g", f"{cut}-{name}", ["etcp"])
    return {"bulk": bulk, "cpu": cpu, "echo": echo, "rate": rate, "memory": memory, "paths": slow,
            "beside": echo_beside, "attach": pauses}
