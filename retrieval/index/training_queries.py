"""Training queries of an index: what questions about its corpus look like to its heads.

A graph follows queries (RetrievalAttention, arXiv 2409.10516, §3.2). An index is made before its
questions are known, so these stand in: the questions that the caller has, else general ones that
ship with tamis; and sentences of the corpus, read as if they were asked. Sentences of the corpus
made the better graph: lab/log/retrieval-and-selectors.md#2026-11-26-approximate-search-of-an-index
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tamis.probes.errors import BadInput
from tamis.retrieval.storage.segment import Segment

if TYPE_CHECKING:
    from tamis.retrieval.keys.encoder import KeyEncoder

BANK = Path(__file__).parent / "questions.txt"
SENTENCES = 256
SENTENCE_CHARS = 240


def load_questions(path: Path = BANK) -> list[str]:
    """The questions of a text file, one a line.

    Raises:
        BadInput: it cannot be read, or holds none.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from error
    questions = list(dict.fromkeys(line for line in lines if line.strip()))
    if not questions:
        raise BadInput(f"{path} holds no question; give a text file with one a line")
    return questions


def corpus_sentences(segments: Sequence[Segment], count: int = SENTENCES) -> list[str]:
    """Sentences from chunks at even distances, the one in the middle of each; fewer if few."""
    places = [(segment, int(c)) for segment in segments for c in np.flatnonzero(segment.live)]
    step = max(1, len(places) // count)
    found = []
    for segment, chunk in places[step // 2 :: step][:count]:
        record = segment.chunks[chunk]
        if units := record["units"]:
            start, stop = units[len(units) // 2]
            found.append(record["text"][start : min(stop, start + SENTENCE_CHARS)])
    return [sentence for sentence in dict.fromkeys(found) if sentence.strip()]


def encode_queries(encoder: KeyEncoder, texts: Sequence[str]) -> NDArray[np.float32]:
    """The query vectors of all texts: `[T, H·d]`."""
    return np.concatenate([encoder.encode_question(text) for text in texts])
