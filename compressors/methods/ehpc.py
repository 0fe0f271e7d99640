"""EHPC: a few heads of one layer, the prompt's last rows, no training.

Source: "Efficient Prompt Compression with Evaluator Heads" (arXiv 2501.12959, §3). A pilot on
needles chooses the one layer whose last row attends to them most, and the best 8 of its 32 heads
(`tamis lab heads find --by needle`). The model runs up to that layer. Each head's attention of the
last 16 rows is averaged, then pooled along the text over 32 tokens, stride 1; the heads are
summed; the M tokens of the highest sums are the compressed prompt.

From tokens to units: tamis keeps whole units, so `form="token"` ranks a unit by its best pooled
token, which is the order in which units are first touched as M grows. `form="sentence"`, tamis's
own and the default, takes the unit itself as the window: the mean over its tokens, with no other
pooling. A window of 32 tokens reaches over the ends of sentences and adds one's attention to the
next: of three RULER records at a tenth of the tokens, the token form lost one, this none
(lab/log/long-inputs.md#2026-11-24-ruler-multi-key-at-a-tenth-of-the-tokens-3-records).
`EHPC.tokens` gives the published token choice, as spans.

Departure of the sentence form: from a unit's mean, what the last rows of the question "N/A" pay to
it is subtracted (`calibrate`), as ICR does (arXiv 2410.02642) and EHPC does not. These heads
attend to places whatever the question is: to the first unit of a window, and to every token of a
short one. Among 50 like sentences that outweighs the needle: at a tenth of the tokens 58 of 75 are
kept without the subtraction, 75 with it
(lab/log/long-inputs.md#2026-11-25-ehpc-on-all-of-ruler). The window's keys are kept, so
it costs one more question, not one more reading (in a service only with a passage cache).
`calibrate=False` leaves it out; the token form never has it.

As published: `form="token", together=True`, and `window_tokens` as long as the whole prompt.

Departures of both: a quarter of the layer's heads, since small models have fewer than 32 (8 of 9
would be no choice); a profile whose best heads change when its needles are drawn again comes with a
warning; the last rows never reach back
beyond the question's first token, so a short question has fewer than 16; passages are read alone,
in windows of whole units, where the paper reads one prompt (`together=True` joins them, a blank
line between, in windows of `window_tokens`); the mean at the ends of a window is over the tokens
that exist.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d

from tamis.compressors.method import MethodInfo, TwoStepMethod
from tamis.compressors.options import option
from tamis.compressors.reading.joining import join_passages
from tamis.compressors.reading.windows import (
    EMPTY_QUERY,
    WINDOW_TOKENS,
    Reading,
    read_windows,
    with_cache,
)
from tamis.compressors.types import Scores
from tamis.probes.devices import copy_all
from tamis.probes.kv_cache.cache import PassageCache
from tamis.probes.probing.heads import Head, HeadProfile, choose_profile
from tamis.probes.prompt import Prompt
from tamis.probes.signal import (
    SharedRows,
    Signal,
    Spans,
    Want,
    box_filter,
    pool_shared,
    pool_tokens,
)
from tamis.text.types import Passage, Unit

OBSERVED_ROWS, POOL_TOKENS = 16, 32
HEAD_SHARE = 8 / 32
"""This share of a layer's heads is read, as in the paper's models."""
LEAST_STABILITY = 0.8
"""This share of the best needle heads has to stay when the pilot's cases are drawn again."""
_WINDOW_CACHE_BYTES = 1 << 29
"""For the windows, from the question to "N/A", where the reader has no cache of its own."""
EHPCForm = Literal["token", "sentence"]


def mean_last_rows(signal: Signal, heads: Sequence[Head], rows: int) -> Tensor:
    """The mean of the last `rows` rows of the chosen heads: `[len(heads), N]`.

    Args:
        signal: rows group `question`. heads: the place of each one's layer among those that were
            read, and its number.
    """
    return torch.stack([signal.weights[place, head, -rows:].mean(0) for place, head in heads])


def unit_features(
    signal: Signal, spans: Sequence[tuple[int, int]], heads: Sequence[Head], rows: int, pool: int
) -> Tensor:
    """Best pooled token and mean of raw tokens of each unit, heads summed: `[U, 2]`."""
    attention = mean_last_rows(signal, heads, rows)
    best = pool_tokens(box_filter(attention, pool).sum(0), spans, "max")
    return torch.stack([best, pool_tokens(attention.sum(0), spans, "mean")], -1)


