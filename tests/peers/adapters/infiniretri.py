"""InfiniRetri 0.0.3 over the proxy, the package unchanged, in float32 with eager attention.

Its public `generate` runs with the model's own `generate` stubbed, so its chunk loop works and no
answer is made; what it would have answered from is what it keeps. Instead of a constant number of
tokens, each step takes tokens from the best down while the whole sentences that they pull in fit
the budget: its default of 300 keeps most of a context of a thousand tokens.
"""

from __future__ import annotations

import torch
from infini_retri import InfiniRetri
from older import older
from protocol import serve
from transformers import AutoModelForCausalLM, AutoTokenizer


def load(settings):
    folder = older(settings["proxy"], settings["scratch"])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(
        folder, torch_dtype=torch.float32, attn_implementation="eager"
    ).eval()
    model.generate = lambda input_ids, **_: input_ids
    return Keep(InfiniRetri(model=model, tokenizer=tokenizer))


class Keep:
    """One call of the package a case; two of its methods are wrapped to be heard."""

    def __init__(self, peer):
        self.peer, self.retri = peer, peer.ir.retri
        self.budget, self.kept = 0, []
        self.focus, self.step = self.retri.thoughts.get_focus_index, self.retri.focus_key_sentence
        self.retri.thoughts.get_focus_index = self._focus
        self.retri.focus_key_sentence = self._step

    def __call__(self, case):
        self.budget, self.kept = case["budget_tokens"], []
        self.peer.generate(context=case["context"], question=case["question"])
        return "".join(self.retri.tokenizer.decode(tokens) for tokens in self.kept)

    def _step(self, *given, **named):
        """What the last chunk leaves is what is kept of all."""
        found = self.step(*given, **named)
        self.kept = found[2]
        return found

    def _focus(self, *, topk, process_info, **named):
        """All tokens, from the worst to the best, cut to those whose sentences fit."""
        ranked, *rest = self.focus(topk=10**9, process_info=process_info, **named)
        sentences = process_info["sentence_index_split"]
        home = {token: s for s, tokens in enumerate(sentences) for token in tokens}
        taken, left, picked = set(), self.budget, []
        for token in reversed(ranked):
            if home[token] not in taken:
                left -= len(sentences[home[token]])
                if left < 0:
                    break
                taken.add(home[token])
            picked.append(token)
        return picked, *rest


if __name__ == "__main__":
    serve(load, "infini-retri", "transformers", "torch")
