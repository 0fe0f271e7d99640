"""OpenProvence from a folder of weights with code of its own: this code runs, so trust the folder.

Written from the published description of `process`: for a question and documents given as lists of
sentences, it returns a probability for each sentence (`return_sentence_metrics`). The budget
replaces its threshold: the sentences with the highest probabilities that fit are kept.
"""

from __future__ import annotations

from protocol import serve
from sentences import select_sentences, sentences_of
from transformers import AutoModel


def load(settings):
    model = AutoModel.from_pretrained(settings["weights"], trust_remote_code=True).eval()

    def keep(case):
        sentences = sentences_of(case)
        split = [[d["text"][a:b] for a, b, _ in d["sentences"]] for d in case["docs"]]
        done = model.process(
            question=case["question"],
            context=[texts for texts in split if texts],
            return_sentence_metrics=True,
            show_progress=False,
        )
        scores = list(_flat(done["sentence_probabilities"]))
        if len(scores) != len(sentences):
            raise ValueError(f"{len(scores)} probabilities for {len(sentences)} sentences")
        return select_sentences(sentences, scores, case["budget_tokens"])

    return keep


def _flat(values):
    for value in values:
        if isinstance(value, list | tuple):
            yield from _flat(value)
        else:
            yield float(value)


if __name__ == "__main__":
    serve(load, "transformers", "torch")
