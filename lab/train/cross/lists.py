"""Questions with passages to tell apart, and what teachers think of each of them.

    passages of all records and sets ─► pool ─ BM25, an encoder ─► candidates of each question
    candidates ─ what each teacher says ─► target + grade

The pool is one for all questions, so that a passage that looks right may be of another page.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from tamis.compressors.features.bm25 import whole_texts
from tamis.probes.atomic_file import atomic_path
from tamis.probes.errors import BadInput
from tamis.text.types import Passage
from tamis_lab.datasets.qrels import JudgedQuery
from tamis_lab.datasets.record_files import question_fold
from tamis_lab.datasets.records import Record
from tamis_lab.train.probe.query_lists import FirstStage

PASSAGE_CHARS = 600
"""A document of a record is parted at sentences into passages of about so many characters."""
PASSAGES = 9
"""Of each question; the first three of them are of its gold and of what was judged beside it."""
_CLOSE, _FAR = 15, 60  # places of the encoder's list: the nearest, and some from further down

Report = Callable[[str, int, int], None]


@dataclass(slots=True)
class Question:
    """A question, the grades of passages (above 0, at most 1), and passages judged beside them."""

    text: str
    grades: dict[int, float]
    beside: list[int]


@dataclass(slots=True)
class Pool:
    """Passages, each once, and the questions about them.

    Attributes:
        titled: the passages' texts with their titles, where they have any.
    """

    titled: list[str] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    _places: dict[str, int] = field(default_factory=dict)

    def add_records(self, records: Iterable[Record]) -> None:
        """Adds labelled records: a passage with a gold sentence has the grade 1."""
        for record in records:
            grades, beside = dict[int, float](), list[int]()
            for doc in record["docs"]:
                for text, is_gold in _passages(doc):
                    place = self._place(Passage(text, "", doc.get("title") or None))
                    if is_gold:
                        grades[place] = 1.0
                    else:
                        beside.append(place)
            self.questions.append(Question(record["question"], grades, beside[:8]))

    def add_queries(
        self, queries: Sequence[JudgedQuery], documents: Mapping[str, Passage]
    ) -> list[JudgedQuery]:
        """Adds a ranking set, its grades as shares of the highest; fold 0 is held out.

        Returns:
            The queries held out, which nothing is learnt from.
        """
        top = max(grade for query in queries for grade in query.qrels.values())
        held_out = list[JudgedQuery]()
        for query in queries:
            if question_fold(query.text) == 0:
                held_out.append(query)
                continue
            grades = {
                self._place(documents[docid]): grade / top
                for docid, grade in query.qrels.items()
                if docid in documents
            }
            found = (docid for docid, _ in query.candidates if docid not in query.qrels)
            beside = [self._place(documents[docid]) for docid in found if docid in documents][:6]
            self.questions.append(Question(query.text, grades, beside))
        return held_out

    def _place(self, passage: Passage) -> int:
        (text,) = whole_texts([passage])
        place = self._places.setdefault(text, len(self.titled))
        if place == len(self.titled):
            self.titled.append(text)
        return place


def _passages(doc: Mapping[str, Any]) -> Iterable[tuple[str, bool]]:
    """A document in passages of whole sentences, and whether each has a gold one."""
    gold, sents, begin, is_gold = set(doc["gold"]), doc["sents"], None, False
    for number, (start, end) in enumerate(sents):
        begin = start if begin is None else begin
        is_gold = is_gold or number in gold
        if end - begin > PASSAGE_CHARS or number == len(sents) - 1:
            yield doc["text"][begin:end], is_gold
            begin, is_gold = None, False


def choose_passages(pool: Pool, encoder: Any, seed: int = 0) -> list[list[int]]:
    """`PASSAGES` a question: gold, judged, the most alike by encoder and BM25, and one far."""
    ids = [{"docid": place, "title": "", "text": text} for place, text in enumerate(pool.titled)]
    words, draw = FirstStage(ids), random.Random(seed)
    vectors = encoder.encode(pool.titled)
    asked = encoder.encode([question.text for question in pool.questions])
    chosen = []
    for question, vector in zip(pool.questions, asked, strict=True):
        alike = torch.topk(vectors @ vector, min(_FAR, len(vectors))).indices.tolist()
        best = [int(place) for place, _ in words.search(question.text, 30)]
        gold = sorted(question.grades, key=lambda place: -question.grades[place])
        beside, far = draw.sample(question.beside, len(question.beside)), alike[_CLOSE:]
        draw.shuffle(far)
        taken = dict.fromkeys(gold[:2])
        for places, count in ((beside, 2), (alike, 3), (best, 2), (far, 1)):
            new = [p for p in places if p not in taken and p not in question.grades]
            taken |= dict.fromkeys(new[:count])
        while len(taken) < min(PASSAGES, len(vectors)):
            taken[draw.randrange(len(vectors))] = None
        chosen.append(list(taken)[:PASSAGES])
    return chosen


def grade_targets(pool: Pool, chosen: Sequence[Sequence[int]]) -> Tensor:
    """The grade of each chosen passage, `[Q, PASSAGES]`; 0 without one."""
    rows = zip(pool.questions, chosen, strict=True)
    return torch.tensor([[question.grades.get(p, 0.0) for p in row] for question, row in rows])


def teach(
    pool: Pool,
    chosen: Sequence[Sequence[int]],
    teachers: Sequence[tuple[Any, tuple[float, ...]]],
    report: Report,
) -> Tensor:
    """What teachers say of the chosen passages, `[Q, PASSAGES]`: mean 0 and variance 1 over all.

    Standardised over all pairs and not within a list, so that a list without an answer stays low.

    Args:
        teachers: encoders and cross-encoders, each with the weights of the values of `interact`.
    """
    total: NDArray[np.float64] = np.zeros((len(chosen), len(chosen[0])))
    for encoder, weights in teachers:
        values = np.zeros((len(weights), *total.shape))
        for number, (question, row) in enumerate(zip(pool.questions, chosen, strict=True)):
            texts = [pool.titled[place] for place in row]
            for part, found in enumerate(encoder.interact(question.text, texts)):
                values[part, number] = found.numpy()
            report(f"{encoder.name} judges", number + 1, len(chosen))
        for weight, value in zip(weights, values, strict=True):
            total += weight * (value - value.mean()) / value.std()
    return torch.from_numpy((total - total.mean()) / total.std()).float()


def keep(file: Path, made_of: str, make: Callable[[], Tensor]) -> Tensor:
    """The tensor in a file, made and written if there is none.

    Args:
        made_of: what it depends on.

    Raises:
        BadInput: the file was made of something else.
    """
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(file) as temporary:
            save_file({"targets": make()}, temporary, {"made_of": made_of})
    with safe_open(file, framework="pt") as kept:
        if (kept.metadata() or {}).get("made_of") != made_of:
            raise BadInput(f"{file} is of other data; name another folder with --out, or delete it")
        found: Tensor = kept.get_tensor("targets")
        return found


def digest(pool: Pool, chosen: Sequence[Sequence[int]]) -> str:
    """The SHA-256 of the questions and their passages."""
    asked = [question.text for question in pool.questions]
    return hashlib.sha256(json.dumps([asked, pool.titled, chosen]).encode()).hexdigest()
