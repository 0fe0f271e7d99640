"""A sentence encoder: texts to unit vectors."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from copy import copy
from pathlib import Path
from typing import Any, Protocol

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import normalize

from tamis.probes.errors import BadModelFile, ProxyMissing
from tamis.probes.lru import LruCache
from tamis.probes.model.bert import Bert
from tamis.probes.model.gemma_encoder import MODEL_TYPE as GEMMA
from tamis.probes.model.gemma_encoder import GemmaEncoder
from tamis.probes.model.loading import choose_device, choose_dtype, folder_revision
from tamis.probes.pooling import DEFAULT_POOLING, POOLINGS
from tamis.probes.prompt import token_batches
from tamis.probes.tokens import TextTokenizer

WINDOW_TOKENS = 256
"""[CLS], 254 word pieces, [SEP]: the longest input all-MiniLM-L6-v2 was trained on."""

BATCH_TOKENS = 4096
"""The most tokens of a forward pass, padding included; at least one window is read."""
VECTOR_BYTES = 64 << 20
_PORTION_CHARS = 1 << 16  # so that token states of the texts take some ten megabytes

WindowStates = tuple[Tensor, Tensor]
"""The vector of a window `[D]`, and its token states `[n, D]`, in fp16 if they are a document's;
all of unit length."""
Window = tuple[int, list[int]]
"""The index of a text, and the ids of one window of it."""


_MARKS = (("[CLS]", "[SEP]"), ("<bos>", "<eos>"), ("<s>", "</s>"))
"""What encoders read before and after a text; Gemma's has the third pair, too, as tags of HTML."""


