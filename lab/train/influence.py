"""Documents whose prediction needs a model that looks back, by what masking its heads costs.

Source: AttentionInfluence (arXiv 2505.07293, §3): with the retrieval heads of a small model masked,

    score(x) = (loss with the heads masked - loss) / loss,   losses are means over x's tokens

and the documents of the highest scores are kept.

Departures: heads are those of a profile (the paper finds them on a synthetic task); a masked head
puts out nothing (the paper makes its weights uniform); a text longer than `window_tokens` is read
in windows, and its loss is the mean over the tokens of all of them; a text of a single token has no
loss, and the score 0.

    OUT.partial   a line a document as it is done, its settings beside it; the same command goes on
    OUT           all of them in the order of the input, with `keep`; it appears in one piece
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from tamis.probes.atomic_file import atomic_path
from tamis.probes.errors import BadInput
from tamis.probes.probing.heads import Head
from tamis_lab.datasets.result_file import ResultFile
from tamis_lab.methods.window_attention.edited_pass import (
    MaskedHeads,
    final_states,
    token_losses,
    unembedding,
)

WINDOW_TOKENS = 1024
HEAD_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Influence:
    """What masking heads costs on one document.

    Attributes:
        score: the relative rise of the loss. loss, masked_loss: nats a token.
        tokens: that were predicted.
    """

    id: str
    score: float
    loss: float
    masked_loss: float
    tokens: int


def document_influence(
    reader: Any, name: str, text: str, heads: Sequence[Head], window_tokens: int = WINDOW_TOKENS
) -> Influence:
    """The influence of some heads on a document: two passes over it.

    Args:
        reader: the proxy, loaded whole.
    """
    ids = reader.layout.tokenizer.encode(text).ids
    first, rows = reader.layout.opening[:1], unembedding(reader)
    sums, tokens = [0.0, 0.0], 0
    for start in range(0, len(ids), window_tokens):
        window = [*first, *ids[start : start + window_tokens]]
        if len(window) < 2:
            continue
        for i, edit in enumerate((None, MaskedHeads(heads))):
            with torch.inference_mode():
                losses = token_losses(final_states(reader, window, edit), rows, window)
            sums[i] += float(losses.double().sum())
        tokens += len(window) - 1
    loss, masked = (total / max(1, tokens) for total in sums)
    score = relative_rise(loss, masked)
    return Influence(name, score, round(loss, 6), round(masked, 6), tokens)


def relative_rise(loss: float, masked: float) -> float:
    """How much higher the second loss is, in parts of the first; 0 where there is none."""
    return round((masked - loss) / loss, 6) if loss > 0 else 0.0


def mark_kept(found: Sequence[Influence], share: float) -> list[bool]:
    """Whether each document is among the share with the highest scores, ties to earlier ones.

    Raises:
        BadInput: a share that is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise BadInput(f"keep is {share:g}; give a share of the documents, above 0 and up to 1")
    best = sorted(range(len(found)), key=lambda i: (-found[i].score, i))
    kept = set(best[: math.ceil(share * len(found) - 1e-9)])
    return [i in kept for i in range(len(found))]


def select_documents(
    documents: Iterable[tuple[str, str]],
    score: Callable[[str, str], Influence],
    out: Path,
    settings: Mapping[str, Any],
    share: float,
    report: Callable[[int], None] = lambda done: None,
) -> int:
    """Scores documents and writes a row of each; goes on where an earlier call stopped.

    Args:
        documents: ids and texts. settings: all that scores depend on, documents aside.
        share: of the documents, that are marked `keep`.

    Returns:
        How many documents there are.

    Raises:
        BadInput: two documents of one id, a partial file of other settings, or a file that cannot
            be written.
    """
    results = ResultFile(out.with_name(f"{out.name}.partial"), settings, option="output")
    known = {row["id"]: Influence(**row) for row in results.rows()}
    found: dict[str, Influence] = {}
    try:
        for name, text in documents:
            if name in found:
                raise BadInput(f"two documents have the id {name!r}; give each its own")
            if (one := known.get(name)) is None:
                one = score(name, text)
                results.append(asdict(one))
            found[name] = one
            report(len(found))
        rows = list(found.values())
        with atomic_path(out) as temporary:
            text = "".join(
                json.dumps(asdict(row) | {"keep": kept}) + "\n"
                for row, kept in zip(rows, mark_kept(rows, share), strict=True)
            )
            temporary.write_text(text, "utf8")
    except OSError as error:
        raise BadInput(f"{out} cannot be written ({error.strerror}); name another file") from error
    results.delete()
    return len(rows)
