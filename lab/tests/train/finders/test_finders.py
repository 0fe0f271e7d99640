"""Head finders: by hand, by their laws, and a head wired to do the thing has the top score."""

from __future__ import annotations

import pytest
import torch

from lab.tests.bench.records import doc, record
from lab.tests.methods.window_attention import kit
from tamis.probes.errors import BadInput, UnknownMethod
from tamis_lab.methods.window_attention.edited_pass import final_states, unembedding
from tamis_lab.methods.window_attention.visitor import RowBlock
from tamis_lab.train.finders import at2, duo, locos, maps, michel, pursuit
from tamis_lab.train.fit import LabelledFeatures
from tamis_lab.train.heads.cases import build_head_case
from tamis_lab.train.heads.finder import FINDERS
from tamis_lab.train.heads.masked_answers import answer_logit
from tamis_lab.train.heads.repeats import RepeatSum, random_words, repeat_scores

every_seed = pytest.mark.parametrize("seed", kit.SEEDS)
NOTHING = torch.zeros(0)


def repeats(weights, tokens, start=0):
    sums = RepeatSum(tokens, start)
    for layer, a in enumerate(weights):
        sums.visit(RowBlock(layer, None, 0, a, NOTHING, NOTHING, NOTHING))
    return sums.result()


def test_echo_and_induction_by_hand():
    a = torch.zeros(1, 1, 4, 4)
    a[0, 0, 2, :3] = torch.tensor([0.1, 0.6, 0.3])
    a[0, 0, 3] = torch.tensor([0.1, 0.2, 0.5, 0.2])
    echo, induction = repeats(a, 2)
    assert float(echo) == pytest.approx(0.15)
    assert float(induction) == pytest.approx(0.55)


@pytest.mark.parametrize(("back", "due"), [(5, (1, 0)), (4, (0, 1)), (3, (0, 0))])
def test_a_head_wired_to_one_place_has_that_score_alone(back, due):
    """Rows look `back` places back, among four repeats of five tokens behind one other."""
    a = torch.zeros(1, 1, 21, 21)
    for i in range(21):
        a[0, 0, i, max(0, i - back)] = 1
    echo, induction = repeats(a, 5, start=1)
    assert (float(echo), float(induction)) == due


@every_seed
def test_echo_and_induction_are_shares_of_the_same_rows(seed):
    echo, induction = repeats(kit.causal(2, 3, 17, seed), 4, start=1)
    assert (echo + induction <= 1 + 1e-6).all()
    assert (echo > 0).all()
    assert (induction > 0).all()


def test_blocks_of_rows_add_up_to_the_whole():
    a = kit.causal(1, 2, 17)
    parts = RepeatSum(4, 1)
    for start in range(0, 17, 5):
        block = a[0, :, start : start + 5, : start + 5]
        parts.visit(RowBlock(0, None, start, block, NOTHING, NOTHING, NOTHING))
    torch.testing.assert_close(torch.stack(parts.result()), torch.stack(repeats(a, 4, 1)))


def test_random_words_are_words_and_each_draw_is_another():
    made, chance = kit.proxy(), torch.Generator().manual_seed(0)
    words = random_words(made, 20, chance)
    assert len(set(words)) == 20
    assert all(made.layout.tokenizer.token_text(word).isalnum() for word in words)
    assert words != random_words(made, 20, chance)
    first, second = repeat_scores(made, 6, 2, 0)
    assert first[0].shape == (kit.LAYERS, kit.HEADS)
    assert not torch.equal(first[0], second[0])
    with pytest.raises(BadInput, match="ask for fewer"):
        random_words(made, 1000, chance)


def test_what_a_head_writes_by_hand():
    a, v, u = torch.tensor([[[0.6, 0.4]]]), torch.tensor([[[2.0], [0.5]]]), torch.ones(1, 1, 1)
    assert float(locos.write_scores(a, v, u, (0, 1))) == pytest.approx(1.0)
    assert float(locos.write_scores(a, v, u, (1, 2))) == pytest.approx(-1.0)
    assert float(locos.write_scores(a, v, 3 * u, (0, 1))) == pytest.approx(3.0)
    assert float(locos.write_scores(a, v, 0 * u, (0, 1))) == 0


