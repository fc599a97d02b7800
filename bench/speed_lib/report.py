"""The page."""


def write(run):
    from .subjects import SUBJECTS
    out = []
    seen = {}
    for (section, subject, name) in run.results._samples:
        seen.setdefault(section, {}).setdefault(name, []).append(subject)
    for section, names in sorted(seen.items()):
        out.append(f"\n{section}")
        subjects = run.results.subjects(section)
        out.append(f"{'':22}" + "".join(f"{key:>12}" for key in subjects))
        for name in names:
            row = f"{name:22}"
            for key in subjects:
                value = run.results.median(section, key, name)
                row += f"{value:12.2f}" if value is not None else f"{'-':>12}"
            out.append(row)
    return "\n".join(out)
