"""A local instruct model that generates answers by greedy decoding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from tamis.probes.attention.linear_kernels import Product, can_fuse, pack_weight
from tamis.probes.errors import BadInput, BadModelFile, ProxyMissing
from tamis.probes.model.convert import quiet_transformers
from tamis.probes.model.hf_backend import ATTENTION
from tamis.probes.model.loading import choose_device, choose_dtype

_END = "<|im_end|>"
_PADDED_TOKENS = 16_384
"""Tokens of prompts and answers, padded to the longest, that are generated together at most."""


class Generator:
    """A decoder with its language-model head, prompted in ChatML."""

    def __init__(self, model: Any, tokenizer: Tokenizer) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer
        self.context_tokens = int(getattr(model.config, "max_position_embeddings", 2048))
        self._end: Any = tokenizer.token_to_id(_END)
        _pack_layers(self.model)

    @classmethod
    def from_folder(cls, folder: str | Path, device: str = "auto") -> Generator:
        """Loads a folder of safetensors; nothing is fetched.

        Raises:
            ProxyMissing: no such folder. BadModelFile: it holds no readable model.
            BadInput: its tokenizer does not know ChatML.
        """
        folder = Path(folder)
        if not (folder / "config.json").is_file():
            raise ProxyMissing(f"{folder} holds no config.json; give a folder with a model")
        where = choose_device(device)
        try:
            with quiet_transformers():
                model: Any = AutoModelForCausalLM.from_pretrained(
                    folder,
                    dtype=choose_dtype("auto", where),
                    local_files_only=True,
                    use_safetensors=True,
                    trust_remote_code=False,
                )
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # a torn file makes the readers raise anything
            raise BadModelFile(f"{folder} cannot be loaded as a reader: {error}") from error
        if tokenizer.token_to_id(_END) is None:
            raise BadInput(
                f"{folder} does not know ChatML's {_END}; serve it behind an OpenAI-compatible "
                "server and give its URL instead"
            )
        return cls(model.to(where), tokenizer)

    def answer_all(
        self, prompts: Sequence[Sequence[Mapping[str, str]]], max_tokens: int = 32
    ) -> list[str]:
        """The text that the model generates next for each prompt, up to the end of its turn.

        Each prompt is read by itself, so that none is padded while it is read; then all answers
        grow together, a token a pass, since such a pass costs the reading of the weights, whoever
        shares it.

        Raises:
            BadInput: a prompt and its answer do not fit into the model's context.
        """
        ids = [self._encode(_chat_text(messages), max_tokens).ids for messages in prompts]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        found = [""] * len(ids)
        while order:
            longest = len(ids[order[-1]]) + max_tokens
            together = order[-max(1, _PADDED_TOKENS // longest) :]
            order = order[: -len(together)]
            with quiet_transformers():
                texts = self._generate([ids[i] for i in together], max_tokens)
            for i, text in zip(together, texts, strict=True):
                found[i] = text
        return found

    @torch.inference_mode()
    def _generate(self, ids: Sequence[Sequence[int]], max_tokens: int) -> list[str]:
        device, lengths = self.model.device, [len(row) for row in ids]
        caches, token = [], []
        for row in ids:
            read = self.model(torch.tensor([row], device=device), use_cache=True, logits_to_keep=1)
            caches.append(read.cache)
            token.append(read.logits[:, -1].argmax(-1))
        cache, tokens, longest = _join_caches(caches, lengths), torch.stack(token), max(lengths)
        attended = torch.tensor([[i >= longest - n for i in range(longest)] for n in lengths])
        attended = attended.long().to(device)
        positions = torch.tensor(lengths, device=device)[:, None]
        said, ended = [tokens], tokens.eq(self._end)
        while len(said) < max_tokens and not bool(ended.all()):
            attended = torch.cat((attended, torch.ones_like(tokens)), 1)
            out = self.model(
                tokens,
                attention_mask=attended,
                position_ids=positions,
                cache=cache,
                use_cache=True,
            )
            tokens, positions = out.logits[:, -1:].argmax(-1), positions + 1
            ended |= tokens.eq(self._end)
            said.append(tokens)
        rows = torch.cat(said, 1).tolist()
        return [self._decode(row) for row in rows]

    def _decode(self, row: list[int]) -> str:
        """The text of an answer up to the end of its turn."""
        stop = row.index(self._end) if self._end in row else len(row)
        return str(self.tokenizer.decode(row[:stop])).strip()

    def answer_from_kept(
        self,
        messages: Sequence[Mapping[str, str]],
        context: str,
        spans: Sequence[tuple[int, int]],
        max_tokens: int = 32,
    ) -> tuple[str, float]:
        """What the model generates from the keys and values of a part of the context.

        The prompt is read once, whole. Of the context's tokens those in the spans stay, at the
        positions that they had, and generation goes on from them and from the rest of the prompt.

        Args:
            context: as it stands in the messages. spans: half-open code points of it.

        Returns:
            The text, and the share of the context's tokens that stayed.

        Raises:
            BadInput: prompt and answer do not fit into the model's context.
        """
        text = _chat_text(messages)
        encoded, start = self._encode(text, max_tokens), text.index(context)
        stop = start + len(context)
        kept, stayed, tokens = [], 0, 0
        for place, (a, b) in enumerate(encoded.offsets[:-1]):
            inside = start <= a and b <= stop
            wanted = inside and any(a < start + y and start + x < b for x, y in spans)
            stayed, tokens = stayed + wanted, tokens + inside
            if wanted or not inside:
                kept.append(place)
        ids, device = torch.tensor([encoded.ids]), self.model.device
        found: list[int] = []
        with torch.inference_mode():
            cache = self.model(ids[:, :-1].to(device), use_cache=True).cache
            for layer in cache.layers:
                layer.keys, layer.values = layer.keys[:, :, kept], layer.values[:, :, kept]
            token = encoded.ids[-1]
            for position in range(ids.shape[1] - 1, ids.shape[1] - 1 + max_tokens):
                out = self.model(
                    torch.tensor([[token]], device=device),
                    position_ids=torch.tensor([[position]], device=device),
                    cache=cache,
                    use_cache=True,
                )
                token = int(out.logits[0, -1].argmax())
                if token == self._end:
                    break
                found.append(token)
        return str(self.tokenizer.decode(found)).strip(), stayed / max(1, tokens)

    def _encode(self, text: str, max_tokens: int) -> Any:
        """The prompt's tokens.

        Raises:
            BadInput: they and the answer do not fit into the model's context.
        """
        encoded = self.tokenizer.encode(text, add_special_tokens=False)
        if len(encoded.ids) + max_tokens > self.context_tokens:
            raise BadInput(
                f"the prompt has {len(encoded.ids)} tokens and the reader takes "
                f"{self.context_tokens - max_tokens}; give a reader with a longer context"
            )
        return encoded


class _PackedProduct(nn.Module):
    """A linear layer of a model that only generates, with weights as the processor multiplies them.

    A step of generation has few tokens: reordering row-major weights for it takes longer than the
    product.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self._product = Product(pack_weight(layer.weight.detach()), layer.bias)

    def forward(self, states: Tensor) -> Tensor:
        """`[..., in]` to `[..., out]`."""
        return self._product(states)


