"""Whether a reader still answers: measures, contexts of each condition, and kept answers."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from lab.tests.bench.records import doc, record, write
from tamis.probes.errors import BadInput
from tamis_lab.bench.answers import (
    AnswerSettings,
    LocalReader,
    ServerReader,
    answer_figures,
    answer_records,
    chat_messages,
    exact_match,
    f1,
    reader_strength,
    usable_records,
)
from tamis_lab.bench.generate import Generator
from tamis_lab.bench.study import Study
from tests.service.cli.cli_kit import tamis

HAY, GOLD = "Hay lies here. More hay there.", "The pin is in the barn."
SETTINGS = AnswerSettings("lexical", (0.5,), 16)


def rows():
    found = record("a", "Where is the pin?", doc(HAY), doc(GOLD, gold=[0]))
    return [{**found, "answers": ["the barn", "a barn"]}]


def short(row, share):
    text = "\n\n".join(d["text"] for d in row["docs"])
    return (text, 10, 10) if share == 1 else (GOLD, 5, 10)


class Parrot:
    """A reader that answers only if the context has the gold sentence."""

    identity = "parrot"

    def __init__(self):
        self.prompts = []

    def answer(self, messages, max_tokens):
        self.prompts.append(messages[-1]["content"])
        return "In the barn." if GOLD in messages[-1]["content"] else "I do not know."


def test_measures_are_those_of_squad():
    assert exact_match("The Barn.", ["barn"]) == 1
    assert exact_match("in the barn", ["barn"]) == 0
    assert f1("in the old barn", ["the barn"]) == pytest.approx(2 * 1 / (3 + 1))
    assert f1("nothing", ["barn"]) == 0
    assert f1("barn", ["cow", "barn"]) == 1


def test_every_condition_has_its_own_context_and_figures(tmp_path):
    reader = Parrot()
    table = answer_figures(answer_records(rows(), short, reader, SETTINGS, Study()))
    none, full, compressed = reader.prompts
    assert "Context" not in none
    assert HAY in full
    assert GOLD in full
    assert HAY not in compressed
    assert GOLD in compressed
    assert list(table) == ["none", "full", "lexical 0.5"]
    assert table["none"]["f1"] == 0
    assert table["full"]["f1"] == table["lexical 0.5"]["f1"] > 0.5
    assert table["lexical 0.5"]["share_of_tokens"] == 0.5
    assert table["lexical 0.5"]["f1_less_full"]["difference"] == 0


def test_each_share_is_tried_in_each_order_and_the_whole_context_once(tmp_path):
    calls = []

    def ordered(row, share, order="original"):
        calls.append((share, order))
        text = [d["text"] for d in row["docs"]]
        return "\n\n".join(text[::-1] if order == "edges" else text), 5, 10

    settings = AnswerSettings("lexical", (0.3, 0.5), 16, ("original", "edges"))
    reader = Parrot()
    table = answer_figures(answer_records(rows(), ordered, reader, settings, Study()))
    assert list(table) == [
        *("none", "full", "lexical 0.3", "lexical 0.3 edges"),
        *("lexical 0.5", "lexical 0.5 edges"),
    ]
    assert calls == [(1, "original"), *((s, o) for s in (0.3, 0.5) for o in ("original", "edges"))]
    assert len(reader.prompts) == len(table)


def test_an_unknown_order_is_refused_before_anything_is_read(tmp_path):
    file = write(tmp_path / "records.jsonl", rows())
    done = tamis("lab", "bench", "answers", file, "--orders", "original,sideways")
    assert done.exit_code == 2
    assert "found_in_the_middle" in done.stderr


def test_a_resumed_run_sends_no_prompt_twice(tmp_path):
    def answer(reader):
        study = Study(results=tmp_path / "a.jsonl")
        study.keep_rows({"reader": "parrot"})
        return answer_records(rows(), short, reader, SETTINGS, study)

    whole = answer(Parrot())
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write('{"key": "torn')
    again = Parrot()
    assert answer(again) == whole
    assert again.prompts == []


def test_records_without_answers_are_nothing_to_compare():
    with pytest.raises(BadInput, match="no record has 'answers'"):
        usable_records([record("a", "Q?", doc(GOLD, gold=[0]))], None)


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
        usable_records([{**rows()[0], **change}], None)
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
    file = write(tmp_path / "records.jsonl", rows())
    done = tamis(
        "lab", "bench", "answers", file, "--reader", str(proxy_folder), "--method", "lexical",
        "--keep", "0.6", "--native", "--json", "--plot", tmp_path / "a.png",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    conditions = json.loads(done.stdout)["conditions"]
    assert set(conditions) == {"none", "full", "lexical 0.6", "native 0.6"}
    assert conditions["native 0.6"]["share_of_tokens"] == pytest.approx(0.6, abs=0.1)
    assert conditions["full"]["f1"] >= conditions["none"]["f1"]
    assert (tmp_path / "a.png").stat().st_size > 5000


@pytest.mark.model
def test_a_local_reader_answers_the_same_twice_and_refuses_what_is_too_long(proxy_folder):
    reader = LocalReader(str(proxy_folder))
    messages = [{"role": "user", "content": "What is the capital of France? One word."}]
    first = reader.answer(messages, 8)
    assert "Paris" in first
    assert reader.answer(messages, 8) == first
    with pytest.raises(BadInput, match="the reader takes"):
        reader.answer([{"role": "user", "content": "word " * 9000}], 8)


@pytest.mark.model
def test_a_reader_that_goes_on_from_all_keys_and_values_answers_as_from_the_whole(proxy_folder):
    """And from those of the sentence that answers; without any of the context it does not."""
    generator = Generator.from_folder(proxy_folder)
    fact = "The password of the lighthouse is Wednesday."
    context = f"Straw is dry. {fact} Nobody counts boats."
    messages = chat_messages("What is the password of the lighthouse?", context)
    whole = generator.answer(messages, 12)
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
    file = write(tmp_path / "records.jsonl", rows())
    done = tamis("lab", "bench", "answers", file, "--reader", server, "--native")
    assert (done.exit_code, "--native is of a reader in this process" in done.stderr) == (2, True)


@pytest.mark.parametrize(("full", "weak"), [(0.31, True), (0.72, False)])
def test_a_weak_reader_is_called_one(full, weak):
    text = reader_strength({"full": {"f1": full}, "none": {"f1": 0.08}})
    assert f"{100 * full:.0f}, without any 8" in text
    assert ("weak reader" in text) == weak