def answered(i=0):
    """A short record whose answer is in its gold sentence."""
    told = doc(f"Al{i} ran.", f"He is in Rome{i}.", gold=[1])
    start = told["text"].index("Rome")
    return record(f"r{i}", "Where?", told, answer_spans=[[0, start, start + 5]])


@every_seed
def test_locos_is_what_full_attention_says_of_every_token(seed):
    made = kit.proxy(seed)
    (ours,) = locos.Finder(made).find([answered()], lambda *_: None)
    case = build_head_case(answered(), made, 1000)
    opening, ask = made.layout.opening, made.layout.question_tokens("Where?")
    answer = case.ids[slice(*case.answer)]
    ids = [*opening, *case.ids, *ask.ids, *answer[:-1]]
    full = kit.full_attention(made, ids)
    rows = made.body.embed_tokens.weight[list(answer)] * made.body.norm.weight
    needle = torch.zeros(len(ids), dtype=torch.bool)
    a, b = case.needles[0]
    needle[len(opening) + a : len(opening) + b] = True
    for layer in range(kit.LAYERS):
        v = kit.spread(full.values[layer])
        written = v @ full.grams[layer].transpose(1, 2)  # [H, T, D]
        c = full.weights[layer][:, -len(answer) :] * torch.einsum("nd,htd->hnt", rows, written)
        due = (c[..., needle].sum(-1) - c[..., ~needle].sum(-1)).mean(1)
        torch.testing.assert_close(ours[layer], due.detach(), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("kind", [locos, pursuit])
def test_records_without_an_answer_are_refused(kind):
    plain = record("r", "Who?", doc("Ann.", "Bob.", gold=[0]))
    with pytest.raises(BadInput, match="no record has an answer"):
        kind.Finder(kit.proxy()).find([plain], lambda *_: None)


def test_a_head_that_writes_what_it_reads_copies():
    rows = torch.eye(6)
    tokens = [1, 3, 4]
    assert float(maps.copied_share(rows[tokens], rows, tokens, 1)) == 1
    assert float(maps.copied_share(7 * rows[tokens], rows, tokens, 1)) == 1
    assert float(maps.copied_share(-rows[tokens], rows, tokens, 1)) == 0
    assert float(maps.copied_share(rows[[0, 3, 4]], rows, tokens, 1)) == pytest.approx(2 / 3)


def test_maps_scores_every_head_from_the_weights_alone(monkeypatch):
    made = kit.proxy()
    monkeypatch.setattr(maps, "frequent_words", lambda reader, count: [65, 66, 67])
    found = maps.Finder(made, words=3, top=50).find([], lambda *_: None)
    assert found.shape == (1, kit.LAYERS, kit.HEADS)
    assert ((found >= 0) & (found <= 1)).all()
    assert found.sum() > 0


def test_outputs_along_one_row_are_explained_in_one_step_and_others_never():
    rows = torch.eye(8)[:4]
    along = 2 * rows[2].expand(5, -1) * torch.arange(1, 6)[:, None]
    assert float(pursuit.explained_share(along, rows, 1)) == pytest.approx(1)
    assert float(pursuit.explained_share(torch.eye(8)[6:], rows, 4)) == pytest.approx(0, abs=1e-6)
    assert float(pursuit.explained_share(torch.zeros(3, 8), rows, 2)) == 0


@every_seed
def test_more_steps_explain_no_less(seed):
    draw = torch.Generator().manual_seed(seed)
    outputs, rows = torch.randn(6, 8, generator=draw), torch.randn(5, 8, generator=draw)
    shares = [float(pursuit.explained_share(outputs, rows, k)) for k in range(1, 6)]
    assert shares == sorted(shares)
    basis = torch.linalg.qr(rows.T).Q
    exact = 1 - (outputs - outputs @ basis @ basis.T).square().sum() / outputs.square().sum()
    assert shares[-1] == pytest.approx(float(exact), abs=1e-5)


def test_pursuit_scores_every_head_over_all_records():
    found = pursuit.Finder(kit.proxy()).find([answered(i) for i in range(3)], lambda *_: None)
    assert found.shape == (1, kit.LAYERS, kit.HEADS)
    assert ((found >= 0) & (found <= 1 + 1e-5)).all()


@every_seed
def test_a_gate_of_1_changes_nothing_and_one_of_0_is_local_attention(seed):
    a = kit.causal(1, 4, 12, seed)[0]
    gates = torch.tensor([[1.0, 0.0]])
    found = duo.GatedHeads(gates, 2, sinks=1, recent=3).weights(0, a, 0)
    torch.testing.assert_close(found[:2], a[:2])
    torch.testing.assert_close(found.sum(-1), torch.ones(4, 12))
    row, column = torch.arange(12)[:, None], torch.arange(12)
    far = (column >= 1) & (column <= row - 3)
    assert (found[2:][:, far] == 0).all()
    half = duo.GatedHeads(gates / 2 + 0.25, 2, sinks=1, recent=3).weights(0, a, 0)
    local = duo.GatedHeads(0 * gates, 2, sinks=1, recent=3).weights(0, a, 0)
    torch.testing.assert_close(half[:2], 0.75 * a[:2] + 0.25 * local[:2])


def test_a_passkey_is_asked_for_after_it_was_told_out_of_local_reach(monkeypatch):
    monkeypatch.setattr(duo, "random_words", lambda reader, count, chance: list(range(count)))
    made, chance = kit.proxy(), torch.Generator().manual_seed(0)
    for _ in range(5):
        ids, answer = duo.passkey_prompt(made, 200, chance)
        value = ids[answer.start + 1 :]
        assert len(value) == duo.KEY_TOKENS
        places = [i for i in range(len(ids)) if ids[i : i + duo.KEY_TOKENS] == value]
        assert len(places) == 2
        assert places[1] - places[0] > duo.RECENT


def test_gates_fall_where_the_last_states_need_no_far_token(monkeypatch):
    monkeypatch.setattr(duo, "random_words", lambda reader, count, chance: list(range(count)))
    found = duo.Finder(kit.proxy(), tokens=150, steps=4).find([], lambda *_: None)
    assert found.shape == (1, kit.LAYERS, kit.HEADS)
    assert ((found >= 0) & (found <= 1)).all()
    assert (found < 1).any()
    assert torch.equal(found[..., ::2], found[..., 1::2])  # two query heads share a gate


def labelled(seed=0, heads=4, questions=24):
    """Head 2 tells; head 0 says nothing at all."""
    chance = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(questions):
        gold = torch.zeros(6, dtype=torch.bool)
        gold[int(torch.randint(6, (1,), generator=chance))] = True
        features = torch.randn(6, 2 * heads, generator=chance)
        features[:, [2, 6]] += 3 * gold[:, None]
        features[:, [0, 4]] = 1.0
        found.append(LabelledFeatures(features, gold))
    return found


def test_the_head_that_tells_has_the_largest_gradient_and_a_constant_one_none():
    scores = michel.gradient_scores(labelled(), 4).mean(0)
    assert int(scores.argmax()) == 2
    assert float(scores[0]) == pytest.approx(0, abs=1e-5)
    assert float(scores.norm()) == pytest.approx(1)


def test_the_gradient_is_that_of_finite_differences():
    questions = labelled()
    weights = michel.fit_listwise(questions, michel.L2)[0]
    mean = torch.cat([q.features for q in questions]).mean(0)
    scores = michel.gradient_scores(questions, 4)
    norm = None

    def loss(q, xi):
        mask = torch.cat([xi, xi])
        z = ((q.features - mean) * mask) @ weights
        return -torch.log_softmax(z, 0)[q.gold].mean()

    for q, own in zip(questions[:3], scores, strict=False):
        step = torch.zeros(4)
        step[2] = 1e-2
        slope = abs(float(loss(q, 1 + step) - loss(q, 1 - step))) / 2e-2
        norm = norm or slope / float(own[2])
        assert float(own[2]) * norm == pytest.approx(slope, rel=2e-2)


def test_greedy_takes_the_head_that_tells_first_and_its_loss_never_rises():
    questions = labelled()
    order = michel.greedy_heads(questions, 4, 3)
    assert order[0] == 2
    losses = [
        michel._trial(questions[::2], questions[1::2], order[:n], 4)
        for n in range(1, len(order) + 1)
    ]
    assert losses == sorted(losses, reverse=True)


def masked_answers(seed=0, heads=5, questions=12):
    """Answers that lose what heads 1 and, half as much, 3 look at; the others look anywhere."""
    chance, found = torch.Generator().manual_seed(seed), []
    for _ in range(questions):
        masses = torch.rand(heads, 6, generator=chance) * torch.tensor([[9.0], [1], [1], [1], [1]])
        kept = torch.randint(2, (16, 6), generator=chance).float()
        logits = kept @ (masses[1] + masses[3] / 2) - 4
        found.append(at2.MaskedAnswers(masses, kept, logits))
    return found


@every_seed
def test_the_effects_of_an_additive_model_are_its_weights(seed):
    theta = at2.fit_effects(masked_answers(seed), l2=0)
    assert theta.argsort(descending=True)[:2].tolist() == [1, 3]
    assert float(theta[3] / theta[1]) == pytest.approx(0.5, abs=0.1)
    assert (theta[[0, 2, 4]].abs() < 0.1 * theta[1]).all()


def test_an_answers_logit_is_that_of_its_probability_behind_what_is_kept():
    made = kit.proxy()
    ids, asked, answer = kit.ids_of(made, "a. b."), (5, 6), [7, 8]
    prompt = [*made.layout.opening, *ids, *asked, *answer]
    with torch.no_grad():
        states = final_states(made, prompt)
        p = torch.softmax(states @ unembedding(made).float().T, -1)
        due = p[-3, 7] * p[-2, 8]
        found = answer_logit(made, ids, asked, answer)
    assert found == pytest.approx(float(torch.logit(due.double())), abs=1e-3)


def test_what_the_answer_needs_is_seen_without_a_label():
    rows = [record(f"r{i}", "Who?", doc("Ann ran.", f"Bob sat {i}.")) for i in range(3)]
    found = at2.Finder(kit.proxy(), masks=6, tokens=60).find(rows, lambda *_: None)
    assert found.shape == (1, kit.LAYERS, kit.HEADS)
    assert found.isfinite().all()
    assert found.std() > 0


def test_one_sentence_alone_says_nothing():
    rows = [record("r", "Who?", doc("Ann ran."))]
    with pytest.raises(BadInput, match="none of 1 records has two"):
        at2.Finder(kit.proxy()).find(rows, lambda *_: None)


def test_every_finder_is_found_by_its_file_and_names_its_paper():
    names = {"at2", "echo", "induction", "duo", "maps", "pursuit", "michel", "locos"}
    assert names <= set(FINDERS.names())
    for name in FINDERS.names():
        assert FINDERS.info(name) == FINDERS.load(name).info
        assert "arXiv" in FINDERS.info(name).source
    with pytest.raises(UnknownMethod, match="did you mean 'echo'"):
        FINDERS.load("ecko")


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (at2, {"masks": 1}),
        (duo, {"steps": 0}),
        (maps, {"sign": 2}),
        (michel, {"form": "guess"}),
        (pursuit, {"steps": 0}),
    ],
)
def test_options_out_of_range_are_refused(kind, options):
    with pytest.raises(BadInput, match="give"):
        kind.Finder(kit.proxy(), **options)


def test_a_gate_of_one_half_by_hand():
    """By hand: near are the first and the last two of (.1, .6, .2, .1): (.25, 0, .5, .25)."""
    gated = duo.GatedHeads(torch.tensor([[0.5]]), 1, sinks=1, recent=2)
    found = gated.weights(0, torch.tensor([[[0.1, 0.6, 0.2, 0.1]]]), 3)
    torch.testing.assert_close(found, torch.tensor([[[0.175, 0.3, 0.35, 0.175]]]))
