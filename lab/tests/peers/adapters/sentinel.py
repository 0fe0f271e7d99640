"""Sentinel as published: no package exists, so this is tamis's own `sentinel` method.

All layers and heads of the last prompt token, one joined context in chunks, logistic regression,
selection that stops at the first sentence that does not fit. It reads with the recorder of tamis,
which keeps one row where the released code keeps whole attention maps, and is therefore faster;
`sentinel_eager.py` reads as the released code does. The regression ships with tamis; its training
is described beside its weights.
"""

from __future__ import annotations

from protocol import serve
from sentences import select_sentences

from tamis.compressors import registry
from tamis.service.api.compress import counter_of
from tamis.text.types import Passage
from tamis.text.units.segment import units_of


def load(settings):
    return make_keeper(settings["model"], settings["model"])


def make_keeper(reader, model):
    """The `keep` function over a reader, or over a model that is loaded by its name."""
    scorer, counter = registry.build_method("sentinel", proxy=reader), counter_of("proxy", model)

    def keep(case):
        passages = [Passage(doc["text"], None, doc["title"] or None) for doc in case["docs"]]
        units = units_of(passages)
        texts = [passages[u.passage].text[slice(*u.visible)] for u in units]
        scores = scorer.scores(case["question"], passages, units).values
        sentences = list(zip(units, texts, counter.count_many(texts), strict=True))
        return select_sentences(sentences, scores, case["budget_tokens"], stop_at_first=True)

    return keep


if __name__ == "__main__":
    serve(load, "tamis", "transformers", "torch")
