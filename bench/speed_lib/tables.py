"""The tables of the page, one function for each section."""

import statistics

from common.page import head, row

from .plot import number_text
from .sections import attach, beside, bulk, carriers, holder, paths
from .subjects import SUBJECTS

NOTHING = "–"


def beside_one(results, section, other, names, unit, factor=1):
    """Subjects down, figures across; each as a part of another subject's, then in its unit."""
    subjects = results.subjects(section, *names)
    lines = head("", *names.values()) if subjects else []
    for key in subjects:
        lines.append(row(SUBJECTS[key].title, *(
            figure(results, section, key, other, name, unit, factor) for name in names)))
    return "\n".join(lines)


def figure(results, section, key, other, name, unit, factor=1):
    value = results.median(section, key, name)
    if value is None:
        return NOTHING
    text = f"{number_text(value * factor)} {unit}"
    ratio = results.ratio(section, key, other, name)
    return text if ratio is None else f"**{ratio:.2f}** ({text})"


def bulk_rates(results):
    return beside_one(results, "a", "direct", BULK, "MB/s")


def bulk_cpu(results):
    names = {f"cpu-{name}": title for name, title in BULK.items()}
    return beside_one(results, "a", "socat", names, "s/GB")


BULK = {name: f"{'16 streams ' if streams > 1 else ''}{name.removesuffix('16')}"
        for name, streams in bulk.STREAMS.items()}
BULK["both"] = "both ways at once"


def echo_times(results):
    tables = []
    for name, title in (("alone", "alone"), ("others", "among 100 others")):
        names = {f"{name}-{part}": f"{label}, {title}" for part, label in
                 (("p50", "p50"), ("p99", "p99"), ("p999", "p99.9"))}
        tables.append(beside_one(results, "b", "direct", names, "µs"))
    return "\n\n".join(filter(None, tables))


def rates(results):
    return beside_one(results, "c", "haproxy",
                      {"one": "one after the other", "many": "64 at once"}, "/s")


def memory(results):
    lines = head("", "idle process, near / far", "a session, of 1,000, near / far",
                 "a session, of very many, near / far",
                 "both proxies before / amid / after a burst")
    for key in results.subjects("d"):
        many = values(results, "d", key, "KB", "many-near", "many-far")
        if count := results.median("d", key, "many-count"):
            tunnels = results.median("d", key, "many-tunnels")
            many += f" ({count:,.0f}" + (f" in {tunnels:.0f} tunnels)" if tunnels > 1 else ")")
        lines.append(row(
            SUBJECTS[key].title,
            values(results, "d", key, "MB", "size-near", "size-far", factor=1 / 1024),
            values(results, "d", key, "KB", "few-near", "few-far"), many,
            values(results, "d", key, "MB", "burst-before", "burst-amid", "burst-after",
                   factor=1 / 1024)))
    return "\n".join(lines)


def values(results, section, key, unit, *names, factor=1):
    found = [results.median(section, key, name) for name in names]
    if None in found:
        return NOTHING
    return " / ".join(number_text(value * factor) for value in found) + f" {unit}"


def far_paths(results):
    """Returns etcp's part of direct TCP's rate, for each path."""
    lines = head("RTT", "loss", *paths.CONGESTION)
    for rtt in paths.RTTS:
        for loss in paths.LOSSES:
            figures = [far_path(results, f"{congestion}-{rtt}-{loss}")
                       for congestion in paths.CONGESTION]
            if set(figures) != {NOTHING}:
                lines.append(row(f"{rtt} ms", f"{loss} %", *figures))
    return "\n".join(lines)


def far_path(results, name):
    ratio = results.ratio("e", "etcp", "direct", name)
    if ratio is None:
        return NOTHING
    mine, direct = (results.median("e", key, name) * 8 for key in ("etcp", "direct"))
    return f"**{ratio:.2f}** ({number_text(mine)} of {number_text(direct)} Mbit/s)"


