"""Unchanged packages of peers, in the environments of `environments.py`: `make peers`."""

from __future__ import annotations

import json
import subprocess

import pytest

from lab.tests.peers.kit import people_folder, study_of
from tamis.probes.tokens import TextTokenizer
from tamis_lab.bench.peer_process import PEERS_FOLDER, PeerRegistry
from tamis_lab.bench.peers import PeerRunSettings, load_peer_cases, run_peers

pytestmark = pytest.mark.model
TINY = """
import sys
from transformers import BertConfig, AutoTokenizer, PreTrainedTokenizerFast
from transformers import BertForSequenceClassification, BertForTokenClassification
kind, source, folder = sys.argv[1:]
size = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
config = BertConfig(vocab_size=49200, num_labels={"rank": 1, "drop": 2}[kind], **size)
model = {"rank": BertForSequenceClassification, "drop": BertForTokenClassification}[kind]
model(config).save_pretrained(folder)
PreTrainedTokenizerFast(
    tokenizer_file=source + "/tokenizer.json", pad_token="<|im_end|>", unk_token="<|endoftext|>",
    bos_token="<|im_start|>", eos_token="<|im_end|>", cls_token="<|im_start|>",
    sep_token="<|im_end|>", model_max_length=512,
).save_pretrained(folder)
"""


@pytest.fixture
def keep_texts(tmp_path, proxy_folder):
    """Runs a peer on two cases, both of which it must answer; returns cases and kept texts."""
    counter = TextTokenizer.from_file(proxy_folder / "tokenizer.json")
    registry = PeerRegistry.load(PEERS_FOLDER)

    def run_peer(name, weights=None):
        (peer,) = registry.select([name])
        assert registry.missing_requirement(peer, {name: weights} if weights else {}) is None
        cases = load_peer_cases("people", people_folder(tmp_path), 2, 0.4, counter)
        given = {name: weights} if weights else {}
        settings = PeerRunSettings("smollm2-135m", proxy_folder, given, 1, 120, tmp_path)
        rows = run_peers(cases, [peer], registry, settings, study_of(tmp_path), counter)
        assert [row.get("error") for row in rows] == [None, None]
        return list(zip(cases, (row["text"] for row in rows), strict=True))

    return run_peer


def test_minilm_keeps_whole_sentences(keep_texts):
    for case, text in keep_texts("minilm"):
        assert text
        assert all(line in case.request["context"] for line in text.splitlines())


@pytest.mark.parametrize("name", ["llmlingua", "longllmlingua"])
def test_lingua_keeps_words_of_the_context_and_not_the_question(keep_texts, name):
    for case, text in keep_texts(name):
        assert text
        assert case.request["question"] not in text
        assert len(text) <= len(case.request["context"])


def test_infiniretri_keeps_sentences_within_the_budget(keep_texts):
    for case, text in keep_texts("infini_retri"):
        assert text
        assert all(s.strip() in case.request["context"] for s in text.split(".") if s.strip())
        assert len(text) < len(case.request["context"])


def test_the_legacy_folder_has_the_same_tokens(tmp_path, proxy_folder):
    """For a text with spaces that 4.46 would clean up, and with several scripts."""
    text = "It 's here , they say .  Don't!\n\n東京タワー — naïve café\t1,234.5"
    script = (
        "import json, sys; sys.path.insert(0, sys.argv[1])\n"
        "from legacy_folder import write_legacy_folder\n"
        "from transformers import AutoTokenizer, AutoConfig\n"
        "folder = write_legacy_folder(sys.argv[2], sys.argv[3])\n"
        "tokenizer = AutoTokenizer.from_pretrained(folder); ids = tokenizer(sys.argv[4])\n"
        "print(json.dumps([sorted(ids), ids['input_ids'], tokenizer.decode(ids['input_ids']),"
        " AutoConfig.from_pretrained(folder).rope_theta, bool(tokenizer.chat_template)]))"
    )
    registry = PeerRegistry.load(PEERS_FOLDER)
    python = registry.python_path(registry.peers["llmlingua"])
    given = [PEERS_FOLDER / "adapters", proxy_folder, tmp_path / "old", text]
    done = subprocess.run([python, "-c", script, *given], capture_output=True, check=True)
    names, ids, back, theta, template = json.loads(done.stdout.splitlines()[-1])
    assert names == ["attention_mask", "input_ids"]
    assert ids == list(TextTokenizer.from_file(proxy_folder / "tokenizer.json").encode(text).ids)
    assert (back, theta, template) == (text, 100_000.0, True)


@pytest.mark.parametrize(
    ("name", "kind"), [("cross_encoder", "rank"), ("llmlingua2", "drop")], ids=["rank", "drop"]
)
def test_peers_with_weights_of_their_own_read_a_folder(
    keep_texts, tmp_path, proxy_folder, name, kind
):
    """Of random weights: that the folder is read, not what it knows."""
    registry = PeerRegistry.load(PEERS_FOLDER)
    python = registry.python_path(registry.peers[name])
    folder = tmp_path / "bert-base-multilingual-cased-tiny"
    subprocess.run([python, "-c", TINY, kind, proxy_folder, folder], check=True)
    for case, text in keep_texts(name, folder):
        assert 0 < len(text) < len(case.request["context"])
