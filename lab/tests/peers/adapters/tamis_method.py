"""A method of tamis as its users run it: `Compressor.compress` under a budget in tokens.

With `warm`, another question on the same passages comes first, untimed: the passage cache then has
them, as in a service with recurring passages.
"""

from __future__ import annotations

from protocol import serve

from tamis.compressors import registry
from tamis.compressors.pipeline.compression import Compressor
from tamis.compressors.rules import Budget
from tamis.probes.kv_cache.cache import CachedReader, PassageCache
from tamis.service.api.compress import counter_of
from tamis.text.types import Passage


def load(settings):
    return Keep(settings["method"], settings["model"], settings.get("warm", False))


class Keep:
    """One method over one proxy."""

    def __init__(self, method, proxy, warm):
        reader = proxy
        if registry.method_info(method).needs_proxy:
            reader = registry.load_proxy(proxy, registry.layers_needed(method, proxy))
            reader = CachedReader(reader, PassageCache()) if warm else reader
        self.warm = warm
        scorer = registry.build_method(method, proxy=reader)
        self.compressor = Compressor(scorer, method, counter_of("proxy", proxy))

    def __call__(self, case):
        return self._keep(case["question"], case)

    def before(self, case):
        if self.warm:
            self._keep(case["other_question"], case)

    def _keep(self, question, case):
        passages = [
            Passage(doc["text"], str(i), doc["title"] or None) for i, doc in enumerate(case["docs"])
        ]
        return self.compressor.compress(question, passages, Budget(case["budget_tokens"])).text


if __name__ == "__main__":
    serve(load, "tamis", "transformers", "torch")
