"""A cross-encoder: question and passage in one input of a BERT, and one score of the pair.

`[CLS] question [SEP] passage [SEP]` with token types (Nogueira & Cho 2019, arXiv 1901.04085, §3).
The BERT is a sentence encoder with low-rank adapters (Hu et al. 2021, arXiv 2106.09685) merged into
its weights, so only the adapters ship. One departure: the score is not of [CLS] alone. The cosine
of the means of question and passage, which the encoder was trained for, and their late interaction
(each question token's best cosine among the passage's; ColBERT, arXiv 2004.12832, §3.3) are
summed with it, with learnt weights, so training starts from what the encoder knows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import normalize

from tamis.probes.card_file import read_card_fields, read_weights, write_weights_and_card
from tamis.probes.errors import BadModelFile, ProbeMismatch
from tamis.probes.model.bert import Bert, read_checkpoint, read_shape
from tamis.probes.model.encoder import batch_windows, special_tokens
from tamis.probes.model.loading import choose_device, choose_dtype, folder_revision
from tamis.probes.tokens import TextTokenizer

PAIR_TOKENS = 192
"""The longest input, [CLS] and both [SEP] included: what the adapters were trained on."""
QUESTION_TOKENS = 64
"""A longer question is read in parts of so many tokens."""

FORMAT = 1
_KINDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("name", "base", "revision", "weights_sha256"), str),
    "rank": int,
    "scale": (int, float),
    "trained_on": list,
    **dict.fromkeys(("recipe", "figures"), dict),
}
_HEAD = ("segments", "state", "parts", "calibration")


@dataclass(frozen=True, slots=True)
class CrossCard:
    """What the adapters of a cross-encoder were trained on and with.

    Attributes:
        name: of the cross-encoder.
        base, revision: the sentence encoder it was trained from, and the hash of its weights.
        rank, scale: of the adapters, and the factor of their product.
        trained_on: a training set each, with the number of its questions.
        recipe: every other setting that affected the result, the seed included.
        figures: what it reached on sets that were not trained on.
        weights_sha256: of the safetensors file beside the card.
    """

    name: str
    base: str
    revision: str
    rank: int
    scale: float
    trained_on: tuple[Mapping[str, Any], ...] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)
    weights_sha256: str = ""
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class CrossWeights:
    """What turns a sentence encoder into a cross-encoder.

    Attributes:
        pairs: adapters `a [rank, I]` and `b [O, rank]` by the checkpoint's name of a projection.
        segments: the vectors of the two token types, `[2, D]`.
        state: the weights of [CLS]'s state, `[D]`.
        parts: the weights of the cosine and of the late interaction, and the intercept, `[3]`.
        calibration: slope and intercept that turn a score into log odds of relevance, `[2]`.
    """

    pairs: Mapping[str, tuple[Tensor, Tensor]]
    segments: Tensor
    state: Tensor
    parts: Tensor
    calibration: Tensor
    card: CrossCard

    def save(self, path: Path) -> CrossWeights:
        """Writes the weights, adapters in half precision, and the card beside them."""
        tensors = {f"{name}.a": a.half() for name, (a, _) in self.pairs.items()}
        tensors |= {f"{name}.b": b.half() for name, (_, b) in self.pairs.items()}
        tensors |= {name: getattr(self, name).float() for name in _HEAD}
        data = save({name: t.detach().cpu().contiguous() for name, t in tensors.items()})
        card = replace(self.card, weights_sha256=hashlib.sha256(data).hexdigest())
        write_weights_and_card(path, data, path.with_suffix(".json"), asdict(card))
        return CrossWeights.load(path)

    @classmethod
    def load(cls, path: Path) -> CrossWeights:
        """Reads and checks weights and their card.

        Raises:
            BadModelFile: a file is missing, damaged, foreign, of another format, or has values that
                are not finite.
        """
        what = "the card of a cross-encoder"
        names = {f.name for f in fields(CrossCard)}
        facts = read_card_fields(path.with_suffix(".json"), names, _KINDS, FORMAT, what)
        card = CrossCard(**facts | {"trained_on": tuple(facts["trained_on"])})
        tensors = {
            name: tensor.float()
            for name, tensor in read_weights(path, card.weights_sha256, " as adapters").items()
        }
        try:
            head = [tensors.pop(name) for name in _HEAD]
            projections = sorted({name.rpartition(".")[0] for name in tensors})
            pairs = {n: (tensors[f"{n}.a"], tensors[f"{n}.b"]) for n in projections}
        except KeyError as error:
            raise BadModelFile(f"{path} lacks {error} of a cross-encoder") from error
        return cls(pairs, *head, card=card)

    def merge(self, checkpoint: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The encoder's checkpoint with the adapters added and the token types replaced, in fp32.

        Raises:
            BadModelFile: a projection is missing or has another shape.
        """
        merged = {name: tensor.float() for name, tensor in checkpoint.items()}
        for name, (a, b) in self.pairs.items():
            weight = merged.get(f"{name}.weight")
            if weight is None or weight.shape != (b.shape[0], a.shape[1]):
                raise BadModelFile(
                    f"the adapters hold {name} {[b.shape[0], a.shape[1]]}, and the encoder has "
                    "none such"
                )
            merged[f"{name}.weight"] = weight + self.card.scale * (b @ a)
        merged["embeddings.token_type_embeddings.weight"] = self.segments
        return merged


