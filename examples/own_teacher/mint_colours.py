"""A teacher in one file: labels are known by the mean colours of their images."""

from collections import defaultdict

import numpy as np
from pydantic import Field

from mint_core.plugin import ComponentConfig, Teacher, hookimpl, log_softmax


class ColoursConfig(ComponentConfig):
    """How far colours may lie apart."""

    spread: float = Field(12.0, gt=0, le=255, description="Distance of colours that makes a label e times less likely.")


class Colours(Teacher):
    """The nearer an image's colours are to the mean of a label's training images, the likelier the label.

    A training image is ranked without the images of its own group (slide), as if it were new.
    """

    name = "colours"
    reads = ("image",)
    Config = ColoursConfig

    def fit(self, samples):
        """Adds up colours by label and group, so that a group can be taken out again."""
        self.sums = np.zeros((len(self.labels), 6))
        self.counts = np.zeros(len(self.labels))
        self.by_group = defaultdict(lambda: (np.zeros_like(self.sums), np.zeros_like(self.counts)))
        for sample in samples:
            if sample.label is not None:
                row, colour = self.labels.index(sample.label), colours(sample)
                for sums, counts in ((self.sums, self.counts), self.by_group[sample.group]):
                    sums[row] += colour
                    counts[row] += 1

    def log_probs(self, samples):
        """Shape (samples, labels); a label of which nothing was seen gets what the farthest one gets."""
        rows = np.empty((len(samples), len(self.labels)), np.float32)
        for place, sample in enumerate(samples):
            sums, counts = self.sums, self.counts
            if sample.split == "train" and sample.group in self.by_group:
                own, seen = self.by_group[sample.group]
                sums, counts = sums - own, counts - seen
            means = sums / np.maximum(counts, 1)[:, None]
            distance = np.linalg.norm(means - colours(sample), axis=1) / self.config.spread
            distance[counts < 0.5] = distance.max()
            rows[place] = log_softmax(-distance[None])[0]
            self.context.advance(1)
        return rows


def colours(sample):
    """Mean and standard deviation of red, green and blue, from 0 to 255, shape (6,)."""
    pixels = np.asarray(sample.image.open().convert("RGB"), np.float64).reshape(-1, 3)
    return np.concatenate([pixels.mean(0), pixels.std(0)])


@hookimpl
def mint_teachers():
    """What this plugin brings."""
    return [Colours]
