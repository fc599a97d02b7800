"""Every sample of a run, and what they come to."""

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
        """Counts what a subject did not do; the first line of the words says what."""
        failure = (section, subject, words.strip().splitlines()[0])
        self.failures[failure] = self.failures.get(failure, 0) + 1

    def median(self, section, subject, name):
        """The median, or nothing if it was not measured."""
        samples = self._samples.get((section, subject, name))
        return statistics.median(samples) if samples else None

    def samples(self, section, subject, name):
        return self._samples.get((section, subject, name), [])

    def subjects(self, section, *names):
        """Who has one of these figures, or any, in the order of the tables."""
        return [key for key in SUBJECTS
                if any(where == section and subject == key and (not names or name in names)
                       for where, subject, name in self._samples)]

    def ratio(self, section, subject, other, name):
        """A median as a part of another subject's."""
        mine, theirs = (self.median(section, key, name) for key in (subject, other))
        return mine / theirs if mine is not None and theirs else None

    def save(self, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(
            [{"section": section, "subject": subject, "figure": name, "samples": samples}
             for (section, subject, name), samples in self._samples.items()], indent=1))

    @classmethod
    def load(cls, path):
        results = cls()
        for one in json.loads(path.read_text()):
            key = (one["section"], one["subject"], one["figure"])
            results._samples[key] = one["samples"]
        return results
