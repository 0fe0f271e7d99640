"""A local instruct model that generates answers by greedy decoding, one prompt at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from tamis.probes.errors import BadInput, BadModelFile, ProxyMissing
from tamis.probes.model.convert import quiet_transformers
from tamis.probes.model.loading import choose_device, choose_dtype

_END = "<|im_end|>"


class Generator:
    """A decoder with its language-model head, prompted in ChatML."""

    def __init__(self, model: Any, tokenizer: Tokenizer) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer
        self.context_tokens = int(getattr(model.config, "max_position_embeddings", 2048))
        self._end = tokenizer.token_to_id(_END)

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

    def answer(self, messages: Sequence[Mapping[str, str]], max_tokens: int = 32) -> str:
        """The text that the model generates next, up to the end of its turn.

        Raises:
            BadInput: prompt and answer do not fit into the model's context.
        """
        ids = self._encode(_chat_text(messages), max_tokens).ids
        with torch.inference_mode():
            out = self.model.generate(
                torch.tensor([ids], device=self.model.device),
                attention_mask=torch.ones(1, len(ids), dtype=torch.long, device=self.model.device),
                max_new_tokens=max_tokens,
                do_sample=False,
                eos_token_id=self._end,
                pad_token_id=self._end,
            )
        return str(self.tokenizer.decode(out[0, len(ids) :].tolist())).strip()

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
            cache = self.model(ids[:, :-1].to(device), use_cache=True).past_key_values
            for layer in cache.layers:
                layer.keys, layer.values = layer.keys[:, :, kept], layer.values[:, :, kept]
            token = encoded.ids[-1]
            for position in range(ids.shape[1] - 1, ids.shape[1] - 1 + max_tokens):
                out = self.model(
                    torch.tensor([[token]], device=device),
                    position_ids=torch.tensor([[position]], device=device),
                    past_key_values=cache,
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


def _chat_text(messages: Sequence[Mapping[str, str]]) -> str:
    turns = [f"<|im_start|>{m['role']}\n{m['content']}{_END}\n" for m in messages]
    return "".join(turns) + "<|im_start|>assistant\n"
