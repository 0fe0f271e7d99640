"""A tokenizer that needs no file: token counts by rules, where reading a vocabulary costs too much.

Reading the 3.5 MB of `tokenizer.json` takes longer than everything else that a short run without a
model does, and a budget in round numbers does not need it. Counts are within a tenth of those of
`smollm2-135m` for English text, code, logs, JSON and listings:
lab/log/agents.md#2026-11-26-tokens-by-rules
"""

from __future__ import annotations

from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from tamis.probes.tokens import TextTokenizer

ESTIMATE = "estimate"
_PIECES = "|".join(
    [
        # a character each, in scripts without spaces between words
        r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}]",
        # words with the space before them, in parts of up to eight letters; capitals in threes
        r" ?\p{Lu}?\p{Ll}{1,7}| ?\p{L}{1,3}",
        # digits one by one, punctuation in pairs, and what white space no word takes
        r"\p{N}| ?[^\s\p{L}\p{N}]{1,2}|\s+(?!\S)|\s+",
    ]
)


def estimating_tokenizer() -> TextTokenizer:
    """A tokenizer named `estimate`, whose pieces are of the usual lengths of tokens."""
    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_PIECES), "isolated")
    return TextTokenizer(tokenizer, ESTIMATE, owned=True)