def pool_unit_batch(
    shared: Sequence[SharedRows],
    spans: Sequence[Spans],
    heads: Sequence[Head],
    rows: int,
    pool: int,
) -> Tensor:
    """What `unit_features` gives for each of many sequences of one batch, in few calls."""
    weights = shared[0].weights
    _, B, _, R, N = weights.shape
    means, inside = torch.zeros(B, R, 1), torch.zeros(B, 1, N)
    for one in shared:
        first = max(0, one.rows - rows)
        means[one.place, first : one.rows] = 1 / (one.rows - first)
        inside[one.place, :, one.start : one.stop] = 1
    means, inside = copy_all([means, inside], weights.device)
    chosen = torch.stack([weights[place, :, head] for place, head in heads], 1)  # [B, H, R, N]
    # rows of padding are 0 or repeat one: their share of the mean is 0
    attention = (chosen * means[:, None]).sum(2) * inside  # [B, H, N]
    both = avg_pool1d(torch.cat([attention, inside], 1), pool, 1, pool // 2)[..., :N]
    smoothed = (both[:, :-1] / both[:, -1:].clamp_min(1e-12)).sum(1, keepdim=True) * inside
    features = torch.stack([smoothed, attention.sum(1, keepdim=True)], 2)  # [B, 1, 2, N]
    placed = [replace(one, weights=features[None], rows=2) for one in shared]
    sums, best, widths = pool_shared(placed, spans)
    return torch.stack([best[:, 0, 0, 0], (sums / widths)[:, 0, 0, 1]], -1)


class EHPC(TwoStepMethod):
    """Scores units by the needle heads of one layer."""

    info: ClassVar[MethodInfo] = MethodInfo(
        "a quarter of one layer's heads, the last 16 rows, minus what the query N/A draws",
        "EHPC, arXiv 2501.12959",
        "proxy",
        reads_words=True,
        research=True,
    )

    profile: HeadProfile | Path | str = option(
        "auto", "A profile of this proxy's heads, or its file; auto is the needle one that ships."
    )
    heads: int | None = option(
        None, "How many needle heads; None is a quarter of a layer's, as 8 of the paper's 32.", ge=1
    )
    any_layer: bool = option(
        False, "The best heads wherever they are, in place of those of the best layer."
    )
    observed_rows: int = option(OBSERVED_ROWS, "How many rows at the prompt's end.", ge=1)
    pool_tokens: int = option(POOL_TOKENS, "Width of the pooling window of the token form.", ge=1)
    form: EHPCForm = option(
        "sentence", "What a score is of, before units are chosen.", paper="token"
    )
    together: bool = option(False, "Read the passages joined.", paper="true")
    window_tokens: int = option(
        WINDOW_TOKENS, "Tokens of the longest window.", ge=1, paper="the whole prompt"
    )
    calibrate: bool = option(
        True,
        'Subtract the attention of the question "N/A"; in the sentence form alone.',
        paper="false",
    )

    def setup(self) -> None:
        """Finds the heads.

        Raises:
            ProbeMismatch: the profile is of another model, revision or template.
            BadInput: no profile ships for this proxy, or it has fewer heads.
        """
        card = self.reader.card
        found = choose_profile(self.profile, "needle", card.name)
        found.check(card, self.reader.layout.template.name)
        self.chosen = _choose_heads(found, self.heads, self.any_layer)
        self.read_layers = tuple(sorted({layer for layer, _ in self.chosen}))
        self.places = tuple((self.read_layers.index(layer), head) for layer, head in self.chosen)
        self.calibrate = self.calibrate and self.form == "sentence"
        self.layers = self.read_layers[-1] + 1
        self.warnings = _unstable(found, self.heads)

    @classmethod
    def layers_needed(cls, model: str, options: Mapping[str, Any]) -> int | None:
        """Up to the evaluator layer; all layers where no profile says which one that is."""
        profile = options.get("profile", cls.profile)
        if profile == "auto" and not HeadProfile.is_shipped("needle", model):
            return None
        found = choose_profile(profile, "needle", model)
        any_layer = options.get("any_layer", cls.any_layer)
        return 1 + max(_choose_heads(found, options.get("heads"), any_layer))[0]

    @classmethod
    def ships_for(cls, model: str) -> bool:
        """Whether a profile ships for the model; one whose heads may be chance warns."""
        return HeadProfile.is_shipped("needle", model)

    @property
    def reading_key(self) -> str:
        """The version (3: heads of several layers), heads and rows, pooling, windows."""
        return (
            f"3 {self.chosen} {self.observed_rows} {self.pool_tokens} "
            f"{self.together} {self.calibrate} {self.window_tokens}"
        )

    def read(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Reading:
        """Reads every window once, with the question "N/A", too, if calibrated.

        Features `[U, 3]` are the best pooled token, the mean of raw tokens, and that mean minus the
        mean of N/A; the last one only if calibrated.
        """

        def pool(signal: Signal, spans: Sequence[tuple[int, int]]) -> Tensor:
            return unit_features(signal, spans, self.places, self.observed_rows, self.pool_tokens)

        def pool_batch(shared: Sequence[SharedRows], spans: Sequence[Spans]) -> Tensor:
            return pool_unit_batch(shared, spans, self.places, self.observed_rows, self.pool_tokens)

        given: Sequence[Passage] = passages
        if self.together:
            whole, units = join_passages(passages, units)
            given = [whole]
        cache = PassageCache(_WINDOW_CACHE_BYTES) if self.calibrate else None
        reading = read_windows(
            with_cache(self.reader, cache),
            question,
            given,
            units,
            self._want(),
            pool,
            self.window_tokens,
            include_gaps=self.together,
            other_questions=(EMPTY_QUERY,) if self.calibrate else (),
            pool_batch=pool_batch,
        )
        if not self.calibrate or not units:
            return reading
        best, mean, _, empty = reading.features.unbind(1)
        return replace(reading, features=torch.stack([best, mean, mean - empty], 1))

    def score_reading(
        self, reading: Reading, question: str, passages: Sequence[Passage], units: Sequence[Unit]
    ) -> Scores:
        """Scores by the feature that `form` selects; not probabilities."""
        column = 0 if self.form == "token" else 2 if self.calibrate else 1
        values = reading.features[:, column] if units else torch.zeros(0)
        return reading.scores(values, units, len(passages), warnings=self.warnings)

    def tokens(self, question: str, text: str, most: int) -> list[tuple[int, int]]:
        """The published choice: spans of the `most` best tokens of one text, in text order.

        The text is read in one prompt; a code point of several tokens belongs whole to each span.

        Raises:
            BadInput: the text is longer than the proxy's context.
        """
        prompt = Prompt(
            self.reader.layout.passage_tokens(text, ()),
            self.reader.layout.question_tokens(question),
        )
        (signal,) = self.reader.read([prompt], self._want())
        scores = box_filter(
            mean_last_rows(signal, self.places, self.observed_rows), self.pool_tokens
        ).sum(0)
        kept = sorted(scores.topk(min(most, len(scores))).indices.tolist())
        offsets = self.reader.layout.tokenizer.encode(text).offsets
        return [offsets[i] for i in kept]

    def _want(self) -> Want:
        return Want(self.read_layers, ("question",))


def _count(found: HeadProfile, heads: int | None) -> int:
    return heads or max(1, round(HEAD_SHARE * found.heads))


def _choose_heads(found: HeadProfile, heads: int | None, any_layer: bool) -> tuple[Head, ...]:
    """The evaluator heads of a profile, best first.

    Raises:
        BadInput: it has fewer heads than are wanted.
    """
    choose = found.best if any_layer else found.best_heads_of_one_layer
    return choose(_count(found, heads))


def _unstable(found: HeadProfile, heads: int | None) -> tuple[str, ...]:
    """A warning where the best heads of a profile may be chance; else none."""
    if (stays := found.stability_of(_count(found, heads))) >= LEAST_STABILITY:
        return ()
    return (
        f"of the best needle heads of {found.model} only {stays:.0%} stay when the needles are "
        "drawn again: they may be chance; read with another proxy, such as "
        "smollm2-135m, or give a profile",
    )


Method = EHPC
