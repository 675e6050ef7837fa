"""Score one editor in one pass: every network runs once on every picture, however many need it."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from PIL import Image
from torch import Tensor

from ric.config import Reference
from ric.errors import RicError, SampleError
from ric.metric_table import BOTH_WAYS, SET_DISTANCES, measured_by
from ric.metrics.clip_direction import clip_direction
from ric.metrics.context_error import scene_columns
from ric.metrics.edit_success import EditChecker
from ric.metrics.networks import (
    ImageEncoder,
    MetricNetworks,
    TextImageEncoder,
    TextScore,
    Unavailable,
)
from ric.metrics.pairs import Pair, fit_to
from ric.metrics.pixel import inverted, leaves_something
from ric.scoring.encode_once import Comparison, Encodings, SetRow, encode_sets
from ric.scoring.kept_samples import KeptSamples, photos_of, profiles_apart, row_of
from ric.scoring.rules import Rules
from ric.scoring.scores import Role, Scores
from ric.scoring.set_distances import FidSet, SetDistances, set_distances
from ric.scoring.set_scores import SetScores
from ric.scoring.summary import summarise


class Scored(NamedTuple):
    """The result of `MetricSuite.finish`, with one row per sample, sorted by id.

    Attributes:
        scores: The means, and the scores of the whole set.
        rows: One dict per sample.
        set_rows: One per sample, what FID, KID and IS are computed from.
        distances: FID, KID and their like, with what their intervals are computed from; None if
            there are none.
    """

    scores: Scores
    rows: list[dict[str, Any]]
    set_rows: list[SetRow]
    distances: SetDistances | None


class MetricSuite(KeptSamples):
    """Accumulate one editor's pairs, batch by batch, then compute its scores.

    CLIP-I, DINO, LPIPS, L1 and L2 compare the edited picture, at the reference's size, with the
    reference; those of `BOTH_WAYS` also with the other one of source and target. FID, KID and those
    of `SET_DISTANCES` compare the edited set with the target set whatever the reference is; what
    lies outside the mask is compared with the source. Only features and rows stay in memory.

    A picture that is one object in several places (the source as its own edit) is encoded once.

    Args:
        networks: The metric networks.
        rules: What is computed, and against what.
        label: The editor's name in tables.
        role: Whether this is an editor, the unedited source or the ground truth.
        checker: For drawn scenes: tells whether an edit was carried out. None leaves out the scores
            of scenes.
    """

    def __init__(
        self,
        networks: MetricNetworks,
        rules: Rules | None = None,
        *,
        label: str = "edited",
        role: Role = "editor",
        checker: EditChecker | None = None,
    ) -> None:
        """Start empty; see the class."""
        super().__init__()
        self.networks = networks
        self.rules = rules or Rules()
        self.label = label
        self.role = role
        self.checker = checker

    def add(self, pairs: Sequence[Pair], encodings: Encodings | None = None) -> None:
        """Score a batch; the batching does not affect the scores.

        Args:
            pairs: The batch.
            encodings: Shared with the suites of other editors that score the same samples, so that
                source and target are encoded once for all; rows are complete after its `complete`.
                None: this suite's own.

        Raises:
            SampleError: a mask differs in size from its source; nothing of the batch is stored.
            RicError: an id is repeated; nothing of the batch is stored.
        """
        if not pairs:
            return
        refuse_wrong(pairs, self._rows, self.label)
        own, networks = Encodings(), self.networks
        encodings = encodings or own
        fitted = [self._fit(pair) for pair in pairs]
        rows = [self._open_row(pair) for pair in pairs]
        encoded = fitted if self.rules.encode_fitted else pairs
        self._prepare(encoded, fitted, encodings)
        for row, raw, pair in zip(rows, pairs, fitted, strict=True):
            encodings.compute_later(self._add_pixels, row, raw, pair)
        for row, raw in zip(rows, pairs, strict=True):
            if self.checker is not None and raw.edit is not None and raw.target is not None:
                of_scene = scene_columns(raw, self.checker)
                row |= {
                    key: value
                    for key, value in of_scene.items()
                    if key in row or key.endswith("_weight")
                }
        self._add_clip(rows, encoded, encodings)
        encoders = {"dino": networks.dino, **networks.present(measured_by("cosine"))}
        for key, encoder in encoders.items():
            if not isinstance(encoder, Unavailable):
                self._add_cosines(rows, encoded, key, encoder, encodings)
        for key, network in networks.present(measured_by("text")).items():
            _add_text_scores(rows, encoded, key, network, encodings)
        self._add_distances(rows, fitted, encodings)
        self._add_masked_lpips(rows, pairs, fitted, encodings)
        set_rows = encode_sets(fitted, self.networks, encodings)
        own.complete()
        self._set_rows.update({pair.id: row for pair, row in zip(pairs, set_rows, strict=True)})
        self._rows.update({row["id"]: row for row in rows})

    def finish(self, only: Container[str] | None = None, fid_set: FidSet | None = None) -> Scored:
        """Return the scores and the rows; more pairs may follow.

        Args:
            only: The ids of the samples to be scored; None: all.
            fid_set: What FID, KID and their like compare with in place of the targets.
        """
        rows, set_rows = self._in_order(only)
        distances, reason = None, None
        try:
            asked = "fid_unpaired" in self.rules.metrics
            distances = set_distances(
                set_rows, photos_of(rows), fid_set, seed=self.rules.seed, unpaired=asked
            )
        except RicError as error:
            reason = error.message
        sets = SetScores(set_rows, reason or distances, fid_set)
        scores = summarise(rows, sets, self.networks, self.rules)
        photos = len(set(photos_of(rows)))
        apart = profiles_apart(rows)
        of_editor = Scores(
            self.label, tuple(scores), self.role, len(rows), photos=photos, profiles_apart=apart
        )
        return Scored(of_editor, rows, set_rows, distances)

    def _prepare(
        self, encoded: Sequence[Pair], fitted: Sequence[Pair], encodings: Encodings
    ) -> None:
        """Start to prepare the networks' inputs, in the order in which they are needed."""
        edited = [pair.edited for pair in fitted]
        with_targets = [*edited, *(pair.target for pair in fitted)]
        networks = self.networks
        seen: list[tuple[Any, list[Image.Image | None]]] = [
            (networks.clip, self._seen(encoded, "clip_i")),
            (networks.dino, self._seen(encoded, "dino")),
        ]
        of_pairs = networks.present(measured_by("cosine", "text"))
        seen += [(network, self._seen(encoded, key)) for key, network in of_pairs.items()]
        seen += [(networks.fid, with_targets), (networks.inception_score, [*edited])]
        of_sets = networks.present(SET_DISTANCES)
        seen += [(network, with_targets) for network in of_sets.values()]
        for network, images in seen:
            if not isinstance(network, Unavailable):
                encodings.prepare(network, images)

    def _fit(self, pair: Pair) -> Pair:
        reference = _picture(pair, self.rules.reference) or pair.source
        return replace(pair, edited=fit_to(pair.edited, reference.size))

    def _seen(self, pairs: Sequence[Pair], key: str) -> list[Image.Image | None]:
        """List a network's pictures: all three where it compares pictures, else the edited one.

        The direction of CLIP adds the source.
        """
        if key not in self.rules.metrics or key not in BOTH_WAYS:
            edited: list[Image.Image | None] = [pair.edited for pair in pairs]
            from_source = key == "clip_i" and "clip_direction" in self.rules.metrics
            return [*edited, *(pair.source for pair in pairs)] if from_source else edited
        return [image for pair in pairs for image in (pair.edited, pair.source, pair.target)]

    def _open_row(self, pair: Pair) -> dict[str, Any]:
        """Open a sample's row: every column is there, and stays None where nothing fills it."""
        columns = self.rules.columns(of_scenes=self.checker is not None)
        kind = pair.text_kind if pair.text else None
        about: dict[str, Any] = {"text_kind": kind, "text_cut": None}
        if self.rules.judge:
            about["instructed"] = bool(pair.instruction)
        about["mask_derived"] = pair.mask_is_derived if pair.mask else None
        return {**row_of(pair), **about, **dict.fromkeys(columns)}

    def _add_pixels(self, row: dict[str, Any], raw: Pair, pair: Pair) -> None:
        reference = _picture(pair, self.rules.reference)
        for metric in self.rules.pair_metrics:
            shown = pair
            if metric.needs != "reference":
                shown = replace(pair, edited=_at_source_size(raw, pair))
            row[metric.key] = metric.score(shown, reference)

    def _add_clip(
        self, rows: list[dict[str, Any]], pairs: Sequence[Pair], encodings: Encodings
    ) -> None:
        clip = self.networks.clip
        if isinstance(clip, Unavailable):
            return
        vectors = self._add_cosines(rows, pairs, "clip_i", clip, encodings)
        worded = [
            (row, pair, pair.text) for row, pair in zip(rows, pairs, strict=True) if pair.text
        ]
        if worded and "clip_t" in self.rules.metrics:
            texts = encodings.of_texts(clip, [text for *_, text in worded])
            for row, _, words in worded:
                row["text_cut"] = clip.is_cut(words)
            for (row, pair, _), text in zip(worded, texts, strict=True):
                row["clip_t"] = _cosine(vectors[id(pair.edited)], text)
        if "clip_direction" in self.rules.metrics:
            _add_directions(rows, pairs, clip, vectors, encodings)

    def _add_cosines(
        self,
        rows: list[dict[str, Any]],
        pairs: Sequence[Pair],
        key: str,
        encoder: ImageEncoder,
        encodings: Encodings,
    ) -> dict[int, Tensor]:
        """Fill `key` and `key`_other; return every picture's vector by the picture's `id`."""
        vectors = encodings.of(encoder, encoder.embed, self._seen(pairs, key), "embedding")
        rules = self.rules
        for row, pair in zip(rows, pairs, strict=True):
            for column, which in ((key, rules.reference), (f"{key}_{rules.other}", rules.other)):
                picture = _picture(pair, which)
                if picture is not None and column in row:
                    row[column] = _cosine(vectors[id(pair.edited)], vectors[id(picture)])
        return vectors

    def _add_distances(
        self, rows: list[dict[str, Any]], pairs: Sequence[Pair], encodings: Encodings
    ) -> None:
        """Request LPIPS of the whole pictures, and the like."""
        networks = {"lpips": self.networks.lpips, **self.networks.present(measured_by("distance"))}
        for row, pair in zip(rows, pairs, strict=True):
            reference = _picture(pair, self.rules.reference)
            for key, network in networks.items():
                if key in row and reference and not isinstance(network, Unavailable):
                    encodings.compare_later(Comparison(row, key, network, pair.edited, reference))

    def _add_masked_lpips(
        self,
        rows: list[dict[str, Any]],
        raws: Sequence[Pair],
        pairs: Sequence[Pair],
        encodings: Encodings,
    ) -> None:
        """Request LPIPS of what lies outside and inside the masks."""
        lpips = self.networks.lpips_squeeze
        if isinstance(lpips, Unavailable):
            return
        for row, raw, pair in zip(rows, raws, pairs, strict=True):
            if raw.mask is None:
                continue
            if "lpips_outside" in row and leaves_something(raw.mask):
                edited = _at_source_size(raw, pair)
                asked = Comparison(row, "lpips_outside", lpips, edited, raw.source, raw.mask)
                encodings.compare_later(asked)
            around, reference = inverted(raw.mask), _picture(pair, self.rules.reference)
            if "lpips_inside" in row and reference is not None and leaves_something(around):
                asked = Comparison(row, "lpips_inside", lpips, pair.edited, reference, around)
                encodings.compare_later(asked)


