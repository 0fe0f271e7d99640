"""Position bias: the attention each place in a list of documents draws, whatever its text.

The paper (arXiv 2508.05128) calls it the attention basin: both ends draw most, the middle least.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from tamis.compressors.reading.windows import Reader
from tamis.probes.errors import BadInput
from tamis.probes.prompt import PassageTokens, Prompt, token_spans
from tamis.probes.signal import Want
from tamis_lab.datasets.record_files import (
    RecordFile,
    ReportProgress,
    answerable_records,
    describe_file,
    name_distinctly,
)
from tamis_lab.datasets.records import Record, record_id
from tamis_lab.methods.head_scores import document_masses
from tamis_lab.methods.position_bias import PositionProfile, biased_layer

DOCUMENTS, DOCUMENT_TOKENS = 10, 100
"""Documents in a list, and the most tokens of each."""


def first_sentences(doc: Record, reader: Reader, most_tokens: int) -> str:
    """The first sentences of a document that fit into so many tokens; at least one.

    Documents get similar lengths, so that no place draws attention because its texts are longer.
    """
    text, end = str(doc["text"]), 0
    for _, stop in doc["sents"]:
        if end and reader.layout.tokenizer.count(text[:stop]) > most_tokens:
            break
        end = stop
    return text[:end]


def attention_shares(
    record: Record, reader: Any, documents: int, most_tokens: int
) -> Tensor | None:
    """The share of attention that each place draws, layer by layer: `[K, L]`.

    The mean of all rows from the question on and of all heads, over the documents alone.

    Returns:
        None where the record has too few documents.
    """
    texts = [
        t for doc in record["docs"] if (t := first_sentences(doc, reader, most_tokens)).strip()
    ]
    if len(texts) < documents:
        return None
    order = random.Random(record_id(record)).sample(range(len(texts)), documents)
    text, spans = "", []
    for d in order:
        text += "\n\n" if text else ""
        spans.append((len(text), len(text) + len(texts[d])))
        text += texts[d]
    encoded = reader.layout.tokenizer.encode(text)
    prompt = Prompt(
        PassageTokens(tuple(encoded.ids), 0, ()), reader.layout.question_tokens(record["question"])
    )
    want = Want(tuple(range(reader.card.layers)), ("question_mean",))
    (signal,) = reader.read([prompt], want)
    masses = document_masses(signal, token_spans(encoded, spans)).mean(-1)  # [K, L]
    return masses / masses.sum(0, keepdim=True).clamp_min(1e-12)


def read_attention_shares(
    reader: Any,
    files: Sequence[RecordFile],
    documents: int,
    most_tokens: int,
    report: ReportProgress,
) -> Iterator[tuple[RecordFile, Tensor]]:
    """The shares of every record with enough documents."""
    for file in files:
        records = answerable_records(file)
        for i, record in enumerate(records, 1):
            if (found := attention_shares(record, reader, documents, most_tokens)) is not None:
                yield file, found
            report(file.name, i, len(records))


def measure_position_bias(
    reader: Any,
    files: Sequence[RecordFile],
    documents: int = DOCUMENTS,
    most_tokens: int = DOCUMENT_TOKENS,
    report: ReportProgress = lambda name, done, total: None,
) -> PositionProfile:
    """The mean share of each of `documents` places in every layer, and the layer to use.

    Raises:
        BadInput: no record has so many documents, or fewer than three are asked for.
    """
    if documents < 3:
        raise BadInput(f"{documents} documents have no middle; give at least 3")
    files = name_distinctly(files)
    found = list(read_attention_shares(reader, files, documents, most_tokens, report))
    if not found:
        raise BadInput(
            f"no record of {', '.join(str(s.path) for s in files)} has {documents} documents; "
            "give --documents a lower number, or records with more"
        )
    mean = torch.stack([each for _, each in found]).double().mean(0).T  # [L, K]
    by_layer = tuple(tuple(round(v, 6) for v in row) for row in mean.tolist())
    layer, shows_basin = biased_layer(by_layer)
    used = {id(file): sum(of is file for of, _ in found) for file in files}
    card = reader.card
    return PositionProfile(
        card.name,
        card.revision,
        reader.layout.template.name,
        by_layer,
        layer,
        shows_basin,
        len(found),
        tuple(describe_file(file, used[id(file)]) for file in files),
    )
