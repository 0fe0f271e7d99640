"""InfiniRetri 0.0.3 over the proxy, the package unchanged, in float32 with eager attention.

Its public `generate` runs with the model's own `generate` stubbed, so that its chunk loop works
and no answer is generated; the text it would answer from is the text it keeps. Instead of a
constant number of tokens, each step takes tokens from the best down while their whole sentences fit
the budget: the package's default of 300 keeps most of a context of a thousand tokens.
"""

from __future__ import annotations

import torch
from infini_retri import InfiniRetri
from legacy_folder import write_legacy_folder
from protocol import serve
from transformers import AutoModelForCausalLM, AutoTokenizer


def load(settings):
    folder = write_legacy_folder(settings["proxy"], settings["scratch"])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(
        folder, torch_dtype=torch.float32, attn_implementation="eager"
    ).eval()
    model.generate = lambda input_ids, **_: input_ids
    return Keep(InfiniRetri(model=model, tokenizer=tokenizer))


class Keep:
    """One call of the package a case; two of its methods are wrapped to record what they do."""

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
        """Records the tokens of a step: those after the last chunk are the text that is kept."""
        found = self.step(*given, **named)
        self.kept = found[2]
        return found

    def _focus(self, *, topk, process_info, **named):
        """All tokens, from the worst to the best, cut to those whose sentences fit."""
        ranked, *rest = self.focus(topk=10**9, process_info=process_info, **named)
        sentences = process_info["sentence_index_split"]
        sentence_of = {token: s for s, tokens in enumerate(sentences) for token in tokens}
        chosen, remaining, picked = set(), self.budget, []
        for token in reversed(ranked):
            sentence = sentence_of[token]
            if sentence not in chosen:
                remaining -= len(sentences[sentence])
                if remaining < 0:
                    break
                chosen.add(sentence)
            picked.append(token)
        return picked, *rest


if __name__ == "__main__":
    serve(load, "infini-retri", "transformers", "torch")
