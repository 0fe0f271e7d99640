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
        turns = [f"<|im_start|>{m['role']}\n{m['content']}{_END}\n" for m in messages]
        text = "".join(turns) + "<|im_start|>assistant\n"
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids
        if len(ids) + max_tokens > self.context_tokens:
            raise BadInput(
                f"the prompt has {len(ids)} tokens and the reader takes "
                f"{self.context_tokens - max_tokens}; give a reader with a longer context"
            )
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