Pair = tuple[int, int, list[int], int]
"""The indexes of a question's part and of a text, the ids of both in one input, and how many of
these come before the passage's."""


class CrossEncoder:
    """Scores pairs of a question and a text.

    A text longer than an input is read in several, of which the best counts; a long question is
    read in parts, whose mean counts. Nothing is cut off. Special tokens in a text are plain text.
    """

    def __init__(self, model: Bert, tokenizer: Tokenizer, weights: CrossWeights) -> None:
        """A cross-encoder over a BERT with merged adapters; the tokenizer is modified.

        Raises:
            BadModelFile: the tokenizer is not that of a BERT.
        """
        name = weights.card.base
        self._first, self._last = special_tokens(tokenizer, name)
        self.model, self.weights = model, weights
        self.tokenizer = TextTokenizer(tokenizer, name, owned=True)

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        weights: CrossWeights,
        device: str = "auto",
        dtype: str | torch.dtype = "auto",
    ) -> CrossEncoder:
        """The cross-encoder of a sentence encoder's folder; nothing is fetched.

        Args:
            device, dtype: as for `Encoder.from_folder`.

        Raises:
            ProbeMismatch: the adapters were trained from other weights.
            BadModelFile: the folder holds no readable encoder.
        """
        folder, card = Path(folder), weights.card
        if (revision := folder_revision(folder)) != card.revision:
            raise ProbeMismatch(
                f"{card.name} was trained from {card.base} at {card.revision}, and {folder} has "
                f"{revision}; get that one with `tamis models pull {card.base}`"
            )
        where = choose_device(device)
        checkpoint = weights.merge(read_checkpoint(folder))
        model = Bert(read_shape(folder), checkpoint, choose_dtype(dtype, where), where)
        return cls(model, Tokenizer.from_file(str(folder / "tokenizer.json")), weights)

    def score(self, question: str, texts: Sequence[str], batch_tokens: int = 4096) -> Tensor:
        """The log odds that each text answers the question, `[N]`, fp32 on the CPU.

        Args:
            texts: any strings; an empty one is scored, too.
            batch_tokens: the most tokens of a forward pass, padding included; at least one pair.
        """
        pairs = sorted(self._pairs(question, texts), key=lambda pair: len(pair[2]), reverse=True)
        parts = 1 + max((part for part, *_ in pairs), default=0)
        scores = torch.full((parts, len(texts)), -torch.inf)
        for batch in batch_windows([(text, ids) for _, text, ids, _ in pairs], batch_tokens):
            rows, pairs = pairs[: len(batch)], pairs[len(batch) :]
            found = self._score_batch([ids for _, _, ids, _ in rows], [n for *_, n in rows])
            for (part, text, _, _), score in zip(rows, found.tolist(), strict=True):
                scores[part, text] = max(float(scores[part, text]), score)
        slope, intercept = self.weights.calibration
        return scores.mean(0) * slope + intercept

    def _pairs(self, question: str, texts: Sequence[str]) -> Iterator[Pair]:
        asked = self.tokenizer.encode(question).ids
        for part, at in enumerate(range(0, max(len(asked), 1), QUESTION_TOKENS)):
            head = [self._first, *asked[at : at + QUESTION_TOKENS], self._last]
            step = PAIR_TOKENS - len(head) - 1
            for text, encoded in enumerate(self.tokenizer.encode_many(texts)):
                for start in range(0, max(len(encoded), 1), step):
                    ids = [*head, *encoded.ids[start : start + step], self._last]
                    yield part, text, ids, len(head)

    def _score_batch(self, rows: Sequence[list[int]], heads: Sequence[int]) -> Tensor:
        """The score of each row `[B]`, whose first `heads` tokens are the question's."""
        device = self.model.device
        longest = max(map(len, rows))
        ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])
        place = torch.arange(longest)
        sizes, starts = torch.tensor([[len(row)] for row in rows]), torch.tensor(heads)[:, None]
        mask = place < sizes
        passage = (place >= starts) & mask
        question = (place > 0) & (place < starts)
        with torch.inference_mode():
            states = self.model(ids.to(device), mask.to(device), passage.long().to(device)).float()
            return self._score_states(states, question.to(device), passage.to(device)).cpu()

    def _score_states(self, states: Tensor, question: Tensor, passage: Tensor) -> Tensor:
        """`[B]` from the states `[B, n, D]` and the masks `[B, n]` of the two texts."""
        state, parts = (t.to(states.device) for t in (self.weights.state, self.weights.parts))
        means = [
            normalize((states * mask[..., None]).sum(1), dim=-1) for mask in (question, passage)
        ]
        cosine = (means[0] * means[1]).sum(-1)
        units = normalize(states, dim=-1)
        best = (units @ units.mT).masked_fill(~passage[:, None], -1).amax(-1)
        interaction = (best * question).sum(-1) / question.sum(-1)
        score: Tensor = parts[0] * cosine + parts[1] * interaction + parts[2] + states[:, 0] @ state
        return score
