"""The gate that ships: what goes on has the attention it would have had, and the answer stays."""

from __future__ import annotations

import pytest
import torch

import tamis
from tamis.compressors.features.gate import PURPOSES, Gate
from tamis.compressors.features.shipped_probes import shipped_probe
from tamis.compressors.methods.question_rows import QuestionRows
from tamis.compressors.registry import load_proxy
from tamis.probes.probing.linear import LinearProbe
from tamis.text.types import Passage
from tamis.text.units.segment import units_of

SHARP = "smollm2-135m-sharp"
QUESTION = "When was the bridge opened?"
ANSWER = "The bridge is old. It was opened in 1792 by the duke. Boats pass below. It is tall."
OTHERS = [
    "Cheese ripens for a year. Caves are cool. Milk is brought at dawn. Nobody counts the wheels.",
    "Keys are rotated every 90 days. The old one is kept for a week. Rooms are painted in spring.",
    "Trams run until midnight. On Sundays there are fewer. A ticket is valid for two hours.",
    "The library lends maps, too. They are kept flat. Borrowers sign a book by the door.",
    "Whales sleep upright. They drift with the current. A calf stays close to its mother.",
    "The engine is cooled by water. A pump moves it. The pump is driven by a belt.",
    "Salt keeps meat for months. It draws the water out. Smoke adds a bitter taste.",
    "Bees dance in the hive. The dance says how far the meadow is. A good one lasts a minute.",
    "Glass is blown by hand. The pipe is hollow. It cools in an oven for a night.",
    "Rice grows in flooded fields. Ducks eat the snails. The water is drained before harvest.",
    "Owls turn their heads a long way. Their eyes cannot move. They hunt by ear.",
    "The mill grinds oats. A belt lifts the sacks. Mice are kept out by two cats.",
    "Ink is made of soot and gum. It is ground on a stone. Brushes are of goat hair.",
]
PASSAGES = [Passage(text) for text in (*OTHERS[:4], ANSWER, *OTHERS[4:])]


def test_a_gate_ships_for_the_default_proxy_alone():
    gate = Gate(shipped_probe("gate", SHARP))
    for purpose in PURPOSES:
        stages = gate.stages(purpose)
        assert [stage.depth for stage in stages] == sorted({stage.depth for stage in stages})
        assert all(stage.margin > 0 for stage in stages)
    assert gate.stages("units")
    assert gate.probe.card.layers == shipped_probe("question_rows", SHARP).card.layers
    assert shipped_probe("gate", "smollm2-135m") is None


@pytest.mark.model
def test_what_goes_on_has_the_attention_that_it_has_without_a_gate(proxy_folder):
    units = units_of(PASSAGES, "en")
    proxy = load_proxy(SHARP, 20)
    ships = shipped_probe("gate", SHARP)
    narrow = {"stages_units": torch.tensor([[4.0, 0.0, 1.0, 0.0]])}
    gate = LinearProbe({**ships.weights, **narrow}, ships.card)
    plain, staged = (
        QuestionRows(proxy, gate=one).read(QUESTION, PASSAGES, units) for one in (False, gate)
    )
    whole = staged.is_whole
    assert 0 < int(whole.sum()) < len(units)
    # of bf16 products the last bits depend on how many rows there are
    difference = (staged.features - plain.features)[whole].abs()
    assert float(difference.mean()) < 0.02


@pytest.mark.model
def test_with_the_gate_the_answer_is_kept_and_its_document_is_first(proxy_folder):
    texts = [passage.text for passage in PASSAGES]
    short = tamis.compress(QUESTION, texts, max_tokens=16, proxy=SHARP, gate=True)
    assert "1792" in short.text
    assert 0 < short.units_read < len(short.units)
    assert (
        short.units_read == tamis.compress(QUESTION, texts, max_tokens=16, proxy=SHARP).units_read
    )
    whole = tamis.compress(QUESTION, texts, max_tokens=16, proxy=SHARP, gate=False)
    assert (whole.units_read, whole.text) == (None, short.text)
    ranked = tamis.rerank(QUESTION, texts, proxy=SHARP, gate=True)
    assert ranked.results[0].index == 4
    assert tamis.compress(QUESTION, texts, coverage=0.9, proxy=SHARP, gate=True).units_read is None


HOPS = {
    "Halden Bridge": "The Halden Bridge is a road bridge across the Tista. "
    "It was designed by Erik Moe and opened to traffic in 1909.",
    "Bridge of Sorrow": "The Bridge of Sorrow is a stone bridge of 1790. "
    "Its architect was born in the town and died in the year of its opening.",
    "Halden": "Halden is a town near the border. "
    "In which year it was founded is disputed; its fortress was built by a military architect.",
    "Halden Fortress": "The fortress above Halden was begun in 1661. "
    "Its architect, Willem Coucheron, was born abroad.",
    "Architect": "An architect is a person who plans buildings. "
    "The architect of a bridge is mostly an engineer.",
    "Long Bridge": "The Long Bridge was rebuilt in the year 1950. "
    "The architect of the new bridge was born in 1912.",
    "Cheese": "Cheese ripens for a year. Caves are cool. Milk is brought at dawn.",
    "Erik Moe": "Erik Moe (1861 to 1932) was a Norwegian engineer who came from Bergen. "
    "He worked for the railways.",
    "Trams": "Trams run until midnight. On Sundays there are fewer.",
    "Tista": "The Tista is a river in the south. Timber was floated on it for centuries.",
    "Town Hall": "The town hall of Halden is by an architect who was born there in the year 1850.",
    "Old Bridge": "The Old Bridge was the first in the county. In which year it fell is not known.",
    "Whales": "Whales sleep upright. They drift with the current.",
    "Bjorn Halden": "Bjorn Halden, born in 1950, is an architect. He plans a bridge every year.",
}


@pytest.mark.model
def test_a_ranking_reads_whole_what_another_document_names(proxy_folder, monkeypatch):
    """The second hop shares no word with the question; what names it was read before."""
    question = "In which year was the architect of the Halden Bridge born?"
    passages = [Passage(text, title=title) for title, text in HOPS.items()]
    method, units = QuestionRows(load_proxy(SHARP, 20)), units_of(passages, "en")
    readings, read = [], QuestionRows.read
    monkeypatch.setattr(
        QuestionRows, "read", lambda *given: readings.append(read(*given)) or readings[-1]
    )
    method.rank(question, passages, units)
    (reading,) = readings
    depths = {unit.passage: depth for unit, depth in zip(units, reading.depths, strict=True)}
    assert depths[list(HOPS).index("Erik Moe")] == 20
    assert min(depths.values()) < 20, "otherwise nothing was judged"


def test_estimates_of_features_are_finite_and_no_further_than_those_of_the_fit():
    gate = Gate(shipped_probe("gate", SHARP))
    card = gate.probe.card
    for stage in gate.stages("units"):
        known = torch.full((2, 2, stage.depth, card.heads), -6.0)
        found = gate.complete(known, torch.zeros(2, 9))
        assert found.shape == (2, 2 * card.layers * card.heads)
        assert -25 < float(found.min()) <= float(found.max()) < 3
