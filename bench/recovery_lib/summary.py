"""The summary of a cell's samples."""

import statistics

BACK = "back"


class Summary:
    """A cell's samples in a few words."""

    def __init__(self, samples):
        self.count = len(samples)
        self.pauses = sorted(one["pause"] for one in samples if one["pause"] is not None)
        self.written = sorted(one["written"] for one in samples
                              if one["pause"] is not None and "written" in one)
        self.lost = {}
        for one in samples:
            if one["outcome"] != BACK:
                self.lost[one["outcome"]] = self.lost.get(one["outcome"], 0) + 1
        self.attaches = max((one.get("attaches", 0) for one in samples), default=0)

    @property
    def median(self):
        return statistics.median(self.pauses)

    @property
    def worst(self):
        return self.pauses[-1]

    def text(self, limit=None):
        """Median and worst, those in bold that are over the limit; or how the stream was lost."""
        if not self.lost:
            return " / ".join(bold_over(pause, limit) for pause in (self.median, self.worst))
        lost = ", ".join(f"{outcome} {count} of {self.count}" if self.pauses else outcome
                         for outcome, count in sorted(self.lost.items()))
        return f"{duration(self.median)} / {lost}" if self.pauses else lost

    def written_text(self, limit=None):
        """The same for the first byte that was written after a path worked again."""
        return " / ".join(bold_over(time, limit)
                          for time in (statistics.median(self.written), self.written[-1]))

    def failures(self, fault, rtt_ms):
        """The values that miss their limits."""
        found = [f"{outcome} in {count} of {self.count}" for outcome, count in self.lost.items()]
        limit = fault.limit(rtt_ms)
        if limit and self.pauses:
            found += [f"{name} {duration(value)}" for name, value in
                      (("median", self.median), ("worst", self.worst)) if value > limit]
        if limit and self.written and self.written[-1] > limit:
            found.append(f"written after it, worst {duration(self.written[-1])}")
        if fault.most_attaches is not None and self.attaches > fault.most_attaches:
            found.append(f"{self.attaches} new attaches")
        return found


def bold_over(pause, limit):
    return f"**{duration(pause)}**" if limit and pause > limit else duration(pause)


def duration(milliseconds):
    if milliseconds < 999.5:
        return f"{milliseconds:.0f}"
    return f"{milliseconds / 1000:.2f} s" if milliseconds < 9995 else f"{milliseconds / 1000:.1f} s"
