"""LLMLingua-2 from a folder of weights: a token classifier that does not read the question.

The package counts with a tiktoken encoding that it downloads; the classifier's own tokenizer
replaces it, so the budget is given as a rate, not as a number of tokens. The folder's name decides
how word starts are found: it must contain `xlm-roberta-large` or `bert-base-multilingual-cased`.
"""

from __future__ import annotations

import tiktoken
from protocol import serve
from transformers import AutoTokenizer


def load(settings):
    counter = AutoTokenizer.from_pretrained(settings["weights"])
    tiktoken.encoding_for_model = lambda name: counter
    from llmlingua import PromptCompressor

    compressor = PromptCompressor(settings["weights"], device_map="cpu", use_llmlingua2=True)

    def keep(case):
        rate = case["budget_tokens"] / case["context_tokens"]
        done = compressor.compress_prompt_llmlingua2([case["context"]], rate=rate)
        return done["compressed_prompt"]

    return keep


if __name__ == "__main__":
    serve(load, "llmlingua", "transformers", "torch")