def _pack_layers(model: nn.Module) -> None:
    """Replaces linear layers by packed ones, where the processor gains by it."""
    layers = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Linear)]
    for name, layer in layers:
        if can_fuse(layer.weight):
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, _PackedProduct(layer))


def _join_caches(caches: Sequence[Any], lengths: Sequence[int]) -> Any:
    """The keys and values of several prompts as those of one batch, padded on the left."""
    joined, longest = caches[0], max(lengths)
    for i, layer in enumerate(joined.layers):
        for name in ("keys", "values"):
            parts = [getattr(cache.layers[i], name) for cache in caches]
            padded = [
                functional.pad(part, (0, 0, longest - n, 0))
                for part, n in zip(parts, lengths, strict=True)
            ]
            setattr(layer, name, torch.cat(padded))
    return joined


def _chat_text(messages: Sequence[Mapping[str, str]]) -> str:
    turns = [f"<|im_start|>{m['role']}\n{m['content']}{_END}\n" for m in messages]
    return "".join(turns) + "<|im_start|>assistant\n"


def random_model(kind: str, seed: int = 0, **sizes: Any) -> Any:
    """A decoder of a model type known to transformers, with random weights; fetches nothing."""
    config = AutoConfig.for_model(kind, attn_implementation=ATTENTION, **sizes)
    with torch.random.fork_rng(devices=[]):  # it draws on the CPU alone
        torch.manual_seed(seed)
        return AutoModel.from_config(config)
