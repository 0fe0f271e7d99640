"""Cross-encoders: question and passage read as one input.

    [CLS] question [SEP] passage [SEP] ─ encoder ─► states ─ head ─► log odds of relevance

Published ones have a pooler and a classifier over the state of [CLS] (Nogueira and Cho 2019, arXiv
1901.04085). That of tamis is all-MiniLM-L6-v2 with adapters, and three values of its states are
summed: the cosine of the two means, the late interaction of the tokens of the two texts (ColBERT,
Khattab and Zaharia 2020, arXiv 2004.12832, §3.3), and a linear of [CLS]. The first two are what the
encoder knew, so that training starts from them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import linear, normalize

from tamis.probes.card_file import read_card, read_weights
from tamis.probes.errors import BadModelFile
from tamis.probes.interruption import check_interruption
from tamis.probes.model.bert import Bert, read_shape
from tamis.probes.model.encoder import pad_rows
from tamis.probes.model.loading import choose_device, choose_dtype
from tamis.probes.prompt import token_batches
from tamis.probes.tokens import TextTokenizer

FORMAT = 1
SHIPPED = Path(__file__).parent / "weights"
QUESTION_TOKENS = 254
"""A longer question is read in parts, and the mean of their log odds is taken."""
_PASSAGE_TOKENS = 126  # at least so many at a time, also behind the longest part of a question
_WINDOW_TOKENS = 256  # [CLS], two [SEP], question and passage, unless the question is long
_BATCH_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class CrossEncoderCard:
    """What a cross-encoder was made of.

    Attributes:
        base: the encoder its adapters are for. scale: the factor of their products.
        trained_on: per training set its name, SHA-256 and the number of questions used.
        recipe: every other setting that affected the result. figures: on lists not trained on.
        weights_sha256: of the safetensors file beside the card.
    """

    base: str
    scale: float
    trained_on: tuple[Mapping[str, Any], ...] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)
    weights_sha256: str = ""
    format: int = FORMAT


def adapters_file(encoder: str) -> Path:
    """The path of the adapters that make a cross-encoder of an encoder, in the wheel."""
    return SHIPPED / f"cross.{encoder}.safetensors"


def load_adapters(file: Path) -> tuple[CrossEncoderCard, dict[str, Tensor]]:
    """The card and the tensors of a file of adapters.

    Raises:
        BadModelFile: one is missing, or damaged.
    """
    card = read_card(file.with_suffix(".json"), CrossEncoderCard, FORMAT, "a cross-encoder's card")
    return card, read_weights(file, card.weights_sha256, " as a cross-encoder")


class _PairHead:
    """The head of tamis: what the states of the two texts have in common, and [CLS]."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self.cosine, self.interaction, self.first, self.intercept = (
            weights[f"head.{part}"].float()
            for part in ("cosine", "interaction", "first", "intercept")
        )

    def __call__(self, states: Tensor, begin: int, of_passage: Tensor) -> Tensor:
        """The log odds `[B]` from states `[B, L, D]`.

        Args:
            begin: the place of the passage's first token.
            of_passage: `[B, L - begin]`, true for tokens of the passage.
        """
        question = states[:, 1 : begin - 1]
        passage = states[:, begin:] * of_passage[..., None]
        means = (normalize(each.sum(1), dim=-1) for each in (question, passage))
        alike = normalize(question, dim=-1) @ normalize(passage, dim=-1).transpose(1, 2)
        best = alike.masked_fill(~of_passage[:, None], -1.0).amax(-1)
        total: Tensor = self.cosine * torch.stack([*means]).prod(0).sum(-1)
        total = total + self.interaction * best.sum(1) / max(begin - 2, 1)
        return total + states[:, 0] @ self.first + self.intercept


