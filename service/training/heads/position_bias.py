"""Lists of documents in shuffled order to a profile of places: the attention basin of a proxy."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from tamis.compressors.reading.windows import Reader
from tamis.probes.errors import BadInput
from tamis.probes.probing.head_scores import document_masses
from tamis.probes.probing.position_bias import PositionProfile, basin_layer
from tamis.probes.prompt import Prompt, Read, token_spans
from tamis.probes.signal import Want
from tamis.service.datasets.records import Record, id_of
from tamis.service.training.probe import Source, described, distinct, records_of

Report = Callable[[str, int, int], None]
DOCUMENTS, DOCUMENT_TOKENS = 10, 100


def opening(doc: Record, reader: Reader, most_tokens: int) -> str:
    """The first sentences of a document that fit into so many tokens; at least one.

    Documents of like length: a place shall not draw attention because long texts stood there.
    """
    text, end = str(doc["text"]), 0
    for _, stop in doc["sents"]:
        if end and reader.layout.tokens.count(text[:stop]) > most_tokens:
            break
        end = stop
    return text[:end]


def shares(record: Record, reader: Any, documents: int, most_tokens: int) -> Tensor | None:
    """The share of attention that each place draws, layer by layer: `[K, L]`.

    The mean of all rows from the question on and of all heads, over the documents alone.

    Returns:
        None where the record has too few documents.
    """
    texts = [t for doc in record["docs"] if (t := opening(doc, reader, most_tokens)).strip()]
    if len(texts) < documents:
        return None
    order = random.Random(id_of(record)).sample(range(len(texts)), documents)
    text, spans = "", []
    for d in order:
        text += "\n\n" if text else ""
        spans.append((len(text), len(text) + len(texts[d])))
        text += texts[d]
    encoded = reader.layout.tokens.encode(text)
    prompt = Prompt(Read(tuple(encoded.ids), 0, ()), reader.layout.ask(record["question"]))
    want = Want(tuple(range(reader.card.layers)), ("question_mean",))
    (signal,) = reader.read([prompt], want)
    masses = document_masses(signal, token_spans(encoded, spans)).mean(-1)  # [K, L]
    return masses / masses.sum(0, keepdim=True).clamp_min(1e-12)


def every_list(
    reader: Any, sources: Sequence[Source], documents: int, most_tokens: int, report: Report
) -> Iterator[tuple[Source, Tensor]]:
    """The shares of every record with enough documents."""
    for source in sources:
        records = records_of(source)
        for i, record in enumerate(records, 1):
            if (found := shares(record, reader, documents, most_tokens)) is not None:
                yield source, found
            report(source.name, i, len(records))


def measure(
    reader: Any,
    sources: Sequence[Source],
    documents: int = DOCUMENTS,
    most_tokens: int = DOCUMENT_TOKENS,
    report: Report = lambda name, done, total: None,
) -> PositionProfile:
    """The mean share of each of `documents` places in every layer, and the layer to use.

    Raises:
        BadInput: no record has so many documents, or fewer than three are asked for.
    """
    if documents < 3:
        raise BadInput(f"{documents} documents have no middle; give at least 3")
    sources = distinct(sources)
    found = list(every_list(reader, sources, documents, most_tokens, report))
    if not found:
        raise BadInput(
            f"no record of {', '.join(str(s.path) for s in sources)} has {documents} documents; "
            "give --documents a lower number, or records with more"
        )
    mean = torch.stack([each for _, each in found]).double().mean(0).T  # [L, K]
    by_layer = tuple(tuple(round(v, 6) for v in row) for row in mean.tolist())
    layer, shown = basin_layer(by_layer)
    used = {id(source): sum(of is source for of, _ in found) for source in sources}
    card = reader.card
    return PositionProfile(
        card.name,
        card.revision,
        reader.layout.template.name,
        by_layer,
        layer,
        shown,
        len(found),
        tuple(described(source, used[id(source)]) for source in sources),
    )