def beside_bulk(results):
    lines = head("", "congestion control", "bulk", "echo p50", "echo p99", "rate of the bulk")
    for congestion in beside.CONGESTION:
        for way in beside.WAYS:
            for key in results.subjects("f", f"{congestion}-{way}-p50"):
                name = f"{congestion}-{way}"
                lines.append(row(SUBJECTS[key].title, congestion, way, *(
                    figure(results, "f", key, "direct", f"{name}-{part}", "ms")
                    for part in ("p50", "p99")),
                    figure(results, "f", key, "direct", f"{name}-bulk", "Mbit/s", 8)))
    return "\n".join(lines)


def several_carriers(results):
    """Returns the gain of several carriers, for each loss. Rates are also given as a part of one
    carrier's."""
    lines = head("loss", "carriers", *(f"{congestion}: {what}" for congestion in carriers.CONGESTION
                                       for what in ("bulk", "beside keystrokes", "echo p50 / p99")))
    for loss in carriers.LOSSES:
        for count in carriers.COUNTS:
            cells = [cell for congestion in carriers.CONGESTION
                     for cell in carriers_cells(results, f"{congestion}-{loss}", count)]
            if set(cells) != {NOTHING}:
                lines.append(row(f"{loss} %", str(count), *cells))
    return "\n".join(lines)


def carriers_cells(results, name, count):
    bulk = []
    for kind in carriers.KINDS:
        mine, one = (results.median("i", "etcp", f"{name}-{which}-{kind}-bulk")
                     for which in (count, 1))
        bulk.append(NOTHING if mine is None or not one else
                    f"**{mine / one:.2f}** ({number_text(mine * 8)} Mbit/s)")
    echo = [f"{name}-{count}-typing-{part}" for part in ("p50", "p99")]
    return *bulk, values(results, "i", "etcp", "ms", *echo)


def cost_of_holder(results):
    """Returns the figures with and without a holder, and the ratio in the rounds."""
    lines = head("", "without", "with", "with / without", "half of the rounds are within")
    for name, (title, unit) in holder.FIGURES.items():
        kinds = [results.samples("j", "etcp", f"{kind}-{name}") for kind in ("without", "with")]
        if not all(kinds):
            continue
        medians = [statistics.median(samples) for samples in kinds]
        ratios = sorted(mine / theirs for theirs, mine in zip(*kinds) if theirs)
        quarter = len(ratios) // 4
        lines.append(row(title, *(f"{number_text(it)} {unit}" for it in medians),
                         f"**{medians[1] / medians[0]:.3f}**",
                         f"{ratios[quarter]:.2f} – {ratios[-1 - quarter]:.2f}"))
    return "\n".join(lines) if len(lines) > 2 else ""


def attaches(results):
    lines = head("sessions", "tunnels", *attach.CUTS.values())
    for name in attach.COUNTS:
        count, tunnels = (results.median("g", "etcp", f"{name}-{what}")
                          for what in ("count", "tunnels"))
        if count:
            lines.append(row(f"{count:,.0f}", f"{tunnels:.0f}", *(
                values(results, "g", "etcp", "ms", f"{cut}-{name}") for cut in attach.CUTS)))
    return "\n".join(lines)


def thousand(results):
    count = results.median("g", "etcp", "tunnels-count")
    took = results.median("g", "etcp", "tunnels")
    if not count:
        return ""
    return (f"{count:,.0f} tunnels whose carriers are all reset at once, each of a cproxy of its "
            f"own, are all attached again after {took / 1000:.2f} s.")


def starts(results):
    lines = head("", "file", "stripped", "far side listens", "near side: first echo")
    for key in results.subjects("h"):
        lines.append(row(
            SUBJECTS[key].title,
            *(values(results, "h", key, "MB", name, factor=1 / 1024)
              for name in ("file", "stripped")),
            *(values(results, "h", key, "ms", name) for name in ("far", "near"))))
    return "\n".join(lines)
