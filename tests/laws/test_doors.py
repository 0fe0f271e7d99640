"""One request, one answer: the library, the command line, HTTP, the batch and the adapters.

`DOOR_CALLS=2000` tries so many requests in place of the few that every run tries.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import replace
from inspect import signature
from pathlib import Path

import pytest

import tamis
from tamis.compressors.registry import layers_needed, load_proxy
from tamis.langchain import TamisCompressor
from tamis.service.api.languages import SHARP
from tamis.service.http.schemas.compress import CompressRequest
from tests.laws.doors import (
    DOORS,
    FIELDS,
    INSTRUCTION,
    RANKING_DOORS,
    RULE_NAMES,
    SENTENCES,
    TEXTS,
    Answer,
    Call,
    House,
    RankingCall,
    Refusal,
    ask,
    ask_ranking,
    random_call,
    random_ranking,
)
from tests.service.cli.cli_kit import word_tokenizer
from tests.service.http.app_kit import NEEDLE, QUESTION, pointing, served

OWN_REFUSALS = {
    # files without a word were named by mistake
    "command": (" no text; ",),
    # what would fail for the first row that does not fit is refused before any is read
    "batch": ("gives no probabilities", "cannot tell whether", "promises no coverage"),
    **dict.fromkeys(("library", "http", "langchain", "remote"), ()),
}
"""What a door refuses where the library returns a context that fits as it came."""
CALLS = int(os.environ.get("DOOR_CALLS", "100"))
LONGEST_SHOWN = 20
ROUNDING = 0.02
"""How far batches of other sizes move a probability in bf16, at most; .012 was seen."""
SHOWN_QUESTION = "When was the old harbour of Malo closed?"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """All doors, with a tokenizer that counts words and no model."""
    folder = tmp_path_factory.mktemp("doors")
    words = word_tokenizer(folder)
    with served(tokenizers=(f"words={words}",)) as service:
        yield House(words, folder, service)


def differences(call: Call, house: House) -> list[str]:
    """What a door says of a request that the library says otherwise, a line each."""
    found = {door: ask(door, call, house) for door in call.doors()}
    lines = []
    for door, answer in found.items():
        said = found["library"]
        if door in ("langchain", "remote"):
            said = ask("library", as_adapters_ask(call), house)
            if any(document["text"].isspace() for document in call.documents):
                answer, said = _without_text(answer), _without_text(said)
        lines += [f"{door}: {line}" for line in _differing(said, answer, door)]
    return lines


def _without_text(answer: Answer) -> Answer:
    """An answer but for its text: adapters return no documents of white space."""
    if isinstance(answer, Refusal):
        return answer
    return {name: value for name, value in answer.items() if name != "text"}


def as_adapters_ask(call: Call) -> Call:
    """The request that adapters make of it: an order by scores has scores even where all fits."""
    if call.rules.get("order", "original") == "original" or call.rules.get("top_n"):
        return call
    return replace(call, rules={**call.rules, "top_n": max(1, len(call.documents))})


def _differing(library: Answer, other: Answer, door: str) -> Iterator[str]:
    if isinstance(other, Refusal) and any(words in other.message for words in OWN_REFUSALS[door]):
        return
    if isinstance(library, Refusal) or isinstance(other, Refusal):
        if not (isinstance(library, Refusal) and isinstance(other, Refusal)):
            yield f"{other!r:.300}, not {library!r:.300}"
        elif door != "library" and not same_refusal(library.message, other.message):
            yield f"refused with {other.message!r:.300}, not {library.message!r:.300}"
        return
    for name in library.keys() & other.keys():
        if library[name] != other[name]:
            yield f"{name} is {other[name]!r:.400}, not {library[name]!r:.400}"


def same_refusal(library: str, other: str) -> bool:
    """Whether a door refuses in the library's words, options in place of names aside.

    A request with two faults may be refused for either: over HTTP spans are read before budgets.
    """
    return _plain(library) in _plain(other) or "keep cannot be read" in other


def _plain(message: str) -> str:
    return message.replace("--", "").replace("-", "_")


def test_every_door_answers_a_request_as_the_library_does(house: House):
    lines = []
    for seed in range(CALLS):
        call = random_call(random.Random(seed))
        if found := differences(call, house):
            lines.append("\n  ".join((f"seed {seed}: {call}", *found)))
    assert not lines, f"{len(lines)} of {CALLS}\n" + "\n".join(lines[:LONGEST_SHOWN])


def test_an_instruction_does_not_tell_the_language_of_the_documents(house: House):
    """Its abbreviations end sentences in English and none in German."""
    text = next(text for text in TEXTS if "bzw." in text)
    call = Call("Malo harbour?", ({"text": text},), {"ratio": 0.5}, instruction=INSTRUCTION)
    assert differences(call, house) == []


def test_every_door_ranks_as_the_library_does(house: House):
    lines = []
    for seed in range(CALLS):
        call = random_ranking(random.Random(seed))
        said = ask_ranking("library", call, house)
        for door in call.doors():
            other = ask_ranking(door, call, house)
            if isinstance(other, Refusal) and " no text; " in other.message and door == "command":
                continue
            if other != said:
                lines.append(f"seed {seed}: {call}\n  {door}: {other!r:.500}, not {said!r:.500}")
    assert not lines, f"{len(lines)} of {CALLS}\n" + "\n".join(lines[:LONGEST_SHOWN])


def test_every_door_ranks_in_the_language_that_is_named(house: House):
    """A German abbreviation ends a sentence in English, and moves what a sentence is worth."""
    scripted = replace(house, proxy=pointing())
    said = {}
    for language in ("de", "en"):
        texts = (f"Salz usw. {NEEDLE} Hafen Nr. 7 usw. Ring.", "Malo usw. Hafen.")
        documents = tuple({"text": text} for text in texts)
        call = RankingCall(QUESTION, documents, "question_rows", language)
        doors = [door for door in call.doors() if door != "command"]  # models by names alone
        found = {door: ask_ranking(door, call, scripted) for door in doors}
        assert len(found) == len(RANKING_DOORS) - 1
        said[language] = str(found["library"])
        assert {door: str(one) for door, one in found.items()} == dict.fromkeys(
            found, said[language]
        )
    assert said["de"] != said["en"]


@pytest.mark.model
@pytest.mark.usefixtures("proxy_folder", "encoder_folder")
def test_every_door_reads_as_the_library_does(tmp_path: Path):
    """The default model; in bf16 who shares a batch moves scores in the third decimal."""
    words = word_tokenizer(tmp_path)
    proxy = load_proxy(SHARP, layers_needed("question_rows", SHARP))
    texts = (" ".join(SENTENCES), " ".join(SENTENCES[4:]), "Malo has a kiosk. It sells salt.")
    documents = tuple({"text": text} for text in texts)
    call = Call(SHOWN_QUESTION, documents, {"ratio": 0.3}, method="question_rows")
    with served(proxy, tokenizers=(f"words={words}",)) as service:
        house = House(words, tmp_path, service)
        found = {door: ask(door, call, house) for door in call.doors()}
        again = ask("http", call, house)  # from passages that were kept
    said = found["library"]
    assert isinstance(said, dict)
    assert said["status"] == "ok"
    assert said["calibrated"]
    for door, answer in (*found.items(), ("http, again", again)):
        assert isinstance(answer, dict), answer
        same = {"text", "status", "tokens", "warnings", "counts", "verdict"}
        for name in answer.keys() & same:
            assert answer[name] == said[name], (door, name)
        if "spans" in answer:
            assert [one[:3] for one in answer["spans"]] == [one[:3] for one in said["spans"]]
            scores = [one[3] for one in answer["spans"]]
            assert scores == pytest.approx([one[3] for one in said["spans"]], abs=ROUNDING), door
        if "answerability" in answer:
            assert answer["answerability"] == pytest.approx(said["answerability"], abs=ROUNDING)


def test_the_table_says_which_door_lacks_a_field():
    """A field that a door gains is tried by the law only once the table has it."""
    own = ("question", "documents", "title", "id", "keep", "min_tokens")
    assert set(RULE_NAMES) <= set(FIELDS)
    for name in sorted(set(FIELDS) - set(own)):
        has = {door for door in DOORS if door in FIELDS[name]}
        assert ("http" in has) == (name in CompressRequest.model_fields), name
        assert ("langchain" in has) == ("remote" in has) == (name in TamisCompressor.model_fields)
        by_rules = name in RULE_NAMES
        assert ("library" in has) == (by_rules or name in signature(tamis.compress).parameters)
