"""Selection of whole sentences by score under a budget, for peers that only score."""

from __future__ import annotations


def sentences_of(case):
    """Document and offsets of every sentence, with its text and its tokens, in reading order."""
    return [
        ((d, start, stop), doc["text"][start:stop], tokens)
        for d, doc in enumerate(case["docs"])
        for start, stop, tokens in doc["sentences"]
    ]


def select_sentences(sentences, scores, budget_tokens, stop_at_first=False):
    """The best sentences that fit, in reading order, one a line.

    Args:
        stop_at_first: stop at the first that does not fit, instead of trying smaller ones.
    """
    kept, remaining = [], budget_tokens
    for i in sorted(range(len(sentences)), key=lambda i: -scores[i]):
        cost = sentences[i][2] + 1  # the line break after it
        if cost <= remaining:
            kept.append(i)
            remaining -= cost
        elif stop_at_first:
            break
    return "\n".join(sentences[i][1] for i in sorted(kept))
