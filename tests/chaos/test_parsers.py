"""Whatever bytes come, every parser gives what it promises or refuses in its own words.

A parser that raises anything but tamis's own errors takes a request, a run or a start down with a
traceback.
"""

from __future__ import annotations

import io
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from tamis.probes.errors import BadIndex, BadInput, BadModelFile
from tamis.probes.kv_cache.serialization import deserialize
from tamis.probes.probing.heads import read_profile
from tamis.probes.probing.linear import LinearProbe
from tamis.retrieval.index.filters import MetadataCondition, parse_condition
from tamis.retrieval.index.store import CorpusIndex
from tamis.retrieval.keys.recipe import KeyRecipe
from tamis.retrieval.storage.files import CheckedFile, FileEntry, digest
from tamis.retrieval.storage.manifest import MANIFEST, Manifest, canonical_json
from tamis.service.files.command_inputs import InputOptions, gather_inputs
from tamis.service.files.streams import read_lines
from tamis.service.http.middleware.auth import Key, read_keys
from tamis.service.http.schemas.json import dumps, loads
from tamis.text.units.segment import segment
from tests.probes.probing.test_linear import CARD, WEIGHTS
from tests.service.http.app_kit import DOCUMENTS, QUESTION, Running, served

CASES = int(os.environ.get("CASES", "25"))
many = settings(
    max_examples=CASES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=CASES
    < 50,  # `make test` gives the same verdict twice; CASES=500 looks for new ones
)
text = st.text(st.characters(exclude_categories=()), max_size=80)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | text
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(text, inner), max_leaves=12
)
DEEP = b"[" * 100_000
NOISE = st.binary(max_size=300)
ANY_JSON = values.map(lambda value: json.dumps(value).encode())


@st.composite
def mostly(draw: st.DrawFn, facts: dict[str, Any]) -> bytes:
    """A JSON object that is nearly right: some values are others, or missing, or too many."""
    made = dict(facts)
    for name in draw(st.lists(st.sampled_from(sorted(facts)), max_size=3)):
        made[name] = draw(values)
    if draw(st.booleans()):
        made.pop(draw(st.sampled_from(sorted(facts))), None)
    return json.dumps(made | draw(st.dictionaries(text, scalars, max_size=1))).encode()


tags = st.sampled_from(
    "<p>|</p>|<table>|<tr><td>|</td></tr>|<pre>|</pre>|<!--|-->|<script>|</script>|<a href='|<div|"
    "&amp;|&#x110000;|&lt|<![CDATA[|<br/>|<h1>T</h1>|<li>|<th>|</|>|<".split("|")
)


@many
@given(st.lists(tags | text).map("".join))
def test_html_of_any_kind_is_cut_without_a_loss(html: str):
    pieces = segment(html)
    covered = "".join(html[piece.start : piece.stop] for piece in pieces)
    assert covered == (html if html.strip() else "")


@many
@given(values.map(json.dumps), st.integers(0, 40), st.integers(0, 3))
def test_json_whole_or_cut_off_is_cut_without_a_loss(body: str, missing: int, times: int):
    given = (body[: max(0, len(body) - missing)] + "\n") * times + body
    pieces = segment(given)
    covered = "".join(given[piece.start : piece.stop] for piece in pieces)
    assert covered == (given if given.strip() else "")


@many
@given(NOISE | ANY_JSON)
@example(DEEP)
@example(b"1" * 10_000)
def test_a_body_is_json_or_is_refused(data: bytes):
    try:
        value = loads(data)
    except json.JSONDecodeError:
        return
    assert loads(dumps(value)) == value


@pytest.fixture(scope="module")
def service():
    with served() as running:
        yield running


REQUESTS: dict[str, dict[str, Any]] = {
    "/v1/compress": {"question": QUESTION, "documents": DOCUMENTS, "max_tokens": 40},
    "/v1/compress/batch": {"inputs": [{"question": QUESTION, "documents": DOCUMENTS}]},
    "/v1/explain": {"question": QUESTION, "documents": DOCUMENTS, "ratio": 0.5},
    "/v2/rerank": {"model": "m", "query": QUESTION, "documents": DOCUMENTS, "top_n": 1},
    "/v1/rerank": {"model": "m", "query": QUESTION, "documents": DOCUMENTS, "top_k": 1},
    "/rerank": {"query": QUESTION, "texts": DOCUMENTS, "raw_scores": False},
    "/score": {"text_1": QUESTION, "text_2": DOCUMENTS},
    "/tokenize": {"prompt": QUESTION},
}