def pad_rows(
    rows: Sequence[list[int]], device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Token ids of rows, and which are of a token: `[B, n]` each, on a device."""
    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])
    sizes = torch.tensor([len(row) for row in rows])
    mask = torch.arange(longest) < sizes[:, None]
    return ids.to(device), mask.to(device)


class Encoder:
    """Mean-pooled text vectors of an encoder (Reimers & Gurevych 2019, arXiv 1908.10084).

    The model is a BERT, or Gemma's layers in both directions; the mean of the latter is multiplied
    by a matrix.

    One departure from sentence-transformers: a text longer than a window is read in windows of
    254 word pieces and the mean is taken over the tokens of all of them; nothing is cut off.
    Special tokens in a text are plain text. Other poolings than the mean: `with_pooling`.

    A model that was trained with prompts (`prompts` of `config_sentence_transformers.json`) reads
    them before each window: `question_states` that of the question, `document_states` that of a
    passage, `encode`, whose texts are of one kind, that of the question for all, as E5's authors
    advise.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        name: str = "encoder",
        owned: bool = False,
        prompts: Mapping[str, str] | None = None,
    ) -> None:
        """Wraps a copy of the tokenizer or, if `owned`, the tokenizer itself, which is modified.

        Args:
            prompts: what is read before a `query` and before a `passage`; None for nothing.

        Raises:
            BadModelFile: the tokenizer is not that of an encoder.
        """
        for marks in _MARKS:
            first, last = map(tokenizer.token_to_id, marks)
            if first is not None and last is not None:
                break
        else:
            raise BadModelFile(
                f"{name}'s tokenizer has none of {', '.join(map(' and '.join, _MARKS))}; give a "
                "sentence encoder"
            )
        self.model = model
        self.tokenizer = TextTokenizer(tokenizer, name, owned)
        self._prompts, self._joints = dict[str, list[int]](), dict[str, str]()
        for kind, text in (prompts or {}).items():
            self._prompts[kind], self._joints[kind] = self._split_prompt(text)
        self._first, self._last = first, last
        self._pooling_name = DEFAULT_POOLING
        self._pooling = POOLINGS.load(DEFAULT_POOLING)()
        self._folder: Path | None = None
        self._files: list[tuple[str, int, int]] = []
        self._revision: str | None = None

    def with_pooling(self, name: str) -> Encoder:
        """The same model with another pooling, a file of `probes/poolings/`.

        Raises:
            BadInput: there is no such pooling.
        """
        twin = copy(self)
        twin._pooling_name = name
        twin._pooling = POOLINGS.load(name)()
        return twin

    @classmethod
    def from_folder(
        cls, folder: str | Path, device: str = "auto", dtype: str | torch.dtype = "auto"
    ) -> Encoder:
        """Loads safetensors, `config.json` and `tokenizer.json`; nothing is fetched.

        Args:
            dtype: `auto` is bf16 where the processor multiplies it, else fp32. A cosine differs by
                less than .01.

        Raises:
            ProxyMissing: no such folder. BadModelFile: it holds no readable encoder.
        """
        folder = Path(folder)
        if not (folder / "config.json").is_file():
            raise ProxyMissing(
                f"{folder} holds no config.json; get one with `tamis models pull minilm-l6`"
            )
        where = choose_device(device)
        kind = choose_dtype(dtype, where)
        files = _weights_files(folder)
        try:
            config = json.loads((folder / "config.json").read_text("utf-8"))
            model_class = GemmaEncoder if config.get("model_type") == GEMMA else Bert
            model = model_class.from_folder(folder, kind, where)
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except BadModelFile:
            raise
        except Exception as error:  # tokenizers raises plain Exception
            raise BadModelFile(f"{folder} cannot be loaded as an encoder: {error}") from error
        encoder = cls(model, tokenizer, folder.name, owned=True, prompts=_read_prompts(folder))
        encoder._folder, encoder._files = folder, files
        return encoder

    @property
    def identity(self) -> str | None:
        """What its vectors depend on, weights and pooling.

        None where it was not loaded from files, or they are no longer those that it was loaded
        from.
        """
        if self._revision is None and self._folder is not None:
            with suppress(OSError, BadModelFile):
                if _weights_files(self._folder) == self._files:
                    self._revision = folder_revision(self._folder)
        return None if self._revision is None else f"{self._revision} {self._pooling_name}"

    @property
    def name(self) -> str:
        """Its name in the catalogue, or that of its folder."""
        return self.tokenizer.name

    @property
    def dimensions(self) -> int:
        """The number of components of a vector."""
        return int(self.model.shape.hidden)

    @property
    def window_tokens(self) -> int:
        """The longest input, [CLS] and [SEP] included."""
        return min(WINDOW_TOKENS, int(self.model.shape.positions))

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Vectors of unit length, fp32 on the CPU, `[N, D]`, in the order of the texts.

        An empty text also has a vector. How texts are batched changes only the last bits, because
        padding is masked everywhere.
        """
        sums = torch.zeros(len(texts), self.dimensions)
        counts = torch.zeros(len(texts), 1)
        windows = self._windows(texts, "query")
        for batch in _batches(windows):
            owners = torch.tensor([text for text, _ in batch])
            states, weights = self._sum_states([ids for _, ids in batch])
            sums.index_add_(0, owners, states)
            counts.index_add_(0, owners, weights)
        vectors: Tensor = self.model.project(sums / counts)
        return vectors

    def interact(self, question: str, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """As `CachedEncoder.interact`; nothing is kept."""
        return CachedEncoder(self, max_bytes=0).interact(question, texts)

    def question_states(self, question: str) -> WindowStates:
        """The vector of a question `[D]`, and its token states `[n, D]`, fp32, of unit length.

        The states are without those of [CLS] and [SEP], where there are others.
        """
        windows = [self._states([ids])[0][0] for _, ids in self._windows([question], "query")]
        tokens = torch.cat([states[1:-1] if len(states) > 2 else states for states in windows])
        vector = self.model.project(torch.cat(windows).mean(0).cpu())
        return vector, normalize(tokens, dim=-1).cpu()

    def document_states(self, texts: Sequence[str]) -> list[list[WindowStates]]:
        """Returns the vector and the token states of each window of each text, on the CPU."""
        found: list[list[WindowStates]] = [[] for _ in texts]
        for batch in _batches(self._windows(texts, "passage")):
            states, mask = self._states([ids for _, ids in batch])
            means = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            vectors = self.model.project(means.cpu())
            tokens = normalize(states, dim=-1).half().cpu()
            for (text, ids), vector, own in zip(batch, vectors, tokens, strict=True):
                found[text].append((vector, own[: len(ids)].clone()))
        return found

    def _split_prompt(self, prompt: str) -> tuple[list[int], str]:
        """The ids of a prompt, and what each text then begins with: nothing, or its last blank.

        Some tokenizers put a blank with the word after it.
        """

        def ids(text: str) -> list[int]:
            return self.tokenizer.encode(text).ids

        bare, whole = prompt.rstrip(" "), ids(f"{prompt}a")
        joint = prompt[len(bare) :]
        if whole != ids(prompt) + ids("a") and whole == ids(bare) + ids(f"{joint}a"):
            return ids(bare), joint
        return ids(prompt), ""

    def _states(self, rows: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
        """The last layer's states `[B, n, D]`, fp32, and which are of a token `[B, n]`."""
        ids, mask = pad_rows(rows, self.model.device)
        with torch.inference_mode():
            return self.model(ids, mask).float(), mask

    def _windows(self, texts: Sequence[str], kind: str) -> list[Window]:
        """The windows of all texts, the longest first; each begins with the prompt of the kind."""
        prompt, joint = self._prompts.get(kind, []), self._joints.get(kind, "")
        step = self.window_tokens - 2 - len(prompt)
        given = [joint + text for text in texts] if joint else texts
        windows = [
            (text, [self._first, *prompt, *encoded.ids[start : start + step], self._last])
            for text, encoded in enumerate(self.tokenizer.encode_many(given))
            for start in range(0, max(len(encoded), 1), step)
        ]
        return sorted(windows, key=lambda window: len(window[1]), reverse=True)

    def _sum_states(self, rows: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
        """The weighted sum of each row's token states `[B, D]`, and of the weights `[B, 1]`."""
        ids, mask = pad_rows(rows, self.model.device)
        with torch.inference_mode():
            states, diagonal = self._pooled_layers(ids, mask)
            weights = self._pooling.weights(mask, diagonal)[..., None]
            return (states * weights).sum(1).cpu(), weights.sum(1).cpu()

    def _pooled_layers(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
        """The mean of the pooling's layers, `[B, n, D]` fp32, and the diagonal of its head."""
        shape = self.model.shape
        chosen = self._pooling.layers(shape.layers)
        head = self._pooling.head(shape.layers, shape.heads)
        if chosen == (shape.layers,) and head is None:
            return self.model(ids, mask).float(), None
        total, diagonal = torch.zeros(()), None
        for number, states in enumerate(self.model.layer_states(ids, mask)):
            if number in chosen:
                total = total.to(states.device) + states.float()
            if head is not None and number == head[0]:
                diagonal = self.model.diagonal(states, mask, *head)
        return total / len(chosen), diagonal


def _read_prompts(folder: Path) -> dict[str, str]:
    """The prompts that a model was trained with; none where its folder names none.

    Raises:
        BadModelFile: the file of the prompts cannot be read, or has others than texts.
    """
    file = folder / "config_sentence_transformers.json"
    if not file.is_file():
        return {}
    try:
        prompts = json.loads(file.read_text("utf-8")).get("prompts", {})
    except (OSError, ValueError, AttributeError) as error:
        raise BadModelFile(f"{file} cannot be read ({error}); install the model anew") from error
    if not isinstance(prompts, dict) or not all(isinstance(p, str) for p in prompts.values()):
        raise BadModelFile(f"{file} has prompts that are not texts by name; install the model anew")
    return prompts


def _weights_files(folder: Path) -> list[tuple[str, int, int]]:
    """Name, bytes and time of change of each file of weights."""
    found = ((file.name, file.stat()) for file in sorted(folder.glob("*.safetensors")))
    return [(name, status.st_size, status.st_mtime_ns) for name, status in found]


class LazyEncoder:
    """An encoder in a folder that is loaded at its first use; threads load it once.

    Attributes:
        name: as of `Encoder`.
    """

    def __init__(self, folder: Path, device: str = "auto") -> None:
        self.name, self._folder, self._device = folder.name, folder, device
        self._encoder: Encoder | None = None
        self._loading = threading.Lock()

    def encode(self, texts: Sequence[str]) -> Tensor:
        """As `Encoder.encode`; raises as `Encoder.from_folder`."""
        return self._load().encode(texts)

    def question_states(self, question: str) -> WindowStates:
        """As `Encoder.question_states`; raises as `Encoder.from_folder`."""
        return self._load().question_states(question)

    def document_states(self, texts: Sequence[str]) -> list[list[WindowStates]]:
        """As `Encoder.document_states`; raises as `Encoder.from_folder`."""
        return self._load().document_states(texts)

    def _load(self) -> Encoder:
        with self._loading:
            if self._encoder is None:
                self._encoder = Encoder.from_folder(self._folder, self._device)
            return self._encoder


class VectorSource(Protocol):
    """Where vectors may be found that were kept, such as a cache of passages."""

    @property
    def may_have_vectors(self) -> bool:
        """Whether it is worth asking, which needs the hash of the encoder's weights."""

    def find_vectors(self, encoder: str, texts: Sequence[str]) -> Tensor | None:
        """The vectors of all units of a passage, `[U, D]`; None where they are not kept."""


class CachedEncoder:
    """An encoder that encodes a text once, because passages come again and again.

    Attributes:
        name: as of `Encoder`.
        repeats: how many texts did not have to be encoded.
    """

    def __init__(
        self, encoder: Any, max_bytes: int = VECTOR_BYTES, source: VectorSource | None = None
    ) -> None:
        """An encoder over another one.

        Args:
            max_bytes: of the texts and vectors that are kept, and once more of the token states of
                documents; the least recently used go.
            source: where `recall` looks.
        """
        self.encoder, self.source, self.repeats = encoder, source, 0
        self.name = str(getattr(encoder, "name", ""))
        self._vectors: LruCache[Tensor] = LruCache(max_bytes)
        self._states: LruCache[list[WindowStates]] = LruCache(max_bytes)

    def recall(self, texts: Sequence[str]) -> None:
        """Takes the vectors of all units of a passage from the source, if it keeps them."""
        if self.source is None or not self.source.may_have_vectors:
            return
        if all(self._vectors.peek(text) is not None for text in texts):
            return
        if (identity := getattr(self.encoder, "identity", None)) is None:
            return
        if (kept := self.source.find_vectors(identity, texts)) is not None:
            for text, vector in zip(texts, kept, strict=True):
                self._store_vector(text, vector)

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Vectors in the order of the texts, `[N, D]`."""
        found = {text: self._vectors.peek(text) for text in dict.fromkeys(texts)}
        new = [text for text, vector in found.items() if vector is None]
        self.repeats += len(texts) - len(new)
        if not texts:
            return torch.as_tensor(self.encoder.encode([]))
        for text, vector in zip(new, self.encoder.encode(new) if new else (), strict=True):
            found[text] = vector
            self._store_vector(text, vector)
        return torch.stack([vector for text in texts if (vector := found[text]) is not None])

    def interact(self, question: str, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """How like the question each text is, as a whole and token by token.

        Of a text of several windows the best one counts, since a vector of many pages is like no
        question. What was read of a text serves later questions.

        Returns:
            Cosines of the vectors, and late interactions (ColBERT, arXiv 2004.12832, §3.3, without
            its training): the mean over the question's tokens of their best cosine among the
            window's; `[N]` each, fp32 on the CPU. One pass gives both.
        """
        if not texts:
            return torch.zeros(0), torch.zeros(0)
        vector, asked = self.encoder.question_states(question)
        scores = dict[str, Tensor]()
        for portion in token_batches(sorted(dict.fromkeys(texts), key=len), _PORTION_CHARS):
            windows = self._document_states(portion)
            owners = [i for i, own in enumerate(windows) for _ in own]
            vectors, tokens = zip(*(window for own in windows for window in own), strict=True)
            alike = torch.cat(tokens).float() @ asked.T
            each = torch.split(alike, [len(own) for own in tokens])
            found = torch.stack(
                [torch.stack(vectors) @ vector, torch.stack([own.amax(0).mean() for own in each])],
                1,
            )
            best = torch.full((len(portion), 2), -1.0)
            place = torch.tensor(owners)[:, None].expand(-1, 2)
            best.scatter_reduce_(0, place, found, "amax")
            scores.update(zip(portion, best, strict=True))
        cosines, interactions = torch.stack([scores[text] for text in texts], 1)
        return cosines, interactions

    def _document_states(self, texts: Sequence[str]) -> list[list[WindowStates]]:
        found = {text: self._states.peek(text) for text in texts}
        new = [text for text, kept in found.items() if kept is None]
        self.repeats += len(texts) - len(new)
        for text, windows in zip(
            new, self.encoder.document_states(new) if new else (), strict=True
        ):
            found[text] = windows
            sizes = (vector.nbytes + tokens.nbytes for vector, tokens in windows)
            self._states.put(text, len(text) + sum(sizes), windows)
        return [windows for text in texts if (windows := found[text]) is not None]

    def _store_vector(self, text: str, vector: Tensor) -> None:
        self._vectors.put(text, len(text) + 4 * len(vector), vector.clone())


def _batches(windows: Sequence[Window]) -> Iterator[Sequence[Window]]:
    """Splits windows, sorted longest first: the first of a batch determines its padded length."""
    start = 0
    while start < len(windows):
        count = max(1, BATCH_TOKENS // len(windows[start][1]))
        yield windows[start : start + count]
        start += count