def _add_text_scores(
    rows: Sequence[dict[str, Any]],
    pairs: Sequence[Pair],
    key: str,
    network: TextScore,
    encodings: Encodings,
) -> None:
    """Fill `key` of the samples that have CLIP-T's text, and whether it was cut."""
    worded = [(row, pair, pair.text) for row, pair in zip(rows, pairs, strict=True) if pair.text]
    edited = [pair.edited for _, pair, _ in worded]
    vectors = encodings.of(network, network.embed, edited, "embedding")
    texts = encodings.of_texts(network, [text for *_, text in worded])
    for (row, pair, words), text in zip(worded, texts, strict=True):
        row[f"{key}_cut"] = network.is_cut(words)
        row[key] = network.scale * _cosine(vectors[id(pair.edited)], text)


def _add_directions(
    rows: Sequence[dict[str, Any]],
    pairs: Sequence[Pair],
    clip: TextImageEncoder,
    vectors: dict[int, Tensor],
    encodings: Encodings,
) -> None:
    """Fill `clip_direction` of the samples that have both captions.

    Args:
        rows: Where to.
        pairs: The samples.
        clip: The network.
        vectors: Its embeddings of edited pictures and sources, by the picture's `id`.
        encodings: Encode each text once.
    """
    captioned = [
        (row, pair, pair.source_text, pair.target_text)
        for row, pair in zip(rows, pairs, strict=True)
        if pair.source_text and pair.target_text
    ]
    texts = [text for *_, before, after in captioned for text in (before, after)]
    words = dict(zip(texts, encodings.of_texts(clip, texts), strict=True))
    for row, pair, before, after in captioned:
        row["captions_cut"] = clip.is_cut(before) or clip.is_cut(after)
        row["clip_direction"] = clip_direction(
            vectors[id(pair.edited)], vectors[id(pair.source)], words[after], words[before]
        )


def refuse_wrong(pairs: Sequence[Pair], known: Container[str], label: str) -> None:
    """Refuse a batch that cannot be scored.

    Raises:
        SampleError: a mask differs in size from its source.
        RicError: an id is repeated.
    """
    ids = [pair.id for pair in pairs]
    for pair in pairs:
        if pair.id in known or ids.count(pair.id) > 1:
            raise RicError(f"Sample {pair.id!r} was added twice to {label!r}.")
        if pair.mask is not None and pair.mask.size != pair.source.size:
            reason = f"it is {pair.mask.size} pixels and its source {pair.source.size}."
            raise SampleError(pair.id, "mask", reason)


def _at_source_size(raw: Pair, fitted: Pair) -> Image.Image:
    """Return the output at its source's size, which is mostly the reference's too."""
    if fitted.edited.size == raw.source.size:
        return fitted.edited
    return fit_to(raw.edited, raw.source.size)


def _picture(pair: Pair, which: Reference) -> Image.Image | None:
    return pair.source if which == "source" else pair.target


def _cosine(a: Tensor, b: Tensor) -> float:
    """Return the cosine of two vectors of length 1, up to rounding."""
    return max(-1.0, min(1.0, float(a.double() @ b.double())))
