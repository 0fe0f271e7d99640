"""What is taken up to the first misfit is kept under every larger budget: units have one order."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.compressors.methods.lexical import Lexical
from tamis.compressors.rules import Budget, Rules
from tamis.compressors.selection.select import Selector
from tamis.probes.tokens import TextTokenizer
from tamis.text.types import Passage
from tamis.text.units.segment import units_of
from tests.compressors.selection.select_kit import pairs, words

BLOCKS = (
    "# Cats",
    "## Small ones",
    "### Removed in May",
    "The cat sat here. Dogs bark at any moon. Why?",
    "The cat sat there. Nobody else did.",
    "A permit costs 40 euros.",
    "Bring these:\n\n- a lamp\n- a key for the door:\n  - of brass\n- bread",
    "It is started so:\n\n```sh\nrun --all\n```",
    "The cat sat here, too:",
    "| Name | Age |\n|---|---|\n| Rex | nine |\n| Tom | one of six |\n|  |  |",
    "name;price\nred;1\nblue;2",
    "2026-10-21 02:04:08 INFO unpack: begins\n2026-10-21 02:04:10 ERROR unpack: it fails\n"
    "java.io.IOException: no space\n    at importer.write",
    "<h2>Plans</h2>\n<ul>\n<li>One is free.</li>\n<li>Two</li>\n</ul>\n<div>\n</div>",
    "1. Open it.\n2. Close it.",
)
SPLITTERS_OVERLAP = "Ruben cuts the branch on January 20th, so there is time."
COUNTERS = {"words": words, "pairs": pairs, "pairs across words": lambda: pairs(regex=False)}
TENTHS = st.integers(0, 10).map(lambda tenth: tenth / 10)


@st.composite
def passages(draw: st.DrawFn) -> list[Passage]:
    """One to three, of texts of several kinds, of which some go on in the next."""
    texts = st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=4).map("\n\n".join)
    drawn = draw(st.lists(texts, min_size=1, max_size=3))
    if len(drawn) > 1 and draw(st.booleans()):
        drawn[0], drawn[1] = f"{drawn[0]}\n\n{SPLITTERS_OVERLAP}", f"{SPLITTERS_OVERLAP} {drawn[1]}"
    least = draw(st.sampled_from([0, 0, 5, 20]))
    return [Passage(text, f"d{i}", "Of cats", min_tokens=i * least) for i, text in enumerate(drawn)]


ALL_RULES = st.builds(
    Rules,
    separator=st.sampled_from(["\n\n", "", " | "]),
    elision=st.sampled_from([None, "…", "[left out: a lot]"]),
    citations=st.sampled_from([None, "[{doc}]", "({id}, {unit})"]),
    titles=st.booleans(),
    order=st.sampled_from(["original", "score", "edges"]),
    context_window=st.integers(0, 2),
    dedup=st.sampled_from([None, 0.5, 1.0]),
    top_n=st.sampled_from([None, 1, 2]),
    granularity=st.sampled_from(["sentence", "sentence", "sentence", "token"]),
    protect=st.sampled_from([(), (), (r"\d+",), ("tiger|Dogs",)]),
)


@st.composite
def selectors(draw: st.DrawFn) -> Selector:
    """Texts with values, rules, and a tokenizer."""
    given, rules = draw(passages()), draw(ALL_RULES)
    units = units_of(given, "en")
    values = draw(st.lists(TENTHS | st.just(0.004), min_size=len(units), max_size=len(units)))
    scores = draw(st.lists(TENTHS, min_size=len(given), max_size=len(given)))
    counter: TextTokenizer = COUNTERS[draw(st.sampled_from(sorted(COUNTERS)))]()
    return Selector(given, units, values, scores, rules, counter, calibrated=draw(st.booleans()))


def first_budget(of: Selector, threshold: float | None = None) -> int:
    """The least that holds what is taken first, with the leads that it is never shown without."""
    packer, renderer, order = of._packer, of._packer.renderer, of.candidates
    passages, units, groups = renderer.passages, renderer.units, packer.groups
    if first := [u for u in order if u in packer.mandatory]:
        return packer.count_tokens(packer.unit_with_leads(first[0]))
    for p in of.ranking:
        asked = [u for u in order if units[u].passage == p and passages[p].min_tokens]
        if first := [u for u in asked if u not in groups]:
            return packer.count_tokens(packer.unit_with_leads(first[0]))
    if threshold is not None:
        order = [u for u in order if of.values[u] >= threshold]
    content = [u for u in order if u not in groups]
    useful = [u for u in content if u not in groups.vain] if threshold is None else content
    return packer.count_tokens(packer.unit_with_leads((useful or content or order)[0]))


def taken_in_order(of: Selector, budget: Budget) -> set[int]:
    """What is kept under a budget before the room behind the first misfit is given away."""
    with patch.object(Selector, "_use_room"):
        return set(of.select(budget).units)


def check_nested(of: Selector, threshold: float | None = None, every: int = 1) -> None:
    """The law, at every budget up to one that holds everything; and of each, what is shown."""
    packer, values = of._packer, of.values
    renderer, groups = packer.renderer, packer.groups
    least = -1.0 if threshold is None else threshold
    if not any(values[u] >= least or u in packer.mandatory for u in of.candidates):
        return
    most = packer.counter.count(renderer.text(range(len(renderer.units)))) + 40
    before: set[int] = set()
    for limit in range(max(1, first_budget(of, threshold)), most, every):
        now = set(of.select(budget := Budget(limit, threshold=threshold)).units)
        assert now, limit
        assert before <= now, (limit, before - now)
        before = taken_in_order(of, budget)
        assert before <= now, (limit, before - now)
        short = {lead for u in now for lead, bond in groups.shown_with(u) if bond == 1}
        for u in now - short:
            assert now.issuperset(packer.unit_with_leads(u)), (limit, u, "without its lead")
    can_be_empty = packer.mandatory | {u for u in before if renderer.rules.dedup is None}
    reached = [u for u in of.candidates if values[u] >= least]
    if any(u not in groups for u in before) and any(u not in groups for u in reached):
        below = {lead for u in before if u not in groups for lead in groups.ancestors(u)}
        assert before & set(groups.stops) <= below | can_be_empty, "leads to nothing"


@settings(deadline=None, max_examples=300)
@given(selectors(), st.sampled_from([None, None, 0.0, 0.5]))
def test_what_is_taken_in_order_is_kept_under_every_larger_budget(
    of: Selector, threshold: float | None
) -> None:
    check_nested(of, threshold)


EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*/*"))
READ = [
    path for path in EXAMPLES if path.suffix in (".md", ".txt", ".yaml", ".py", ".log", ".html")
]


@pytest.mark.parametrize("path", READ, ids=lambda path: path.name)
def test_of_a_document_what_is_taken_in_order_is_kept_under_every_larger_budget(path: Path) -> None:
    text = path.read_text("utf-8")[:6000]
    given, question = [Passage(text)], f"What about {' '.join(text.split()[40:46])}?"
    units = units_of(given)
    values = Lexical().scores(question, given, units).values
    shares = [value / (max(values) or 1.0) for value in values]
    check_nested(Selector(given, units, shares, [0.0], Rules(), words(), calibrated=True), every=9)
