"""Sentinel as published: no package exists, so this is tamis's own `sentinel` method.

All layers and heads of the last prompt token, one joined context in chunks, logistic regression,
selection that stops at the first sentence that does not fit. It reads through tamis's own recorder,
which keeps one row where the released code keeps whole attention maps, and is faster than that code
for it: `sentinel_eager.py` reads as that does. The regression is the one that ships with tamis; how
it was trained is told beside its weights.
"""

from __future__ import annotations

from protocol import serve
from sentences import chosen

from tamis.compressors import registry
from tamis.probes.segmentation.segment import units_of
from tamis.probes.text import Passage
from tamis.service.api.compress import counter_of


def load(settings):
    return keeping(settings["model"], settings["model"])


def keeping(reader, model):
    """What keeps, over a reader, or over a model that is loaded by its name."""
    scorer, counter = registry.build_method("sentinel", proxy=reader), counter_of("proxy", model)

    def keep(case):
        passages = [Passage(doc["text"], None, doc["title"] or None) for doc in case["docs"]]
        units = units_of(passages)
        texts = [passages[u.passage].text[slice(*u.visible)] for u in units]
        scores = scorer.scores(case["question"], passages, units).values
        sentences = list(zip(units, texts, counter.count_many(texts), strict=True))
        return chosen(sentences, scores, case["budget_tokens"], stop_at_first=True)

    return keep


if __name__ == "__main__":
    serve(load, "tamis", "transformers", "torch")
