"""Options of a method are the same everywhere: library, command line, batch, HTTP, adapters."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document
from pydantic import ValidationError

import tamis
from tamis.compressors.options import options_of
from tamis.compressors.registry import METHODS, method_class, method_names
from tamis.probes.errors import BadInput
from tamis.service.api.model_pool import shared_proxy
from tamis.service.http.runtime.settings import Settings
from tamis.service.integrations.langchain import TamisCompressor, TamisCrossEncoder
from tests.probes import tiny
from tests.service.batch.kit import read_rows, write_lines
from tests.service.cli import cli_kit
from tests.service.http.app_kit import served

QUESTION = "When was the old harbour of Malo closed?"
TEXTS = [
    "Ships came in spring. The old harbour of Malo was closed in 1911. Bread was cheap then. " * 3,
    "Nobody knew why the lighthouse keeper wrote letters. A loaf cost two pennies in Malo. " * 3,
]
LIMIT = 60
METHOD = "infiniretri"
OPTIONS = st.fixed_dictionaries(
    {"heads": st.just(0)},
    optional={
        "form": st.sampled_from(["sequential", "independent"]),
        "window_tokens": st.integers(16, 64),
        "carry_tokens": st.integers(16, 64),
        "top_k": st.integers(1, 30),
        "phrase_tokens": st.integers(1, 9),
    },
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save("llama", tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def service(model):
    reader = shared_proxy(str(model), None, None)
    with served(reader, proxy=str(model), methods=(METHOD,), method=METHOD) as running:
        yield running


def words(options: dict[str, Any]) -> list[str]:
    return [
        word
        for name, value in options.items()
        for word in ("--option", f"{name}={value if isinstance(value, str) else json.dumps(value)}")
    ]


@given(options=OPTIONS)
@settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_every_way_in_gives_the_same_answer(model, service, tmp_path_factory, options):
    folder = tmp_path_factory.mktemp("run")
    wanted = tamis.compress(
        QUESTION, TEXTS, max_tokens=LIMIT, method=METHOD, proxy=str(model), **options
    )
    assert wanted.status == "ok"
    source = folder / "given.json"
    source.write_text(json.dumps({"question": QUESTION, "documents": TEXTS}), "utf-8")
    common = ["--method", METHOD, "--proxy", model, "--max-tokens", LIMIT, *words(options)]
    by_command = cli_kit.tamis("compress", source, "--json", *common)
    assert by_command.exit_code == 0, by_command.output
    rows = write_lines(folder / "rows.jsonl", [{"id": "1", "query": QUESTION, "documents": TEXTS}])
    done = cli_kit.tamis("batch", "run", rows, "-o", folder / "out", "--no-share", *common)
    assert done.exit_code == 0, done.output
    over_http = service.post(
        "/v1/compress", query=QUESTION, documents=TEXTS, max_tokens=LIMIT, options=options
    ).json()
    adapters = [
        TamisCompressor(method=METHOD, max_tokens=LIMIT, options=options, **where)
        for where in ({"proxy": str(model)}, {"base_url": service.url})
    ]
    documents = [Document(text) for text in TEXTS]
    found = {
        "command": json.loads(by_command.stdout)["text"],
        "batch": read_rows(folder / "out")[0]["compressed"],
        "http": over_http["text"],
    } | {
        str(i): "\n\n".join(d.page_content for d in one.compress_documents(documents, QUESTION))
        for i, one in enumerate(adapters)
    }
    assert found == dict.fromkeys(found, wanted.text)


def test_options_change_the_answer_of_every_way_in(service):
    """Without them the test above would hold of options that are ignored."""

    def spans(**options: Any) -> Any:
        answer = service.post(
            "/v1/compress",
            query=QUESTION,
            documents=TEXTS,
            max_tokens=20,
            options={"heads": 0, **options},
        ).json()
        return [result["evidence_score"] for result in answer["results"]]

    assert spans(phrase_tokens=1) != spans(phrase_tokens=8)
    assert spans(phrase_tokens=1) == spans(phrase_tokens=1)


REFUSED = [
    ({"colour": "red"}, "infiniretri has no option ['colour']; its options are ['carry_tokens',"),
    ({"top_k": 0}, "infiniretri: top_k is 0; give a whole number of at least 1"),
    ({"top_k": "many"}, "infiniretri: top_k is 'many'; give a whole number of at least 1"),
    ({"form": "other"}, "infiniretri: form is 'other'; give one of sequential, independent"),
]


@pytest.mark.parametrize(("options", "says"), REFUSED)
def test_what_an_option_does_not_take_is_refused_everywhere_with_the_same_words(
    model, service, tmp_path, options, says
):
    answer = service.post(
        "/v1/compress", query=QUESTION, documents=TEXTS, max_tokens=9, options=options
    )
    assert answer.status_code == 422
    assert says in answer.json()["error"]["message"]
    source = tmp_path / "text.txt"
    source.write_text(TEXTS[0], "utf-8")
    common = ["--max-tokens", 9, "--method", METHOD, "--proxy", model, *words(options)]
    for run in (
        ["compress", source, "-q", QUESTION],
        ["batch", "run", source, "-q", QUESTION, "-o", tmp_path / "out"],
    ):
        done = cli_kit.tamis(*run, *common)
        assert (done.exit_code, says in " ".join(done.output.split())) == (2, True), done.output
    with pytest.raises((BadInput, ValidationError)) as error:
        TamisCompressor(method=METHOD, proxy=str(model), options=options)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("question_rows", {"probe": "/etc/passwd"}),
        ("question_rows", {"gate": "a.safetensors"}),
        ("question_rows", {"rank_probe": "a.safetensors"}),
        ("question_rows", {"profile": "heads.json"}),
    ],
)
def test_a_request_names_no_file_and_no_address(method, options):
    from tamis.service.http.runtime.methods import ServedMethods

    reader = tiny.proxy()
    knobs = Settings(proxy="tiny", methods=(method,), method=method)
    served_methods = ServedMethods(knobs, reader)
    with pytest.raises(BadInput, match="leave it out"):
        served_methods.scorer(method, given=options)


def test_no_shipped_option_takes_a_file_from_a_request_unseen():
    """Whatever takes a path or free text is known as such: a new option is not forgotten."""
    text = "no/such/file.or.choice"
    takers = {
        (name, one.name)
        for name in method_names(None)
        if METHODS.package_of(name) == "tamis"
        for one in options_of(method_class(name))
        if not _is_refused(one, text) and not one.names_something(text)
    }
    assert takers == set()


def _is_refused(one: Any, value: Any) -> bool:
    try:
        one.check(value)
    except BadInput:
        return True
    return False


def test_a_service_that_isolates_is_not_told_otherwise():
    from tamis.service.http.runtime.methods import ServedMethods

    served_methods = ServedMethods(Settings(proxy="tiny", isolated=True), tiny.proxy())
    with pytest.raises(BadInput, match="scores each document alone"):
        served_methods.scorer("question_rows", given={"isolated": False, "probe": None})


def test_what_wants_more_layers_than_were_loaded_says_how_many(model):
    from tamis.service.http.runtime.methods import ServedMethods

    reader = tiny.proxy()
    reader.depth = 1
    knobs = Settings(proxy=reader.card.name, methods=(METHOD,), method=METHOD)
    with pytest.raises(BadInput, match=rf"reads {reader.card.layers} layers .* has loaded 1"):
        ServedMethods(knobs, reader).scorer(METHOD, given={"heads": 0})


def test_a_server_ranks_without_options(service):
    ranker = TamisCrossEncoder(base_url=service.url, method=METHOD, options={"top_k": 3})
    with pytest.raises(BadInput, match="leave options out"):
        ranker.score([(QUESTION, TEXTS[0])])


@pytest.mark.parametrize(
    ("given_words", "says"),
    [
        (["--option", "top_k"], "--option is 'top_k'; give NAME=VALUE"),
        (["--option", "top_k=3", "--option", "top_k=4"], "top_k is given twice"),
        (["--probe", "a.safetensors", "--option", "probe=b"], "probe is given twice"),
    ],
)
def test_a_word_that_is_no_option_or_comes_twice_is_refused(tmp_path, given_words, says):
    source = tmp_path / "text.txt"
    source.write_text(TEXTS[0], "utf-8")
    done = cli_kit.tamis("compress", source, "-q", "?", "--max-tokens", 5, *given_words)
    assert (done.exit_code, says in " ".join(done.output.split())) == (2, True), done.output


def test_a_batch_with_other_options_is_another_batch(model, tmp_path):
    rows = write_lines(tmp_path / "rows.jsonl", [{"query": QUESTION, "documents": TEXTS}])

    def run(*options: str) -> Any:
        common = ["--method", METHOD, "--proxy", model, "--max-tokens", LIMIT]
        return cli_kit.tamis("batch", "run", rows, "-o", tmp_path / "out", *common, *options)

    assert run("--option", "heads=0").exit_code == 0
    assert run("--option", "heads=0").exit_code == 0
    other = run("--option", "heads=0", "--option", "top_k=5")
    assert other.exit_code == 2
    assert "--option top_k was 300 and is 5" in " ".join(other.output.split())


@cache
def shown_options(method: str) -> list[dict[str, Any]]:
    done = cli_kit.tamis("methods", method, "--json")
    assert done.exit_code == 0
    return json.loads(done.stdout)["options"]


def test_methods_show_the_value_of_the_paper():
    found = {one["option"]: one for one in shown_options("ehpc")}
    assert found["form"]["default"] == "sentence"
    assert found["form"]["paper"] == "token"
    assert all(one["help"] for one in found.values())
    assert "the whole prompt" in " ".join(cli_kit.tamis("methods", "ehpc").output.split())
