"""A needle in a haystack, for the pilot that finds EHPC's evaluator heads.

The haystack is the text of a labelled record's documents, its labels unused; the needle is one
sentence made up for it and put between two of its sentences at a depth drawn by the record's id.
"""

from __future__ import annotations

import random

from torch import Tensor

from tamis.compressors.reading.windows import Reader
from tamis.probes.prompt import PassageTokens, Prompt, token_spans
from tamis_lab.datasets.records import Record, record_id
from tamis_lab.methods.head_scores import needle_mass
from tamis_lab.train.heads.cases import HeadCase, want_all_layers

NEEDLES = (
    ("The special magic number for {key} is: {value}.", "What is the special magic number for"),
    ("The access code of {key} is {value}.", "What is the access code of"),
    ("Parcel {value} was sent to {key} last week.", "Which parcel was sent last week to"),
    ("In the ledger, {key} is listed under entry {value}.", "Which entry is in the ledger for"),
)
KEYS = ("Marlow", "Quentin", "Isadora", "Tallinn", "Brisbane", "Ottoline", "Valdez", "Kirkwall")


def build_needle_case(record: Record, reader: Reader, most_tokens: int) -> HeadCase:
    """The record's sentences, as many as fit, with the needle among them."""
    chance = random.Random(f"needle {record_id(record)}")
    sentence, question = chance.choice(NEEDLES)
    key, value = chance.choice(KEYS), str(chance.randrange(10**5, 10**6))
    hay = _sentences_that_fit(record, reader, most_tokens)
    at = chance.randrange(len(hay) + 1)
    before = " ".join(hay[:at]) + (" " if at else "")
    needle = sentence.format(key=key, value=value)
    text = " ".join([before + needle, *hay[at:]])
    start = len(before)
    answer = (start + needle.index(value), start + needle.index(value) + len(value))
    encoded = reader.layout.tokenizer.encode(text)
    needles = token_spans(encoded, [(start, start + len(needle))])
    (answer_tokens,) = token_spans(encoded, [answer])
    return HeadCase(f"{question} {key}?", tuple(encoded.ids), (), (), tuple(needles), answer_tokens)


def _sentences_that_fit(record: Record, reader: Reader, most_tokens: int) -> list[str]:
    found: list[str] = []
    room = most_tokens
    for doc in record["docs"]:
        for start, stop in doc["sents"]:
            sentence = doc["text"][start:stop]
            room -= reader.layout.tokenizer.count(sentence)
            if room < 0:
                return found
            found.append(sentence)
    return found


def read_needle_mass(case: HeadCase, reader: Reader) -> dict[str, Tensor]:
    """`needle`: mass on the needle by the last row."""
    prompt = Prompt(PassageTokens(case.ids, 0, ()), reader.layout.question_tokens(case.question))
    (signal,) = reader.read([prompt], want_all_layers(reader, "last"))
    return {"needle": needle_mass(signal, case.needles)}
