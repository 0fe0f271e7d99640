"""Whether a reader still answers: measures, contexts of each condition, and kept answers."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from lab.tests.bench.records import doc, record, write
from tamis.probes.errors import BadInput
from tamis_lab.bench.answers import (
    ALL_SETS,
    FULL,
    LONG,
    NONE,
    SHORT,
    AnswerSettings,
    ContextBuilder,
    ContextCondition,
    ContextReliance,
    LocalReader,
    ServerReader,
    answer_figures,
    answer_records,
    answer_style,
    chat_messages,
    exact_match,
    f1,
    is_usable,
    judge,
    kept_texts,
    normalise_answer,
    reader_strength,
)
from tamis_lab.bench.generate import Generator
from tamis_lab.bench.study import Study
from tests.probes import tiny
from tests.service.cli.cli_kit import tamis

HAY, GOLD = "Hay lies here. More hay there.", "The pin is in the barn."
SETTINGS = AnswerSettings(("lexical",), (0.5,))


def rows():
    found = record("a", "Where is the pin?", doc(HAY), doc(GOLD, gold=[0]))
    return [{**found, "answers": ["the barn", "a barn"]}]


def short(row, condition):
    text = "\n\n".join(d["text"] for d in row["docs"])
    if condition == NONE:
        return "", 0
    return (text, 10) if condition == FULL else (GOLD, 5)


class Parrot:
    """A reader that answers only if the context has the gold sentence."""

    identity = "parrot"

    def __init__(self):
        self.prompts, self.systems = [], []

    def answer_all(self, prompts, max_tokens):
        self.prompts += [messages[-1]["content"] for messages in prompts]
        self.systems += [messages[0]["content"] for messages in prompts]
        return [
            "In the barn." if GOLD in messages[-1]["content"] else "I do not know."
            for messages in prompts
        ]


def ask(reader, settings=SETTINGS, build=short, study=None, sets=None, texts=None):
    return answer_records(
        sets or {"pins": rows()}, build, reader, settings, study or Study(), texts
    )


def test_measures_are_those_of_squad():
    assert exact_match("The Barn.", ["barn"]) == 1
    assert exact_match("in the barn", ["barn"]) == 0
    assert f1("in the old barn", ["the barn"]) == pytest.approx(2 * 1 / (3 + 1))
    assert f1("nothing", ["barn"]) == 0
    assert f1("barn", ["cow", "barn"]) == 1


def test_an_answer_is_contained_in_whole_words():
    assert judge("It is in the old barn.", ["a barn"])["contains"] == 1
    assert judge("It is in the barnyard.", ["barn"])["contains"] == 0
    assert judge("The pin is old, barn cats say.", ["old barn"])["contains"] == 1
    assert judge("barn", ["the"])["contains"] == 0, "articles alone are no answer"


def test_characters_of_chinese_are_words():
    assert normalise_answer("圆形标志。The logo") == ["圆", "形", "标", "志", "logo"]
    assert f1("是圆形标志", ["圆形标志"]) == pytest.approx(2 * 4 / 9)


def test_every_condition_has_its_own_context_and_figures():
    reader = Parrot()
    found = answer_figures(ask(reader), "lexical")
    none, full, compressed = reader.prompts
    assert "Context" not in none
    assert HAY in full
    assert GOLD in full
    assert HAY not in compressed
    assert GOLD in compressed
    assert list(found) == ["pins"]
    table = found["pins"]
    assert list(table) == ["none", "full", "lexical 50%"]
    assert table["none"]["f1"] == 0
    assert table["full"]["f1"] == table["lexical 50%"]["f1"] > 0.5
    assert (table["lexical 50%"]["share_of_tokens"], table["lexical 50%"]["tokens"]) == (0.5, 5)
    assert table["lexical 50%"]["f1_less_full"]["difference"] == 0


def test_each_budget_is_tried_in_each_order_and_the_whole_context_once():
    calls = []

    def ordered(row, condition):
        calls.append((condition.method, condition.budget, condition.order))
        return short(row, condition)[0] + condition.name, 5

    settings = AnswerSettings(("lexical",), (0.3, 2000), orders=("original", "edges"))
    reader = Parrot()
    table = answer_figures(ask(reader, settings, ordered), "lexical")["pins"]
    assert list(table) == [
        *("none", "full", "lexical 30%", "lexical 30% edges"),
        *("lexical 2000 tokens", "lexical 2000 tokens edges"),
    ]
    tried = [call for call in calls if call[0]]
    assert tried == [("lexical", s, o) for s in (0.3, 2000) for o in ("original", "edges")]
    assert len(reader.prompts) == len(table)


def test_equal_contexts_are_read_once():
    reader = Parrot()
    settings = AnswerSettings(("lexical", "lead"), (0.3, 0.5))
    assert len(ask(reader, settings)) == 6
    assert len(reader.prompts) == 3  # none, all of it, and what every method keeps


def test_the_first_method_is_compared_with_the_others_at_their_budget():
    def only_lead_misses(row, condition):
        return (HAY, 5) if condition.method == "lead" else short(row, condition)

    settings = AnswerSettings(("lexical", "lead"), (0.3,))
    table = answer_figures(ask(Parrot(), settings, only_lead_misses), "lexical")["pins"]
    assert table["lead 30%"]["lead"]["difference"] == table["lexical 30%"]["f1"] > 0.5
    assert "lead" not in table["lexical 30%"]
    assert "lead" not in table["full"]


def test_sets_weigh_the_same_in_the_mean_however_many_questions_they_have():
    other = [{**rows()[0], "id": f"b{i}", "answers": ["a cow"]} for i in range(3)]
    found = answer_figures(ask(Parrot(), sets={"pins": rows(), "cows": other}), "lexical")
    one, none = found["pins"]["full"]["f1"], found["cows"]["full"]["f1"]
    assert (one > 0.5, none) == (True, 0)
    assert list(found) == ["pins", "cows", ALL_SETS]
    assert found[ALL_SETS]["full"]["f1"] == pytest.approx((one + none) / 2)
    assert found[ALL_SETS]["full"]["questions"] == 4


def test_long_answers_are_asked_for_in_sentences_and_get_more_tokens():
    told = [{**rows()[0], "answers": ["the pin lies in the old barn under a heap of hay"]}]
    assert (answer_style(rows(), 32).system, answer_style(rows(), 32).max_tokens) == (SHORT, 32)
    assert (answer_style(told, 32).system, answer_style(told, 32).max_tokens) == (LONG, 96)
    reader = Parrot()
    ask(reader, sets={"told": told})
    assert set(reader.systems) == {LONG}


def test_what_other_compressors_kept_is_read_too(tmp_path):
    file = tmp_path / "peers.jsonl"
    facts = {"set": "pins", "case": "a"}
    lines = [
        facts | {"key": "1", "peer": "lingua", "text": "pin barn"},
        facts | {"key": "2", "peer": "torn", "error": "out of memory"},
    ]
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    reader = Parrot()
    table = answer_figures(ask(reader, texts=kept_texts(file)), "lexical")["pins"]
    assert list(table) == ["none", "full", "lexical 50%", "lingua"]
    assert "Context:\npin barn\n" in reader.prompts[-1]
    assert table["lingua"]["f1"] == 0
    file.write_text('{"set": 1, "peer": "x"}\n')
    with pytest.raises(BadInput, match="line 1: no row of tamis lab bench peers"):
        kept_texts(file)


def test_a_context_is_what_a_caller_would_get():
    build = ContextBuilder(("lexical", "bm25+minilm", "lead"))
    (row,) = rows()
    assert build(row, NONE) == ("", 0)
    whole, tokens = build(row, FULL)
    assert HAY in whole
    assert GOLD in whole
    text, fewer = build(row, ContextCondition("lexical 60%", "lexical", 0.6))
    assert (GOLD in text, fewer < tokens) == (True, True)
    assert build(row, ContextCondition("lexical 1 tokens", "lexical", 2)) == ("", 0)
    with pytest.raises(BadInput, match="sideways"):
        ContextBuilder(("sideways",))
    with pytest.raises(BadInput, match="shape"):
        ContextBuilder(("lexical:shape=round",))


@pytest.mark.model
@pytest.mark.usefixtures("proxy_folder")
def test_the_token_form_of_a_method_keeps_words_and_another_its_sentences():
    token, sentence = "ehpc:form=token", "ehpc:form=sentence"
    build = ContextBuilder((token, sentence))
    (row,) = rows()
    kept = {name: build(row, ContextCondition(name, name, 0.3))[0] for name in (token, sentence)}
    assert kept[sentence] in ("Hay lies here.", "More hay there.", GOLD)
    assert 0 < len(kept[token].split()) < len(f"{HAY} {GOLD}".split())
    assert not kept[token].endswith("."), "it ends in the middle of a sentence"


def test_an_unknown_order_is_refused_before_anything_is_read(tmp_path):
    write(tmp_path / "pins.jsonl", rows())
    given = ("--data", tmp_path, "--sets", "pins", "--orders", "original,sideways")
    done = tamis("lab", "bench", "answers", *given)
    assert done.exit_code == 2
    assert "found_in_the_middle" in done.stderr


def test_a_resumed_run_sends_no_prompt_twice(tmp_path):
    def answer(reader, settings=SETTINGS):
        study = Study(results=tmp_path / "a.jsonl")
        study.keep_rows({"reader": "parrot"})
        return ask(reader, settings, study=study)

    whole = answer(Parrot())
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write('{"key": "torn')
    again, more = Parrot(), Parrot()
    assert answer(again) == whole
    assert again.prompts == []
    assert len(answer(more, AnswerSettings(("lexical",), (0.5, 0.2)))) == 4
    assert len(more.prompts) == 1, "a further budget asks for itself alone"


def test_records_without_answers_are_nothing_to_compare(tmp_path):
    assert not is_usable(record("a", "Q?", doc(GOLD, gold=[0])))
    assert not is_usable({**rows()[0], "answerable": False})
    write(tmp_path / "pins.jsonl", [record("a", "Q?", doc(HAY), doc(GOLD, gold=[0]))])
    done = tamis("lab", "bench", "answers", "--data", tmp_path, "--sets", "pins")
    assert (done.exit_code, "has 'answers' (a list of texts)" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answers": "the barn"}, "record a has the 'answers' 'the barn'; give a list of texts"),
        ({"answers": [7]}, "give a list of texts"),
        ({"docs": []}, "record a has no text in 'docs'"),
        ({"docs": [doc("")]}, "record a has no text in 'docs'"),
    ],
)
def test_answers_that_are_no_texts_and_questions_without_context_are_refused(change, message):
    with pytest.raises(BadInput) as refused:
        is_usable({**rows()[0], **change})
    assert message in str(refused.value)


class OpenAI(BaseHTTPRequestHandler):
    """The one call of the protocol, by hand."""

    requests: list = []  # noqa: RUF012

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        OpenAI.requests.append((self.path, self.headers["authorization"], body))
        response = {"choices": [{"message": {"role": "assistant", "content": "the barn"}}]}
        data = json.dumps(response).encode() if body["model"] == "good" else b"{}"
        self.send_response(200)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *words):
        """Quiet."""


@pytest.fixture
def server():
    OpenAI.requests.clear()
    httpd = HTTPServer(("127.0.0.1", 0), OpenAI)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}/v1"
    httpd.shutdown()


def test_a_server_decodes_greedily_and_its_content_is_the_answer(server):
    answer = ServerReader(server, "good", "secret").answer([{"role": "user", "content": "Hi"}], 7)
    ((path, key, body),) = OpenAI.requests
    assert answer == "the barn"
    assert (path, key) == ("/v1/chat/completions", "Bearer secret")
    assert (body["max_tokens"], body["temperature"]) == (7, 0)


def test_a_server_without_the_protocol_is_named(server):
    with pytest.raises(BadInput, match="give the base URL"):
        ServerReader(server, "bad", None).answer([{"role": "user", "content": "Hi"}], 7)
    with pytest.raises(BadInput, match="gave no answer"):
        ServerReader("http://127.0.0.1:1/v1", "good", None).answer([], 7)


@pytest.mark.model
def test_the_command_prints_a_table_of_a_real_reader(proxy_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "pins.jsonl", rows())
    done = tamis(
        "lab", "bench", "answers", "--data", tmp_path, "--sets", "pins", "--methods", "lexical",
        "--budgets", "0.6", "--reader", str(proxy_folder), "--native", "--json",
        "--plot", tmp_path / "a.png",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["sets"]["pins"]
    assert set(found) == {"none", "full", "lexical 60%", "native 60%"}
    assert found["native 60%"]["share_of_tokens"] == pytest.approx(0.6, abs=0.1)
    assert found["full"]["f1"] >= found["none"]["f1"]
    assert (tmp_path / "a.png").stat().st_size > 5000


@pytest.mark.model
def test_a_local_reader_answers_the_same_alone_and_together_and_refuses_what_is_too_long(
    proxy_folder,
):
    reader = LocalReader(str(proxy_folder))

    def messages(text):
        return [{"role": "user", "content": text}]

    prompts = [
        messages("What is the capital of France? One word."),
        messages(f"{'Straw is dry. ' * 40}What is the capital of Italy? One word."),
        messages("Say yes."),
    ]
    together = reader.answer_all(prompts, 8)
    assert "Paris" in together[0]
    assert "Rome" in together[1]
    assert together == [reader.answer_all([prompt], 8)[0] for prompt in prompts]
    with pytest.raises(BadInput, match="the reader takes"):
        reader.answer_all([messages("word " * 9000)], 8)


@pytest.mark.model
def test_a_reader_that_goes_on_from_all_keys_and_values_answers_as_from_the_whole(proxy_folder):
    """And from those of the sentence that answers; without any of the context it does not."""
    generator = Generator.from_folder(proxy_folder)
    fact = "The password of the lighthouse is Wednesday."
    context = f"Straw is dry. {fact} Nobody counts boats."
    messages = chat_messages("What is the password of the lighthouse?", context)
    (whole,) = generator.answer_all([messages], 12)
    assert "Wednesday" in whole
    everything = [(0, len(context))]
    assert generator.answer_from_kept(messages, context, everything, 12) == (whole, 1.0)
    start = context.index(fact)
    short, share = generator.answer_from_kept(messages, context, [(start, start + len(fact))], 12)
    assert ("Wednesday" in short, 0.3 < share < 0.8) == (True, True)
    blind, none = generator.answer_from_kept(messages, context, [], 12)
    assert ("Wednesday" in blind, none) == (False, 0.0)


def test_only_a_reader_of_this_process_has_keys_and_values(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "pins.jsonl", rows())
    given = ("--data", tmp_path, "--sets", "pins", "--reader", server, "--native")
    done = tamis("lab", "bench", "answers", *given)
    assert (done.exit_code, "--native is of a reader in this process" in done.stderr) == (2, True)


@pytest.mark.parametrize(("full", "weak"), [(0.31, True), (0.72, False)])
def test_a_weak_reader_is_called_one(full, weak):
    text = reader_strength({"full": {"f1": full}, "none": {"f1": 0.08}})
    assert f"{100 * full:.0f}, without any 8" in text
    assert ("weak reader" in text) == weak


class Ann:
    """Answers from a context that holds `It was Ann.`, and one question without any."""

    def __init__(self):
        self.asked = []

    def answer_all(self, prompts, max_tokens):
        self.asked.append(len(prompts))
        texts = [prompt[-1]["content"] for prompt in prompts]
        return ["Ann" if "Ann" in text or "known" in text else "nobody" for text in texts]


def test_questions_that_need_no_context_or_are_missed_with_it_are_left_out(tmp_path, monkeypatch):
    script = Ann()
    monkeypatch.setattr(Generator, "from_folder", lambda folder: script)
    monkeypatch.setattr("tamis_lab.bench.answers.zoo.model_folder", lambda name: tmp_path)
    relies = ContextReliance(tiny.proxy(), tmp_path / "kept")
    rows = [
        record("a", "Who was it?", doc("It was Ann."), answers=["Ann"]),
        record("b", "Who is known?", doc("It was Ann."), answers=["Ann"]),
        record("c", "Who was it?", doc("It was Bea."), answers=["Bea"]),
        record("d", "Who was it?", doc("It was Ann."), doc("Hay."), answers=["Ann Onymous"]),
        record("e", "Who was it?", doc("It was Ann."), answers=[]),
    ]
    assert relies(rows) == [True, False, False, True, False]
    assert script.asked == [4, 3], "what is missed with its context is not asked without"
    again = ContextReliance(tiny.proxy(), tmp_path / "kept")
    assert again(rows) == [True, False, False, True, False]
    assert [n for n in script.asked if n] == [4, 3], "what was answered is kept"
