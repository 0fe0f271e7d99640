"""Sentinel over plain transformers, reading whole attention maps as its released code does.

Features, regression and selection are those of `sentinel.py`; only the reading differs, one prompt
after the other with eager attention in the proxy's own bfloat16. The language head, which the
released code runs, is left out: it would add cost and change nothing.
"""

from __future__ import annotations

import torch
from protocol import serve
from sentinel import make_keeper
from transformers import AutoModelForCausalLM

from tamis.compressors import registry
from tamis.probes.signal import Signal


class Eager:
    """A reader with the signals of `Proxy.read`, computed by eager attention."""

    def __init__(self, model, card, layout):
        self.model, self.card, self.layout = model, card, layout

    def with_template(self, template):
        return Eager(self.model, self.card, self.layout.with_template(template))

    def read(self, prompts, want):
        head = self.layout.opening
        for prompt in prompts:
            ids = torch.tensor([[*head, *prompt.passage.ids, *prompt.question.ids]])
            with torch.inference_mode():
                maps = self.model(input_ids=ids, output_attentions=True, use_cache=False).attentions
            start, stop = len(head), len(head) + len(prompt.passage.ids)
            rows = torch.stack([maps[layer][0, :, -1:, start:stop] for layer in want.layers])
            yield Signal(rows.float(), want.layers, want.rows)


def load(settings):
    model = AutoModelForCausalLM.from_pretrained(
        settings["proxy"], dtype=torch.bfloat16, attn_implementation="eager"
    )
    known = registry.load_proxy(settings["model"], 1)  # its name and its layout, one layer deep
    return make_keeper(Eager(model.model.eval(), known.card, known.layout), settings["model"])


if __name__ == "__main__":
    serve(load, "tamis", "transformers", "torch")
