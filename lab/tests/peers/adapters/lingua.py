"""LLMLingua and LongLLMLingua 0.2.2 over the proxy, the package unchanged.

The package downloads a tiktoken encoding when it starts, for counts that are not used here: the
proxy's own tokenizer replaces it. The question is not part of the kept text
(`concate_question=False`); LongLLMLingua has the settings of its README.
"""

from __future__ import annotations

import tiktoken
from legacy_folder import write_legacy_folder
from protocol import serve
from transformers import AutoTokenizer

LONG = {
    "rank_method": "longllmlingua",
    "condition_in_question": "after_condition",
    "reorder_context": "sort",
    "dynamic_context_compression_ratio": 0.3,
    "condition_compare": True,
    "context_budget": "+100",
}


def load(settings):
    folder = write_legacy_folder(settings["proxy"], settings["scratch"])
    counter = AutoTokenizer.from_pretrained(folder)
    tiktoken.encoding_for_model = lambda name: counter
    from llmlingua import PromptCompressor

    compressor = PromptCompressor(folder, device_map="cpu")
    how = LONG if settings["long"] else {}

    def keep(case):
        docs = [f"{d['title']}\n{d['text']}" if d["title"] else d["text"] for d in case["docs"]]
        done = compressor.compress_prompt(
            docs,
            question=case["question"],
            target_token=case["budget_tokens"],
            concate_question=False,
            **how,
        )
        return done["compressed_prompt"]

    return keep


if __name__ == "__main__":
    serve(load, "llmlingua", "transformers", "torch")
