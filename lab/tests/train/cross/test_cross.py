"""What a cross-encoder in training computes is what is read of its weights, and it goes on."""

from __future__ import annotations

import pytest
import torch

from tamis.probes.errors import BadInput
from tamis.probes.model.cross_encoder import CrossEncoder
from tamis.text.types import Passage
from tamis_lab.datasets.qrels import JudgedQuery
from tamis_lab.datasets.record_files import question_fold
from tamis_lab.train.cross import lists, training
from tamis_lab.train.cross.student import CrossStudent
from tests.probes.tiny import one_thread  # noqa: F401
from tests.probes.tiny_encoder import write_encoder

pytestmark = pytest.mark.usefixtures("one_thread")

WORDS = "red blue green house river bridge opened when was the in by stone boat".split()
TEXTS = [f"the {a} {b} was opened by the {c}" for a in WORDS[:3] for b in WORDS[3:6] for c in WORDS]
RECIPE = training.CrossRecipe(rank=2, rate=3e-3, head_rate=0.02, batch=4, steps=60, warm=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp("encoder"), WORDS)


@pytest.fixture(scope="module")
def pool():
    """Questions that one colour and one thing answer, with records and judged lists alike."""
    found = lists.Pool()
    documents = {str(i): Passage(text, str(i)) for i, text in enumerate(TEXTS)}
    queries = []
    for colour in WORDS[:3]:
        for thing in WORDS[3:6]:
            grades = {i: 2.0 for i, d in documents.items() if f"{colour} {thing}" in d.text}
            order = tuple((i, -float(i)) for i in list(documents)[::7])
            text = f"when was the {colour} {thing} opened"
            queries.append(
                JudgedQuery(f"{colour} {thing}", text, dict([*grades.items()][:2]), order)
            )
    found.add_queries(queries, documents)
    doc = {"title": "red", "text": "the red boat. the blue house", "gold": [1]}
    doc["sents"] = [[0, 13], [14, 28]]
    found.add_records([{"question": "the blue house", "docs": [doc]}])
    return found


@pytest.fixture(scope="module")
def places(pool, folder):
    class ByWords:
        def encode(self, texts):
            rows = torch.tensor([[float(word in text.split()) for word in WORDS] for text in texts])
            return torch.nn.functional.normalize(rows, dim=-1)

    return lists.choose_passages(pool, ByWords())


class Teacher:
    """Says how many words of the question a text has, and that again."""

    name = "words"

    def interact(self, question, texts):
        shared = [float(len(set(question.split()) & set(text.split()))) for text in texts]
        return torch.tensor(shared), torch.tensor(shared)


@pytest.fixture(scope="module")
def targets(pool, places):
    taught = lists.teach(pool, places, [(Teacher(), (0.5, 0.5))], lambda *_: None)
    return taught + lists.grade_targets(pool, places)


def train_student(folder, pool, places, targets, place, recipe=RECIPE):
    student, judged = CrossStudent(folder, recipe.rank), []
    curve = training.train(
        student,
        pool,
        places,
        targets,
        recipe,
        place,
        lambda student: judged.append(0) or 0.5,
        20,
        lambda *_: None,
    )
    return student, curve


def test_every_question_has_its_gold_first_and_passages_once(pool, places):
    assert len(places) == len(pool.questions)
    for question, row in zip(pool.questions, places, strict=True):
        assert len(set(row)) == len(row) == lists.PASSAGES
        assert set(row[: min(2, len(question.grades))]) <= set(question.grades)


def test_questions_of_fold_0_are_left_to_judge(pool):
    texts = [question.text for question in pool.questions]
    assert texts[-1] == "the blue house"
    assert all(question_fold(text) > 0 for text in texts[:-1])


def test_targets_are_standardised_and_raised_by_grades(pool, places, targets):
    grades = lists.grade_targets(pool, places)
    taught = targets - grades
    assert float(taught.mean()) == pytest.approx(0, abs=1e-5)
    assert float(taught.var(correction=0)) == pytest.approx(1, abs=1e-4)
    assert grades.max() == 1.0


def test_what_was_learnt_is_read_as_it_was_trained(
    folder, pool, places, targets, tmp_path, monkeypatch
):
    student, _ = train_student(folder, pool, places, targets, tmp_path / "run")
    file = tmp_path / "cross.tiny.safetensors"
    training.export(student, file, "tiny", RECIPE, [], {})
    read = CrossEncoder.from_folder(folder, file, "cpu")
    question = "when was the red river opened"
    pairs = [(student.encode(question, 64), student.encode(text, 120)) for text in TEXTS[:30]]
    with torch.no_grad():
        expected = student.score(pairs)
    found = read.score(question, TEXTS[:30])
    assert float(expected.std()) > 0.1
    torch.testing.assert_close(found, expected, atol=0.2, rtol=0)  # products in bf16
    assert torch.corrcoef(torch.stack([found, expected]))[0, 1] > 0.99


def test_it_learns_what_teachers_say(folder, pool, places, targets, tmp_path):
    _, curve = train_student(folder, pool, places, targets, tmp_path)
    assert [row["steps"] for row in curve] == [20, 40, 60]
    assert curve[-1]["loss"] < 0.9 * curve[0]["loss"]


def test_a_run_that_was_stopped_goes_on_from_its_checkpoint(
    folder, pool, places, targets, tmp_path, monkeypatch
):
    """To the bit there; later not, since small gradients differ in sign by rounding."""
    kept, begun = [], []

    def stop_after_two(where, parameters, *facts):
        save(where, parameters, *facts)
        kept.append({name: tensor.detach().clone() for name, tensor in parameters.items()})
        if len(kept) == 2:
            raise KeyboardInterrupt

    def note_step(student, *facts):
        begun.append((facts[-1], {n: t.detach().clone() for n, t in student.named_parameters()}))
        return example(student, *facts)

    save, example = training.checkpoint.save, training._example
    monkeypatch.setattr(training.checkpoint, "save", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        train_student(folder, pool, places, targets, tmp_path)
    monkeypatch.setattr(training.checkpoint, "save", save)
    monkeypatch.setattr(training, "_example", note_step)
    _, curve = train_student(folder, pool, places, targets, tmp_path)
    assert [row["steps"] for row in curve] == [20, 40, 60]
    assert [step for step, _ in begun] == list(range(41, 61))
    for name, tensor in begun[0][1].items():
        torch.testing.assert_close(tensor, kept[1][name], atol=0, rtol=0)


def test_the_score_of_pairs_does_not_depend_on_their_order(folder):
    student = CrossStudent(folder, 2)
    pairs = [([5, 6], [7] * n) for n in (9, 1, 30, 4)]
    with torch.no_grad():
        alone = torch.cat([student.score([pair]) for pair in pairs])
        torch.testing.assert_close(student.score(pairs), alone, atol=0.02, rtol=0)


def test_targets_are_made_once_and_of_the_same_data(tmp_path, pool, places):
    made, file = [], tmp_path / "kept.safetensors"
    made_of = lists.digest(pool, places)
    for _ in range(2):
        lists.keep(file, made_of, lambda: made.append(0) or torch.ones(2))
    assert len(made) == 1
    other = lists.digest(pool, [*places[1:], places[0]])
    with pytest.raises(BadInput, match="is of other data"):
        lists.keep(file, other, lambda: torch.ones(2))
