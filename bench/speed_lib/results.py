"""All samples of a run, and their medians."""

import json
import statistics

from .subjects import SUBJECTS


class Results:
    """Samples by section, subject and figure."""

    def __init__(self):
        self._samples = {}
        self.failures = {}

    def add(self, section, subject, **figures):
        for name, value in figures.items():
            self._samples.setdefault((section, subject, name), []).append(value)

    def fail(self, section, subject, words):
        """Counts a failure of a subject. The first line of the text describes it."""
        failure = (section, subject, words.strip().splitlines()[0])
        self.failures[failure] = self.failures.get(failure, 0) + 1

    def median(self, section, subject, name):
        """Returns the median, or nothing if it was not measured."""
        samples = self._samples.get((section, subject, name))
        return statistics.median(samples) if samples else None

    def samples(self, section, subject, name):
        return self._samples.get((section, subject, name), [])

    def subjects(self, section, *names):
        """Returns the subjects that have one of these figures, or any, in the order of the tables."""
        return [key for key in SUBJECTS
                if any(where == section and subject == key and (not names or name in names)
                       for where, subject, name in self._samples)]

    def ratio(self, section, subject, other, name):
        """Returns the ratio of a median to that of another subject."""
        mine, theirs = (self.median(section, key, name) for key in (subject, other))
        return mine / theirs if mine is not None and theirs else None

    def take(self, other, sections):
        """Adds the samples of another run for these sections. Returns the sections that it has."""
        taken = {key: value for key, value in other._samples.items() if key[0] in sections}
        self._samples.update(taken)
        return sorted({section for section, _, _ in taken})

    def save(self, path, digest):
        """Stores all samples, with the digest of the etcp that was measured."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"etcp": digest, "samples": [
            {"section": section, "subject": subject, "figure": name, "samples": samples}
             for (section, subject, name), samples in self._samples.items()]}, indent=1))

    @classmethod
    def load(cls, path, digest):
        """Returns the samples of a run of this etcp. Raises ValueError if it was another one."""
        saved, results = json.loads(path.read_text()), cls()
        if saved["etcp"] != digest:
            raise ValueError(f"{path} is of another etcp")
        for one in saved["samples"]:
            key = (one["section"], one["subject"], one["figure"])
            results._samples[key] = one["samples"]
        return results