@pytest.mark.parametrize("path", REQUESTS)
@settings(many, max_examples=max(1, CASES // 3))
@given(data=st.data())
def test_a_request_that_is_nearly_right_is_answered_or_refused(
    path: str, data: st.DataObject, service: Running
):
    body = data.draw(mostly(REQUESTS[path]))
    answer = service.raw(path, body)
    assert answer.status_code < 500, (body, answer.text)


@many
@given(mostly(asdict(CARD)) | NOISE | ANY_JSON)
@example(DEEP)
def test_a_card_of_a_probe_is_one_or_is_refused(tmp_path_factory, data: bytes):
    path = tmp_path_factory.mktemp("p") / "p.safetensors"
    LinearProbe(WEIGHTS, CARD).save(path)
    path.with_suffix(".json").write_bytes(data)
    with pytest.raises(BadModelFile):
        LinearProbe.load(path)  # without the hash of its weights none is believed


@many
@given(NOISE | st.binary(max_size=100).map(lambda tail: save(WEIGHTS)[:-20] + tail))
def test_weights_and_kept_passages_are_whole_or_refused(tmp_path_factory, data: bytes):
    path = tmp_path_factory.mktemp("w") / "p.safetensors"
    LinearProbe(WEIGHTS, CARD).save(path)
    path.write_bytes(data)
    with pytest.raises(BadModelFile):
        LinearProbe.load(path)
    with pytest.raises(BadModelFile):
        deserialize(data, "00")


@many
@given(NOISE | ANY_JSON | mostly({"kind": "heads", "format": 1, "model": "m", "scores": []}))
@example(DEEP)
def test_a_profile_is_one_or_is_refused(tmp_path_factory, data: bytes):
    path = tmp_path_factory.mktemp("f") / "heads.json"
    path.write_bytes(data)
    try:
        assert isinstance(read_profile(path, "heads"), dict)
    except BadModelFile:
        pass


@many
@given(NOISE | ANY_JSON)
@example(DEEP)
@example(b'{"checksum": ""}')
def test_a_manifest_is_one_or_is_refused(tmp_path_factory, data: bytes):
    home = tmp_path_factory.mktemp("i")
    (home / MANIFEST).write_bytes(data)
    with pytest.raises(BadIndex):
        CorpusIndex.open(home)


@pytest.fixture(scope="module")
def body(tmp_path_factory) -> dict[str, Any]:
    from tests.retrieval.index.corpora import build_index

    home = tmp_path_factory.mktemp("whole") / "i"
    build_index(home)
    facts = json.loads((home / MANIFEST).read_bytes())
    del facts["checksum"]
    return facts


@many
@given(data=st.data())
def test_a_manifest_with_a_good_checksum_is_not_believed_for_that(
    tmp_path_factory, body: dict[str, Any], data: st.DataObject
):
    facts = json.loads(data.draw(mostly(body)))
    home = tmp_path_factory.mktemp("i")
    (home / MANIFEST).write_text(json.dumps({**facts, "checksum": digest(canonical_json(facts))}))
    try:
        Manifest.read(home)
    except BadIndex:
        pass


@pytest.mark.parametrize("place", ["../secret", "/etc/passwd", "segments/../../secret"])
def test_a_manifest_cannot_name_a_file_outside_its_folder(tmp_path, body: dict[str, Any], place):
    """An index that somebody else made may name any file; none but its own is opened."""
    (tmp_path / "secret").write_bytes(b"x")
    facts = json.loads(json.dumps(body))
    facts["segments"][0]["files"][0]["path"] = place
    home = tmp_path / "i"
    home.mkdir()
    (home / MANIFEST).write_text(json.dumps({**facts, "checksum": digest(canonical_json(facts))}))
    with pytest.raises(BadIndex, match="outside"):
        CorpusIndex.open(home)


@many
@given(NOISE | NOISE.map(lambda tail: b"\x93NUMPY\x01\x00" + tail))
def test_an_array_of_an_index_is_one_or_is_refused(tmp_path_factory, data: bytes):
    """Even one whose checksum is right: whoever can write the files can write the manifest."""
    home = tmp_path_factory.mktemp("a")
    (home / "a.npy").write_bytes(data)
    guard = CheckedFile(home, FileEntry("a.npy", len(data), digest(data)))
    try:
        guard.array()
    except BadIndex:
        pass
    finally:
        guard.close()


@many
@given(values)
def test_a_recipe_is_one_or_is_refused(value: Any):
    try:
        KeyRecipe.from_json(value if isinstance(value, dict) else {"heads": value})
    except BadIndex:
        pass


@many
@given(
    NOISE | text.map(lambda t: f"ada sha256:{'0' * 64} {t}\n{t}".encode("utf-8", "surrogatepass"))
)
def test_a_file_of_keys_is_one_or_the_wrong_line_is_named(tmp_path_factory, data: bytes):
    file = tmp_path_factory.mktemp("k") / "keys.txt"
    file.write_bytes(data)
    try:
        assert all(isinstance(key, Key) for key in read_keys(file))
    except BadInput:
        pass


@many
@given(text | st.builds("{}{}{}".format, text, st.sampled_from(["=", "!=", ">=", "<"]), text))
def test_a_condition_is_one_or_is_refused(typed: str):
    try:
        assert isinstance(parse_condition(typed), MetadataCondition)
    except BadInput:
        pass


@many
@given(st.lists(NOISE).map(b"\n".join), st.integers(1, 40))
def test_lines_lose_no_byte(data: bytes, most: int):
    found = list(read_lines(io.BytesIO(data), most))
    assert sum(size for size, _ in found) == len(data)
    assert all(line is None or line in data for _, line in found)


@many
@given(NOISE | ANY_JSON | text.map(lambda t: t.encode("utf-8", "surrogatepass")))
@example(DEEP)
@pytest.mark.parametrize("name", ["a.txt", "a.json", "a.jsonl"])
def test_what_the_command_line_is_given_is_read_or_refused(
    tmp_path_factory, name: str, data: bytes
):
    file: Path = tmp_path_factory.mktemp("c") / name
    file.write_bytes(data)
    try:
        found = gather_inputs([str(file)], io.BytesIO(), InputOptions())
    except BadInput:
        return
    assert found.passages
    if name == "a.txt":
        assert found.passages[0].text.encode() == data
