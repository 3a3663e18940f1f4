"""The base of teachers that fit a classifier on frozen features: an author writes `features`, this does the rest."""

from __future__ import annotations

import inspect
import math
import os
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
from pydantic import Field

from mint_core.errors import ContractError, DataError, did_you_mean
from mint_core.files import digest_of, digest_of_path
from mint_core.folds import FoldCount, classifier_log_probs, group_folds
from mint_core.interfaces import ComponentConfig, Context, Teacher
from mint_core.teachers.feature_cache import FeatureStore, batches, stream_features
from mint_core.types import ImageRef, Sample

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

T = TypeVar("T")
PENALTIES = (0.1, 1.0, 10.0, 100.0, 1000.0)
"""What `c` is chosen from where it is not given."""
MOST, _OF_EACH = 50_000, 20
"""Labelled samples that a classifier is fitted on, and how many of each label are surely among them."""
SMALL = 10_000_000
"""Entries of a feature matrix below which one thread fits the classifier."""


class FittedConfig(ComponentConfig):
    """The options that every fitted teacher has."""

    c: float | None = Field(
        1.0,
        gt=0,
        le=1e12,
        description="Inverse strength of the L2 penalty; null = that of 0.1, 1 … 1000 which makes the labels of a "
        "fold most likely that was not fitted on.",
    )
    cross_fit: FoldCount = Field(
        5,
        description="Folds, so that a training sample is ranked by a model that did not see its group; 0 = off.",
    )


def drawn(targets: NDArray[np.int64], most: int, seed: int) -> NDArray[np.int64]:
    """Positions of so many samples, drawn at random, ascending; the rarest labels keep all that they have.

    Args:
        targets: The label of each sample.
        most: How many.
        seed: Another one draws others.
    """
    order = np.random.default_rng([seed, 23]).permutation(len(targets))
    turn = np.empty(len(targets), np.int64)  # how many of its label were drawn before it
    by_label = order[np.argsort(targets[order], kind="stable")]
    starts = np.flatnonzero(np.diff(targets[by_label], prepend=-1))
    turn[by_label] = np.arange(len(targets)) - np.repeat(starts, np.diff(starts, append=len(targets)))
    first = order[np.argsort(turn[order] >= _OF_EACH, kind="stable")]
    return np.sort(first[:most])


