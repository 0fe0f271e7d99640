"""Sentinel's own training, so that it is compared at its best.

Two recipes circulate, and both are here:

    published   one gold and one other sentence a question, from short lone contexts, shuffled
    like-cases  every sentence, from contexts as in use: with titles, order and distractors

The paper fits on questions that its proxy answers with their context and not without, which takes a
proxy that can answer: `relies` leaves the others out.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from tamis.compressors.methods.sentinel import Sentinel, sentinel_template
from tamis.probes.errors import BadInput
from tamis.probes.model.proxy import Proxy
from tamis.probes.probing.linear import LinearProbe, ProbeCard
from tamis.text.types import Unit
from tamis_lab.datasets.reading_store import CaseReadings, store_key
from tamis_lab.datasets.record_files import (
    RecordFile,
    ReportProgress,
    answerable_records,
    describe_file,
    fold_of,
    name_distinctly,
)
from tamis_lab.datasets.records import (
    Record,
    annotated_units,
    gold_labels,
    gold_spans,
    load_records,
    passages_of,
    record_id,
)
from tamis_lab.train.fit import auc

SentinelRecipe = Literal["published", "like-cases"]
_C = (0.01, 0.1, 1.0, 10.0, 100.0)
_FOLDS = 5
_TOGETHER = 16
"""Questions whose answers grow together."""
_SHORT_CHARS = 2000
"""About 500 tokens: the paper keeps training contexts below that."""


def train_sentinel(
    proxy: Proxy,
    files: Sequence[RecordFile],
    cache: Path,
    recipe: SentinelRecipe,
    report: ReportProgress,
    relies: Callable[[Sequence[Record]], list[bool]] | None = None,
) -> LinearProbe:
    """Fits Sentinel's regression: liblinear, balanced classes, C by grouped cross-validated AUC.

    Args:
        relies: which of some questions the proxy answers with their context and not without;
            the others are left out. None asks nothing.

    Raises:
        BadInput: no usable question in the files.
    """
    files = name_distinctly(files)
    method = Sentinel(proxy, LinearProbe({}, _card(proxy, (), {})))
    readings = CaseReadings(cache, store_key(method))
    x, y, group = [], [], []
    held_out: list[bool] = []
    used = []
    for file in files:
        before = len(held_out)
        records = _shuffled_records(file) if recipe == "published" else answerable_records(file)
        for i, (record, units, gold, is_used) in enumerate(_choose_records(records, relies), 1):
            report(file.name, i, len(records))
            if not is_used:
                continue
            features = readings.get_or_read(
                record["question"], passages_of(record), units, method.read
            ).features.numpy()
            picked = (
                _draw_pair(gold, record_id(record)) if recipe == "published" else range(len(gold))
            )
            x += [features[u] for u in picked]
            y += [gold[u] for u in picked]
            group += [len(held_out)] * len(picked)
            held_out.append(fold_of(record) == 0)
        used.append(describe_file(file, len(held_out) - before))
    if not any(held_out) or all(held_out):
        raise BadInput("no question can be held out; give more data")
    out = np.array(held_out)[group]
    fitted = _fit_regression(np.array(x)[~out], np.array(y)[~out], np.array(group)[~out])
    w, bias = fitted
    figure = auc(np.array(x)[out] @ w + bias, np.array(y)[out].astype(float))
    card = _card(
        proxy,
        used,
        {"recipe": recipe, "reliant": relies is not None, "held_out_auc": round(figure, 4)},
    )
    return LinearProbe(
        {"head": torch.tensor(w).float(), "bias": torch.tensor([bias]).float()}, card
    )


def _choose_records(
    records: Sequence[Record], relies: Callable[[Sequence[Record]], list[bool]] | None
) -> Iterator[tuple[Record, list[Unit], list[bool], bool]]:
    """Each record, its units, which are gold, and whether it is fitted on.

    It is where it has gold, a sentence beside it, and `relies`; so many are asked together.
    """
    for start in range(0, len(records), _TOGETHER):
        group = records[start : start + _TOGETHER]
        units = [annotated_units(record) for record in group]
        golds = [gold_labels(*pair) for pair in zip(group, units, strict=True)]
        used = [any(gold) and not all(gold) for gold in golds]
        if relies is not None:
            found = iter(relies([r for r, is_used in zip(group, used, strict=True) if is_used]))
            used = [is_used and next(found) for is_used in used]
        yield from zip(group, units, golds, used, strict=True)


def _fit_regression(x: Any, y: Any, group: Any) -> tuple[Any, float]:
    if (questions := len(set(group.tolist()))) < _FOLDS:
        raise BadInput(
            f"{questions} questions are left to fit on; C is chosen over {_FOLDS} folds of "
            f"questions: give data with at least {_FOLDS} beside those held out"
        )
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    steps = make_pipeline(
        StandardScaler(),
        LogisticRegression(solver="liblinear", class_weight="balanced", max_iter=2000),
    )
    folds = GroupKFold(_FOLDS)
    search = GridSearchCV(steps, {"logisticregression__C": _C}, scoring="roc_auc", cv=folds)
    search.fit(x, y, groups=group)
    scale, model = (step for _, step in search.best_estimator_.steps)
    w = model.coef_[0] / scale.scale_
    return w, float(model.intercept_[0] - w @ scale.mean_)


def _shuffled_records(file: RecordFile) -> list[Record]:
    """Lone short contexts with their sentences in random order, as in the paper's appendix."""
    rows = [r for r in load_records(file.path) if r.get("answerable", True) and gold_spans(r)]
    rows = [r for r in rows if sum(len(d["text"]) for d in r["docs"]) <= _SHORT_CHARS]
    chance = random.Random(0)
    return [
        _shuffle_sentences(r, chance)
        for r in chance.sample(rows, min(len(rows), file.limit or len(rows)))
    ]


def _shuffle_sentences(record: Record, chance: random.Random) -> Record:
    docs = []
    for doc in record["docs"]:
        order = chance.sample(range(len(doc["sents"])), len(doc["sents"]))
        text, sents, gold = "", [], []
        for i in order:
            a, b = doc["sents"][i]
            text += " " if text else ""
            sents.append([len(text), len(text) + b - a])
            text += doc["text"][a:b]
            if i in doc["gold"]:
                gold.append(len(sents) - 1)
        docs.append({"title": doc.get("title"), "text": text, "sents": sents, "gold": gold})
    return {**record, "docs": docs, "answer_spans": []}


def _draw_pair(gold: Sequence[bool], seed: str) -> list[int]:
    chance = random.Random(seed)
    return [
        chance.choice([u for u, g in enumerate(gold) if g is wanted]) for wanted in (True, False)
    ]


def _card(proxy: Proxy, trained_on: Sequence[dict[str, Any]], figures: dict[str, Any]) -> ProbeCard:
    return ProbeCard(
        method="sentinel",
        model=proxy.card.name,
        revision=proxy.card.revision,
        template=sentinel_template(proxy.layout.template).name,
        layers=proxy.card.layers,
        heads=proxy.card.heads,
        rows=("last",),
        trained_on=tuple(trained_on),
        figures=figures,
    )
