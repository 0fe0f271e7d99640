"""What other packages add: found by its metadata, loaded when it is used, named when it breaks."""

from __future__ import annotations

import subprocess
import sys
import warnings

import pytest

import tamis as front
from tamis.compressors import registry
from tamis.compressors.registry import LAB_METHODS, METHODS, method_class, method_info, method_names
from tamis.compressors.rules import Rules
from tamis.probes import plugins
from tamis.probes.errors import BadInput, BrokenPlugin, UnknownMethod
from tamis.probes.pooling import POOLINGS
from tests.plugin_kit import BACKWARDS, BACKWARDS_ENTRY, forget_plugins, install_package
from tests.plugin_kit import alone as alone
from tests.service.cli.cli_kit import SCRIPT, tamis

METHOD = """
from tamis.compressors.method import MethodInfo, ScoringMethod, best_unit_scores
from tamis.compressors.options import option
from tamis.compressors.types import Scores

print("tamis_shout is imported")

class Shout(ScoringMethod):
    info = MethodInfo("prefers capitals", "a test")
    letter: str = option("A", "The letter that counts.")

    def scores(self, question, passages, units):
        texts = [passages[unit.passage].text[unit.start : unit.stop] for unit in units]
        values = tuple(float(text.count(self.letter)) for text in texts)
        return Scores(values, best_unit_scores(values, units, len(passages)))


def shout(text: str) -> None:
    "Print a text in capitals."
    print(text.upper())
"""
ENTRY = {"tamis.methods": {"shout": "tamis_shout:Shout"}}
COMMAND = {"tamis.commands": {"shout": "tamis_shout:shout"}}
TEXTS = ["bananas are yellow. AAA is a grade. nobody knows."]


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs packages for one test."""
    yield lambda *package: install_package(tmp_path, monkeypatch, *package)
    forget_plugins()


def test_a_method_of_another_package_is_used_by_its_name(install):
    install("tamis-shout", METHOD, ENTRY)
    assert "shout" in method_names()
    assert method_class("shout").__module__ == "tamis_shout"
    assert METHODS.package_of("shout") == "tamis-shout"
    assert METHODS.package_of("lexical") == "tamis"
    kept = front.compress("?", TEXTS, max_tokens=5, method="shout", tokenizer="estimate")
    assert kept.text == "AAA is a grade."
    kept = front.compress(
        "?", TEXTS, max_tokens=5, method="shout", tokenizer="estimate", letter="b"
    )
    assert kept.text == "bananas are yellow."
    with pytest.raises(BadInput, match="did you mean 'letter'"):
        front.compress("?", TEXTS, max_tokens=5, method="shout", lettr="b")


def test_what_it_says_of_itself_is_read_without_importing_it(install, capsys):
    install("tamis-shout", METHOD, ENTRY)
    assert method_info("shout").summary == "prefers capitals"
    assert "tamis_shout" not in sys.modules
    assert method_class("shout").info == method_info("shout")
    assert capsys.readouterr().out == "tamis_shout is imported\n"


def test_nor_is_the_package_around_it(install, tmp_path):
    install("tamis-shout", None, {"tamis.methods": {"shout": "tamis_shout.deep:Shout"}})
    home = tmp_path / "tamis-shout/tamis_shout"
    home.mkdir()
    (home / "__init__.py").write_text("raise RuntimeError('imported')")
    (home / "deep.py").write_text(METHOD)
    assert method_info("shout").summary == "prefers capitals"
    with pytest.raises(BrokenPlugin, match="RuntimeError: imported"):
        method_class("shout")


def test_an_order_of_another_package_is_a_rule(install):
    install("tamis-backwards", BACKWARDS, BACKWARDS_ENTRY)
    rules = Rules(order="backwards")
    texts = ["first it rained.", "then it snowed.", "at last the sun shone."]
    told = {"method": "lead", "tokenizer": "estimate", "ratio": 0.7}
    assert front.compress("?", texts, rules=rules, **told).text.startswith("then")


@pytest.mark.parametrize(
    ("code", "value", "why"),
    [
        (None, "tamis_shout:Shout", "there is no module tamis_shout"),
        ("import not_there", "tamis_shout:Shout", "ModuleNotFoundError: No module named"),
        ("raise RuntimeError('a\\nb')", "tamis_shout:Shout", "RuntimeError: a)"),
        ("Other = 1", "tamis_shout:Shout", "AttributeError"),
        ("Shout = 1", "tamis_shout:Shout", "is no class with an `info` of type MethodInfo"),
        ("class Shout: info = 'x'", "tamis_shout:Shout", "is no class with an `info`"),
    ],
)
def test_a_broken_package_is_named_and_nothing_else_fails(install, code, value, why):
    install("tamis-shout", code, {"tamis.methods": {"shout": value}})
    with pytest.warns(plugins.PluginWarning, match="shout of the package tamis-shout"):
        names = method_names(None)
    assert "shout" not in names
    assert set(names) >= set(METHODS.own_names())
    with pytest.raises(BrokenPlugin) as refused:
        method_info("shout")
    assert why in str(refused.value)
    assert "pip uninstall tamis-shout" in str(refused.value)
    short = tamis("compress", "-", "-q", "?", "--method", "shout", stdin="A. B.")
    assert short.exit_code == 2
    assert "tamis-shout" in short.stderr
    assert "Traceback" not in short.stderr


def test_what_cannot_be_imported_is_not_served_and_named(install):
    """Its info is read from its source, so that only its import tells."""
    install("tamis-shout", METHOD.replace("print(", "import not_there\nprint("), ENTRY)
    assert method_info("shout").summary == "prefers capitals"
    with pytest.warns(plugins.PluginWarning, match="tamis-shout"):
        assert not registry.ships_for("shout")


def test_tamis_and_the_first_package_keep_their_names(install):
    install("tamis-b", METHOD, {"tamis.methods": {"shout": "tamis_b:Shout"}})
    install("tamis-a", METHOD, {"tamis.methods": {"shout": "tamis_a:Shout"}})
    with pytest.warns(plugins.PluginWarning, match="of the package tamis-b is left out"):
        assert METHODS.package_of("shout") == "tamis-a"
    install("tamis-c", METHOD, {"tamis.methods": {"lexical": "tamis_c:Shout"}})
    with pytest.warns(plugins.PluginWarning, match="tamis has a method of that name"):
        method_names()
    assert METHODS.package_of("lexical") == "tamis"
    assert method_class("lexical").__name__ == "Lexical"


def test_the_command_line_warns_in_a_line(install):
    install("tamis-shout", "import not_there", ENTRY)
    script = f"import sys; sys.path = {sys.path!r}; sys.argv = ['tamis', 'methods']; {SCRIPT}"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0
    assert "lexical" in done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("tamis: warning: shout of the package tamis-shout cannot be loaded")


def test_a_command_is_shown_with_its_package_and_loaded_when_it_runs(install):
    install("tamis-shout", METHOD, COMMAND)
    shown = " ".join(tamis("--help").stdout.split())
    assert "shout What tamis-shout adds" in shown
    assert "tamis_shout" not in sys.modules
    done = tamis("shout", "aloud")
    assert (done.exit_code, done.stdout) == (0, "tamis_shout is imported\nALOUD\n")
    assert "Print a text in capitals." in tamis("shout", "--help").stdout


def test_a_pipe_looks_for_no_package():
    """It starts with every command of an agent; to read what is installed would double that."""
    ask = "import atexit, sys; atexit.register(lambda: print('importlib.metadata' in sys.modules))"
    script = f"{ask}; sys.argv = ['tamis', 'pipe']; {SCRIPT}"
    done = subprocess.run(
        [sys.executable, "-c", script],
        input="one\ntwo\n",
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout == "one\ntwo\nFalse\n"


@pytest.mark.parametrize("code", ["import not_there", "shout = 3", "class shout: pass"])
def test_a_broken_command_is_named_and_the_others_run(install, code):
    install("tamis-shout", code, COMMAND)
    assert tamis("--help").exit_code == 0
    done = tamis("shout", "aloud")
    assert done.exit_code == 2
    assert "shout of the package tamis-shout cannot be loaded" in done.stderr
    assert "Traceback" not in done.stderr
    assert tamis("methods").exit_code == 0


def test_a_command_of_tamis_keeps_its_name(install):
    install("tamis-shout", METHOD, {"tamis.commands": {"methods": "tamis_shout:shout"}})
    assert "question_rows" in tamis("methods").stdout


@pytest.mark.usefixtures("alone")
def test_what_the_lab_has_is_answered_with_the_line_that_installs_it():
    for name in LAB_METHODS:
        with pytest.raises(UnknownMethod, match=r"install it with: pip install \./lab in a clone"):
            method_info(name)
    with pytest.raises(UnknownMethod, match="pip install"):
        POOLINGS.load("ditto")
    with pytest.raises(BadInput, match="attnrank is not installed: pip install"):
        Rules(order="attnrank")
    for words in (("lab",), ("lab", "bench", "speed")):
        done = tamis(*words)
        assert done.exit_code == 2
        assert "pip install ./lab" in " ".join(done.stderr.replace("│", "").split())
    asked = tamis("rerank", "-", "-q", "?", "--method", "lexicl", stdin="A text.")
    assert "did you mean 'lexical'" in asked.stderr


class Given(registry.Method):
    """No method: it says what it is and scores nothing."""

    info = registry.MethodInfo("nothing", "a test", kind="ordering")


def test_a_method_is_given_as_a_class_or_an_instance_and_registered_nowhere(install):
    install("tamis-shout", METHOD, {})
    from tamis_shout import Shout

    told = {"max_tokens": 5, "tokenizer": "estimate"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one = front.compress("?", TEXTS, method=Shout("b"), **told)
        two = front.compress("?", TEXTS, method=Shout("b"), **told)
        made = front.compress("?", TEXTS, method=Shout, letter="b", **told)
        ranked = front.rerank("?", ["a b.", "b b."], method=Shout("b"))
    assert one.text == two.text == made.text == "bananas are yellow."
    assert one.method == "Shout"
    assert [result.index for result in ranked.results] == [1, 0]
    assert "shout" not in method_names(None)
    with pytest.raises(BadInput, match="Shout was built already, and letter would change nothing"):
        front.compress("?", TEXTS, method=Shout(), letter="b", **told)
    with pytest.raises(BadInput, match="Given is a method of ordering"):
        front.compress("?", TEXTS, method=Given(), **told)
    with pytest.raises(UnknownMethod, match="method is 5"):
        front.compress("?", TEXTS, method=5, **told)


def test_an_instance_is_not_kept_by_tamis(install):
    import gc
    import weakref

    install("tamis-shout", METHOD, {})
    from tamis_shout import Shout

    method = Shout("b")
    front.compress("?", TEXTS, method=method, max_tokens=5, tokenizer="estimate")
    front.rerank("?", TEXTS, method=method)
    known = weakref.ref(method)
    del method
    gc.collect()
    assert known() is None
