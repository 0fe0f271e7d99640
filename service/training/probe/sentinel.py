"""Sentinel's own training, so that the method to beat is beaten at its best.

Two recipes circulate, and both are here:

    published   one gold and one other sentence a question, from short lone contexts, shuffled
    like-cases  every sentence, from contexts as users have them: titles, order, distractors
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from tamis.compressors.methods.sentinel import Sentinel, sentinel_template
from tamis.probes.errors import BadInput
from tamis.probes.model.proxy import Proxy
from tamis.probes.probing.fit import auc
from tamis.probes.probing.linear import LinearProbe, ProbeCard
from tamis.service.datasets.case_readings import Looks
from tamis.service.datasets.records import (
    Record,
    annotated_units,
    gold_spans,
    id_of,
    labels,
    load,
    passages_of,
)
from tamis.service.training.probe.labelled_readings import Report, Source, described, distinct, fold_of, look_key, records_of

Recipe = Literal["published", "like-cases"]
_C = (0.01, 0.1, 1.0, 10.0, 100.0)
_FOLDS = 5
_SHORT_CHARS = 2000
"""About 500 tokens: the paper keeps training contexts below that."""


def train_sentinel(
    proxy: Proxy, sources: Sequence[Source], cache: Path, recipe: Recipe, report: Report
) -> LinearProbe:
    """Fits Sentinel's regression: liblinear, balanced classes, C by grouped cross-validated AUC.

    Raises:
        BadInput: no usable question in the files.
    """
    sources = distinct(sources)
    method = Sentinel(proxy, LinearProbe({}, _card(proxy, (), {})))
    looks = Looks(cache, look_key(method))
    x, y, group = [], [], []
    held: list[bool] = []
    used = []
    for source in sources:
        before = len(held)
        records = _shuffled(source) if recipe == "published" else records_of(source)
        for i, record in enumerate(records, 1):
            passages, units = passages_of(record), annotated_units(record)
            gold = labels(record, units)
            report(source.name, i, len(records))
            if not any(gold) or all(gold):
                continue
            features = looks.get(record["question"], passages, units, method.read).features.numpy()
            picked = _pair(gold, id_of(record)) if recipe == "published" else range(len(gold))
            x += [features[u] for u in picked]
            y += [gold[u] for u in picked]
            group += [len(held)] * len(picked)
            held.append(fold_of(record) == 0)
        used.append(described(source, len(held) - before))
    if not any(held) or all(held):
        raise BadInput("no question can be held out; give more data")
    out = np.array(held)[group]
    fitted = _regression(np.array(x)[~out], np.array(y)[~out], np.array(group)[~out])
    w, bias = fitted
    figure = auc(np.array(x)[out] @ w + bias, np.array(y)[out].astype(float))
    card = _card(proxy, used, {"recipe": recipe, "held_out_auc": round(figure, 4)})
    return LinearProbe(
        {"head": torch.tensor(w).float(), "bias": torch.tensor([bias]).float()}, card
    )


def _regression(x: Any, y: Any, group: Any) -> tuple[Any, float]:
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


def _shuffled(source: Source) -> list[Record]:
    """Lone short contexts with their sentences in random order, as in the paper's appendix."""
    rows = [r for r in load(source.path) if r.get("answerable", True) and gold_spans(r)]
    rows = [r for r in rows if sum(len(d["text"]) for d in r["docs"]) <= _SHORT_CHARS]
    chance = random.Random(0)
    return [
        _mixed(r, chance) for r in chance.sample(rows, min(len(rows), source.limit or len(rows)))
    ]


def _mixed(record: Record, chance: random.Random) -> Record:
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


def _pair(gold: Sequence[bool], seed: str) -> list[int]:
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