class _PooledHead:
    """The head of a published cross-encoder: a layer with tanh over [CLS], and a classifier."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self.pooler, self.classifier = (
            (weights[f"{part}.weight"].float(), weights[f"{part}.bias"].float())
            for part in ("pooler.dense", "classifier")
        )

    def __call__(self, states: Tensor, begin: int, of_passage: Tensor) -> Tensor:
        """As `_PairHead`; only [CLS] counts."""
        return linear(linear(states[:, 0], *self.pooler).tanh(), *self.classifier)[:, 0]


class CrossEncoder:
    """Log odds that a passage answers, from one reading of question and passage."""

    def __init__(
        self, weights: Mapping[str, Tensor], folder: Path, device: str | torch.device = "cpu"
    ) -> None:
        """From weights of a BERT and a head, and the configuration and tokenizer in a folder.

        Raises:
            KeyError: a weight is missing. BadModelFile: it is no BERT.
        """
        where = choose_device(str(device))
        self.model = Bert(read_shape(folder), weights, choose_dtype("auto", where), where)
        head = _PooledHead if "classifier.weight" in weights else _PairHead
        self._head: Any = head({name: tensor.to(where) for name, tensor in weights.items()})
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.name = folder.name
        self.tokenizer = TextTokenizer(tokenizer, self.name, owned=True)
        self._marks: tuple[Any, ...] = tuple(map(tokenizer.token_to_id, ("[CLS]", "[SEP]")))

    @classmethod
    def from_folder(
        cls, folder: Path, adapters: Path | None = None, device: str = "auto"
    ) -> CrossEncoder:
        """The cross-encoder in a folder, or the encoder in it, changed by adapters.

        Of a safetensors file of adapters with its card, `NAME.a [rank, I]` and `NAME.b [O, rank]`
        are added to the weight `NAME` as scale · b a, in fp32; other tensors replace those of their
        name.

        Raises:
            BadModelFile: a file is missing, damaged, or not of this encoder.
        """
        scale, learnt = 0.0, dict[str, Tensor]()
        if adapters is not None:
            card, learnt = load_adapters(adapters)
            scale = card.scale
        try:
            weights = load_file(folder / "model.safetensors")
            for name in [name for name in learnt if name.endswith(".b")]:
                changed = name.removesuffix(".b")
                product = learnt.pop(name).float() @ learnt.pop(f"{changed}.a").float()
                weights[changed] = weights[changed].float() + scale * product
            return cls(weights | learnt, folder, device)
        except (OSError, SafetensorError, KeyError, RuntimeError) as error:
            raise BadModelFile(f"{folder} is no cross-encoder: {error!r}; pull it again") from error

    def score(self, question: str, texts: Sequence[str]) -> Tensor:
        """The log odds of each text, `[N]` fp32 on the CPU; of several windows the best counts.

        Before each batch it looks whether it shall go on (probes/interruption.py).
        """
        asked = self.tokenizer.encode(question).ids
        parts = [asked[i : i + QUESTION_TOKENS] for i in range(0, len(asked), QUESTION_TOKENS)]
        read = [encoded.ids for encoded in self.tokenizer.encode_many(texts)]
        found = [self._score_part(part, read) for part in parts or [[]]]
        return torch.stack(found).mean(0)

    def interact(self, question: str, texts: Sequence[str]) -> tuple[Tensor]:
        """The log odds, as the one value by which it judges a list beside encoders."""
        return (self.score(question, texts),)

    def _score_part(self, asked: list[int], texts: Sequence[list[int]]) -> Tensor:
        step = max(_WINDOW_TOKENS - 3 - len(asked), _PASSAGE_TOKENS)
        windows = [
            (text, ids[start : start + step])
            for text, ids in enumerate(texts)
            for start in range(0, max(len(ids), 1), step)
        ]
        windows.sort(key=lambda window: len(window[1]), reverse=True)
        best = torch.full((len(texts),), -torch.inf)
        width = len(asked) + 3
        for batch in token_batches(windows, _BATCH_TOKENS, lambda window: width + len(window[1])):
            check_interruption()
            values = self._read(asked, [ids for _, ids in batch]).cpu()
            best.scatter_reduce_(0, torch.tensor([text for text, _ in batch]), values, "amax")
        return best

    @torch.inference_mode()
    def _read(self, asked: list[int], passages: Sequence[list[int]]) -> Tensor:
        """The log odds of windows of passages, `[B]`."""
        first, last = self._marks
        begin = len(asked) + 2
        rows = [[first, *asked, last, *ids, last] for ids in passages]
        ids, mask = pad_rows(rows, self.model.device)
        second = mask.clone()
        second[:, :begin] = False
        states = self.model(ids, mask, second).float()
        # the last token of a row is [SEP]: a passage has those that another one follows
        of_passage = mask.roll(-1, 1)[:, begin:]
        of_passage[:, -1] = False
        found: Tensor = self._head(states, begin, of_passage)
        return found