class FittedTeacher(Teacher):
    """A classifier on frozen features; a subclass needs a `name` and `features`.

    A model ranks the samples that it was fitted on almost perfectly, which would teach the student an order that
    the teacher cannot give for new samples. Labelled training samples therefore get the log-probabilities of a
    model that was fitted without their fold, and samples of one `group` share a fold (`cross_fit` folds; 0 gives
    in-sample values). All others, unlabelled training samples among them, get the model of the whole training
    split. Of more than 50,000 labelled samples so many are drawn, and the models are fitted on them; another sample
    of a drawn `group` is ranked by the model that did not see that group. A label without a training sample gets
    the lowest probability of every row, in a fold as in the whole; a fold whose rest has fewer than two labels is
    ranked evenly.

    Features are made once per content and kept in the cache between runs: by the image's key, the digest of the text,
    or both and the privileged fields, as `reads` says.

    Raises:
        DataError: Fewer than two labels occur in the training split, or there is nothing to fit on; a sample lacks what
            the teacher reads.
        StorageError: The feature cache fails.

        class Colours(FittedTeacher):
            name = "colours"
            reads = ("image",)

            def features(self, samples):
                return np.stack([np.asarray(sample.image.open()).mean((0, 1)) for sample in samples])
    """

    Config: ClassVar[type[Any]] = FittedConfig
    config: FittedConfig
    advice: ClassVar[str] = "label more of them"
    """The next step of a user whose training split has fewer than two labels."""
    nothing: ClassVar[str] = "name another teacher, or fill what it reads"
    """The next step of a user whose samples hold nothing to fit on."""

    def __init__(self, config: Any = None, context: Context | None = None) -> None:
        super().__init__(config, context)
        self._model: Any = None
        self._held_out: dict[str, NDArray[np.float32]] = {}
        self._apart: list[Any] = []
        """The model of each fold, which did not see its groups; kept where some of very many samples were drawn."""
        self._fold_of: dict[str, int] = {}
        """The fold of each group that was drawn."""
        self._facts: dict[str, Any] = {}

    @abstractmethod
    def features(self, samples: Sequence[Any]) -> NDArray[Any]:
        """Features of samples, shape (n, dim); a row must not depend on the samples beside it.

        Args:
            samples: What `prepare` made of each: the sample itself where a subclass leaves that out.

        Raises:
            DataError: A sample cannot be read.
        """

    def prepare(self, sample: Sample) -> Any:
        """What `features` gets for a sample; made in a thread, some samples ahead. For example its decoded image."""
        return sample

    def classifier(self, rows: NDArray[Any], c: float) -> Any:
        """An unfitted scikit-learn classifier with a `decision_function`; None where there is nothing to fit on.

        Args:
            rows: The features that it will be fitted on.
            c: Inverse strength of the L2 penalty.
        """
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        return make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=1000))

    def content_key(self, sample: Sample) -> str:
        """Names what `features` reads of a sample: equal keys mean equal features."""
        if self.reads == ("image",):
            return self.image_of(sample).key
        if self.reads == ("text",):
            return digest_of(self.text_of(sample))
        image = None if sample.image is None else sample.image.key
        return digest_of([image, sample.text, dict(sample.privileged)])

    @property
    def cache_name(self) -> str:
        """The feature cache's file: another one for other weights, other options that change features, other code."""
        options = self.config.model_dump(mode="json", exclude=set(FittedConfig.model_fields) | self.config.neutral)
        code = digest_of_path(Path(inspect.getfile(type(self))))
        about = [self.version, code, self.fingerprint(self.config), options, np.dtype(self.dtype).name]
        return f"{self.name}-{digest_of(about)[:24]}.sqlite"

    @property
    def dtype(self) -> DTypeLike | None:
        """How a feature is kept; None = features are no numbers, or cost nothing, and are made anew each time."""
        return np.float32

    @property
    def cached(self) -> bool:
        """Whether features are kept between runs."""
        return True

    @property
    def batch_size(self) -> int:
        """Samples per call of `features`."""
        return 64

    @property
    def shares_work(self) -> bool:
        """scikit-learn fits the same classifier in every process."""
        return True

    @property
    def workers(self) -> int:
        """Threads that run `prepare`."""
        return min(8, os.cpu_count() or 1)

    def image_of(self, sample: Sample) -> ImageRef:
        """The sample's image.

        Raises:
            DataError: It has none.
        """
        return self._there(sample, "image", sample.image)

    def text_of(self, sample: Sample) -> str:
        """The sample's text.

        Raises:
            DataError: It has none.
        """
        return self._there(sample, "text", sample.text)

    def _there(self, sample: Sample, what: str, value: T | None) -> T:
        if value is None:
            raise DataError(
                f"Sample '{sample.id}' has no {what}, and the teacher {self.name} needs one; leave the sample out."
            )
        return value

    def extract(self, samples: Sequence[Sample]) -> None:
        """Fills the feature cache, where there is one."""
        if not self.cached or self.dtype is None:
            self.context.advance(len(samples))
            return
        for _ in self.stream(samples, self.context.advance):
            pass

    def fit(self, samples: Sequence[Sample]) -> None:
        """Fits on the labelled samples, or on some where they are very many, once per fold and once on all of them."""
        labelled, targets = self.labelled(samples, MOST)
        rows = np.concatenate(list(self.stream(labelled, lambda _: None)))
        groups = [f"group {one.group}" if one.group is not None else f"sample {one.id}" for one in labelled]
        folds = group_folds(groups, self.config.cross_fit)
        c = self.config.c or self._chosen(rows, targets, groups)
        self._model, converged = self._fitted(rows, targets, c)
        if self._model is None:
            raise DataError(
                f"No training sample has anything that the teacher '{self.name}' could learn from; {self.nothing}."
            )
        self._facts |= {
            "fitted_on": len(labelled), "c": c, "converged": converged,
            "training_rankings": "out-of-fold" if folds else "in-sample",
        }  # fmt: skip
        held_out = np.full((len(rows), len(self.labels)), -math.log(len(self.labels)), np.float32)
        for fold, (train, rest) in enumerate(folds):
            model, _ = self._fitted(rows[train], targets[train], c)
            if model is not None:
                held_out[rest] = self._ranked(model, rows[rest])
            if len(labelled) < self._facts.get("labelled", 0):
                self._apart.append(model)
                self._fold_of |= {group: fold for i in rest if (group := labelled[i].group) is not None}
        ids = [sample.id for sample in labelled]
        self._held_out = dict(zip(ids, held_out, strict=True)) if folds else {}

    def log_probs(self, samples: Sequence[Sample]) -> NDArray[np.float32]:
        """See `mint_core.interfaces.teacher.Teacher.log_probs`.

        Raises:
            ContractError: `fit` was not called.
        """
        out = np.empty((len(samples), len(self.labels)), np.float32)
        done = 0
        for rows in self.stream(samples, self.context.advance):
            out[done : done + len(rows)] = self.ranked(rows)
            for fold, places in self._known_groups(samples[done : done + len(rows)]).items():
                model = self._apart[fold]
                even = -math.log(len(self.labels))
                out[[done + place for place in places]] = even if model is None else self._ranked(model, rows[places])
            done += len(rows)
        for row, sample in enumerate(samples):
            if sample.split == "train" and sample.id in self._held_out:
                out[row] = self._held_out[sample.id]
        return out

    def describe(self) -> dict[str, Any]:
        """On how many samples it was fitted and how, and whether training samples are ranked out of fold."""
        return dict(self._facts)

    def labelled(self, samples: Sequence[Sample], most: int | None = None) -> tuple[list[Sample], NDArray[np.int64]]:
        """The labelled samples and the positions of their labels.

        Args:
            samples: Which they are among.
            most: How many are enough, see `drawn`; None = all.

        Raises:
            DataError: There are fewer than two labels, or an unknown one.
        """
        every = np.array([-1 if one.label is None else self._index(one) for one in samples], np.int64)
        places = np.flatnonzero(every >= 0)
        if (count := len(np.unique(every[places]))) < 2:
            raise DataError(
                f"The teacher '{self.name}' needs training samples of at least two labels and found {count} among "
                f"{len(samples)} samples; {self.advice}."
            )
        if most is not None and len(places) > most:
            self._facts["labelled"] = len(places)
            places = places[drawn(every[places], most, self.context.seed)]
        taken = np.zeros(len(every), bool)
        taken[places] = True
        return [one for one, wanted in zip(samples, taken, strict=True) if wanted], every[places]

    def stream(self, samples: Sequence[Sample], advance: Callable[[int], None]) -> Iterator[NDArray[Any]]:
        """Features of all samples in order, batch by batch; from the cache where they are there."""
        if self.dtype is None:
            for batch in batches(samples, self.batch_size):
                yield self.features([self.prepare(sample) for sample in batch])
                advance(len(batch))
            return
        with ExitStack() as stack:
            store = None
            if self.cached:
                store = stack.enter_context(FeatureStore(self.context.cache / self.cache_name, self.dtype))
            yield from stream_features(
                samples, key=self.content_key, prepare=self.prepare, encode=self.features, store=store,
                dtype=self.dtype, batch_size=self.batch_size, workers=self.workers, advance=advance,
            )  # fmt: skip
            if store is not None:
                self._facts["cached_features"] = len(store)

    def ranked(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """Natural logarithms, shape (n, n_labels), for features of new samples."""
        if self._model is None:
            raise ContractError(f"The teacher {self.name} was not fitted; call `fit` first.")
        return self._ranked(self._model, rows)

    def _known_groups(self, samples: Sequence[Sample]) -> dict[int, list[int]]:
        """Positions of training samples whose group was drawn, by its fold."""
        found: dict[int, list[int]] = {}
        for place, sample in enumerate(samples if self._apart else ()):
            if sample.split == "train" and sample.group in self._fold_of:
                found.setdefault(self._fold_of[sample.group], []).append(place)
        return found

    def _ranked(self, model: Any, rows: NDArray[Any]) -> NDArray[np.float32]:
        return classifier_log_probs(model.decision_function(rows), model.classes_, len(self.labels))

    def _index(self, sample: Sample) -> int:
        try:
            return self.labels.index(sample.label or "")
        except KeyError:
            known = did_you_mean(sample.label or "", self.labels.names)
            raise DataError(f"Sample '{sample.id}' has the unknown label '{sample.label}'{known}.") from None

    def _chosen(self, rows: NDArray[Any], targets: NDArray[np.int64], groups: Sequence[str]) -> float:
        """The penalty that makes the labels of one fold most likely; 1 where there is no second group."""
        folds = group_folds(groups, self.config.cross_fit or 5)
        best, chosen = -math.inf, 1.0
        for c in PENALTIES if folds else ():
            train, rest = folds[0]
            model, _ = self._fitted(rows[train], targets[train], c)
            if model is None:
                break
            mean = float(self._ranked(model, rows[rest])[np.arange(len(rest)), targets[rest]].mean())
            if mean > best:
                best, chosen = mean, c
        return chosen

    def _fitted(self, rows: NDArray[Any], targets: NDArray[np.int64], c: float) -> tuple[Any, bool]:
        """A fitted classifier and whether the fit converged; None where there is nothing to fit on."""
        from sklearn.exceptions import ConvergenceWarning
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # a dependency of scikit-learn

        model = self.classifier(rows, c) if len(np.unique(targets)) > 1 else None
        if model is None:
            return None, False
        # On small matrices a second BLAS thread gains little, and on a busy machine it costs a hundredfold.
        threads = 1 if rows.size < SMALL else None
        with warnings.catch_warnings(record=True) as caught, threadpool_limits(threads, "blas"):
            warnings.simplefilter("always", ConvergenceWarning)
            model.fit(rows, targets)
        return model, not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
