"""The page at `/`, in a real browser, over the real service."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.service.http.app_kit import Gated, pointing, served, wait_until

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="no chromium and chromedriver here"
)
EXPECTED = "The light of Kerlan was first lit on 4 May 1864, in the presence of the prefect."
FRENCH = "Le café de la gare 🚂 ouvre à six heures. Le chat dort.\r\n\r\nLa pluie tombe."


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    """A service whose method `lexical` is the real one; nothing is asked of its scripted reader."""
    with served(pointing()) as running:
        yield running.url


@pytest.fixture(scope="module")
def model_service(proxy_folder) -> Iterator[str]:
    from tamis.compressors.registry import layers_needed, load_proxy

    reader = load_proxy(proxy_folder, layers_needed("question_rows"))
    with served(reader, warmup=False) as running:
        yield running.url


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "window-size=1100,1300"):
        options.add_argument(f"--{flag}")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_script_timeout(120)
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, service):
    yield from opened(browser, service)


@pytest.fixture
def model_page(browser, model_service):
    """The page of a service that reads with the default proxy."""
    yield from opened(browser, model_service)


def opened(browser, url):
    """The page, just opened, with a clipboard that tests can read."""
    browser.get(url)
    browser.execute_script(
        "Object.defineProperty(navigator, 'clipboard', {configurable: true, value:"
        " {writeText: async (text) => { window.copied = text }}})"
    )
    wait_until(lambda: options_of(browser))
    yield browser
    errors = [row for row in browser.get_log("browser") if row["level"] == "SEVERE"]
    assert not errors


def find(page, selector):
    return page.find_element("css selector", selector)


def options_of(page):
    return page.find_elements("css selector", "#method option")


def kept(page):
    return [mark.text for mark in page.find_elements("css selector", "mark.kept")]


def example(page, method="question_rows"):
    choose(page, method)
    find(page, "#example").click()
    wait_for_result(page)


def choose(page, method):
    page.execute_script("document.getElementById('method').value = arguments[0]", method)


def compress(page, question, *texts, method="lexical"):
    """Adds the texts as documents and reads them, by default without the model."""
    choose(page, method)
    for text in texts:
        page.execute_script("document.getElementById('paste').value = arguments[0]", text)
        find(page, "#add").click()
    find(page, "#question").send_keys(question)
    find(page, "#go").click()
    wait_for_result(page)


def wait_for_result(page):
    wait_until(lambda: "tokens in" in find(page, "#status").text, 180)


def stops(page):
    """The number of the slider's stops."""
    return int(find(page, "#budget").get_attribute("max")) + 1


def shown_at_every_stop(page, ask=None):
    """For each stop the budget, the kept units, the prompt and its tokens, as the page has them.

    With `ask`, a body for `/v1/explain`, behind them what the service answers under that budget,
    and only of stops under which it reads the same units.
    """
    return page.execute_async_script(
        """
        const [ask, done] = arguments;
        (async () => {
        const budget = document.getElementById('budget'), rows = [];
        for (let stop = 0; stop <= Number(budget.max); stop++) {
          budget.value = stop;
          budget.dispatchEvent(new Event('input'));
          document.querySelector('[data-copy=prompt]').click();
          const row = [
            Number(document.getElementById('tokens').value),
            [...document.querySelectorAll('mark.kept')].map(m => Number(m.dataset.unit)),
            window.copied,
            Number(document.getElementById('saved').textContent.split(' of ')[0].replace(',', '')),
          ];
          if (ask) {
            const body = JSON.stringify({...ask, max_tokens: row[0]});
            const headers = {'Content-Type': 'application/json'};
            const answer = await (
              await fetch('/v1/explain', {method: 'POST', body, headers})).json();
            const read = answer.results.flatMap(d => d.units);
            // under a small budget long units are read in parts
            if (read.length !== document.querySelectorAll('mark[data-unit]').length) continue;
            const units = read.filter(u => u.kept);
            row.push(units.map(u => u.index), answer.text, answer.usage.output_tokens);
          }
          rows.push(row);
        }
        done(rows);
        })();
        """,
        ask,
    )


def documents_of(page):
    return page.execute_script("return fetch('/assets/example.json').then(answer => answer.json())")


@pytest.mark.model
@pytest.mark.timeout(600)
def test_the_example_keeps_its_answer_at_every_budget_that_has_room(model_page):
    page = model_page
    example(page)
    seen, last = set(), set()
    for budget, units, prompt, _ in shown_at_every_stop(page):
        seen.add(tuple(units))
        if budget >= 60:
            assert EXPECTED in prompt, budget
            assert "Anne Le Goff" in prompt, budget
        last = set(units)
    assert len(seen) >= 12  # it goes on getting longer
    assert len(last) == len(page.find_elements("css selector", "mark"))
    assert "holds an answer" in find(page, "#answerability").text


@pytest.mark.parametrize("cited", [False, True])
def test_page_and_service_keep_the_same_at_every_budget(page, cited):
    if cited:
        find(page, "#citations").click()
    example(page, "lexical")
    asked = documents_of(page)
    body = {"question": asked["question"], "documents": asked["documents"], "model": "lexical"}
    if cited:
        body["citations"] = "[{doc}]"
    compared = shown_at_every_stop(page, body)
    assert min(stops(page), len(compared)) > 40
    for budget, *here_and_there in compared:
        assert here_and_there[:3] == here_and_there[3:], budget


def test_the_slider_works_at_once_and_asks_nothing_of_the_service(page):
    requests = "return performance.getEntriesByType('resource').length"
    with served(pointing()) as gone:
        page.get(gone.url)
        wait_until(lambda: options_of(page))
        compress(page, "Which lamp is green?", long_manual(4_000))
        before = page.execute_script(requests)
    assert len({len(units) for _, units, *_ in shown_at_every_stop(page)}) > 20
    assert page.execute_script(requests) == before


def test_a_budget_that_is_typed_is_the_budget(page):
    from selenium.webdriver.common.keys import Keys

    compress(page, "Which lamp is green?", long_manual(20_000))
    tokens = find(page, "#tokens")
    tokens.send_keys(Keys.CONTROL, "a", Keys.NULL, "1234", Keys.TAB)
    wait_until(lambda: "Read" in find(page, "#status").text, 180)
    assert tokens.get_attribute("value") == "1234"
    assert 1100 <= int(find(page, "#saved").text.split(" of ")[0].replace(",", "")) <= 1234
    find(page, "[data-copy=curl]").click()
    assert '"max_tokens": 1234' in page.execute_script("return window.copied")


def long_manual(characters):
    """A Markdown page: headings, prose, lists, a table and long lines of code."""
    sections = []
    for n in range(1 + characters // 450):
        sections.append(
            f"## Section {n}\n\nLamp number {n} is kept in hall {n % 17}, see [the *map*]"
            f"(https://example.org/{n}). Its colour is {'green' if n == 30 else 'white'}. "
            "It is cleaned with `soap --mild` in spring, and **never** in winter.\n\n"
            f"- Switch {n} is on the left.\n- Fuse {n} is in the cellar.\n\n"
            f"```\nlamp --number {n} --path /very/long/path{'/without/blanks' * 9}\n```\n\n"
            f"| hour | hall | note |\n|---|---|---|\n| {n % 24} | {n % 17} | on |\n"
        )
    return "# Lamps\n\n" + "\n".join(sections)


@pytest.mark.parametrize("width", [1280, 800, 390])
def test_nothing_overflows_with_a_long_document_at_any_width(page, width):
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    try:
        page.refresh()
        wait_until(lambda: options_of(page))
        manual = long_manual(50_000)
        assert len(manual) >= 50_000
        compress(page, "Which lamp is green?", manual, "x" * 3_000)
        for view in ("folded", "all", "kept"):
            set_view(page, view)
            assert page.execute_script("return innerWidth") == width
            assert page.execute_script("return document.documentElement.scrollWidth") <= width
            wide = page.execute_script(
                "return [...document.querySelectorAll('body *')].filter(e => !e.closest('.table')"
                " && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML)"
            )
            assert wide == []
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def set_view(page, view):
    page.execute_script(
        "const v = document.getElementById('view'); v.value = arguments[0];"
        "v.dispatchEvent(new Event('change'))",
        view,
    )


def visible(page):
    """How many marks are to be seen, and how many of them are kept."""
    return page.execute_script(
        "const all = [...document.querySelectorAll('mark')].filter(m => m.getClientRects().length);"
        "return [all.length, all.filter(m => m.classList.contains('kept')).length]"
    )


def test_a_long_document_is_folded_and_only_what_was_kept_can_be_shown(page):
    compress(page, "Which lamp is green?", long_manual(20_000))
    marks = len(page.find_elements("css selector", "mark"))
    folded, kept_units = visible(page)
    assert folded < marks / 2
    fold = find(page, ".fold")
    assert "left out" in fold.text
    page.execute_script("arguments[0].click()", fold)
    assert visible(page)[0] > folded
    set_view(page, "kept")
    assert visible(page) == [kept_units, kept_units]
    set_view(page, "all")
    assert visible(page)[0] == marks


def test_the_next_kept_sentence_and_the_map_are_one_step_away(page):
    compress(page, "Which lamp is green?", long_manual(20_000))
    focused = "return Number(document.activeElement.dataset.unit ?? -1)"
    order = page.execute_script(
        "return [...document.querySelectorAll('mark.kept')].map(m => Number(m.dataset.unit))"
    )
    for expected in order[:3]:
        page.execute_script("document.getElementById('next').click()")
        assert page.execute_script(focused) == expected
    page.execute_script("document.getElementById('previous').click()")
    assert page.execute_script(focused) == order[1]
    box = page.execute_script("return document.activeElement.getBoundingClientRect().top")
    assert 0 < box < page.execute_script("return innerHeight")
    page.execute_script(
        "const m = document.getElementById('map'); m.dispatchEvent(new MouseEvent('click',"
        " {clientX: m.getBoundingClientRect().right - 2}))"
    )
    assert page.execute_script(focused) > order[-1]


def test_markdown_reads_as_it_is_meant_and_loses_no_character(page):
    manual = long_manual(2_000)
    compress(page, "Which lamp is green?", manual)
    set_view(page, "all")
    body = find(page, ".text")
    assert "Lamp number 1 is kept in hall 1, see the" in body.text
    for markup in ("](", "```", "|---", "**", "## "):
        assert markup not in body.text
    assert find(page, ".text code").text == "soap --mild"
    assert find(page, ".text a").get_attribute("href") == "https://example.org/0"
    assert len(page.find_elements("css selector", ".text .cell")) >= 6
    assert body.get_attribute("textContent") == manual
    page.execute_script("document.getElementById('written').click()")
    assert "**never**" in find(page, ".text").text
    assert find(page, ".text").get_attribute("textContent") == manual


def test_the_source_of_a_web_page_is_read_as_what_it_shows(page):
    source = (
        "<!doctype html><html><body><nav>Home</nav><h1>Lamps</h1><p>The <b>green</b> lamp &amp; "
        "its fuse are in the cellar.</p><script>alert(1)</script></body></html>"
    )
    compress(page, "Where is the green lamp?", source)
    text = find(page, ".text").text
    assert "green lamp & its fuse" in text
    assert "alert" not in text
    assert "<b>" not in text


def test_a_file_that_is_no_text_is_refused_with_the_way_out(page):
    page.execute_script(
        "const bytes = new Uint8Array([0x25, 0x50, 0x44, 0x46, 0x2d, 0xff]);"
        "const data = new DataTransfer(); data.items.add(new File([bytes], 'paper.pdf'));"
        "document.dispatchEvent(new DragEvent('drop', {dataTransfer: data, cancelable: true}))"
    )
    wait_until(lambda: "is a PDF" in find(page, "#status").text)
    assert "tamis compress" in find(page, "#status").text
    assert find(page, "#status").get_attribute("class") == "error"


def test_progress_is_shown_while_it_reads_and_reading_can_be_stopped(page):
    gated = Gated(pointing(), batches=2)
    with served(gated, warmup=False, batch_tokens=60) as slow:
        page.get(slow.url)
        wait_until(lambda: options_of(page))
        find(page, "#example").click()
        wait_until(lambda: find(page, "#status").text.startswith("Reading: "))
        assert 0 < page.execute_script("const p = reading; return p.value / p.max") < 1
        find(page, "#stop").click()
        wait_until(lambda: find(page, "#status").text == "Stopped.")
        assert find(page, "#go").is_enabled()
        gated.open()


def test_a_pasted_document_keeps_every_character_and_marks_fall_on_its_sentences(page):
    compress(page, "À quelle heure ouvre le café ?", FRENCH)
    shown = page.execute_script("return document.querySelector('.text').textContent")
    assert shown == FRENCH.replace("\r\n", "\n")  # as a textarea hands it over
    marks = [m.text for m in page.find_elements("css selector", "mark")]
    assert marks[0] == "Le café de la gare 🚂 ouvre à six heures."


@pytest.mark.model
@pytest.mark.timeout(600)
def test_a_score_is_shown_on_hover_and_to_the_keyboard(model_page):
    from selenium.webdriver.common.keys import Keys

    page = model_page
    example(page)
    page.execute_script("document.getElementById('result').focus()")
    page.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert page.switch_to.active_element.tag_name == "mark"
    tooltip = find(page, "#tip").text
    assert tooltip.startswith("[1:1] probability 0.")
    assert "tokens" in tooltip
    page.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert find(page, "#tip").text.startswith("[1:2]")
    webdriver.ActionChains(page).move_to_element(find(page, "mark.kept")).perform()
    assert "kept" in find(page, "#tip").text


def test_methods_are_in_plain_words_and_the_default_is_marked_and_first(page):
    names = [option.text for option in options_of(page)]
    assert names[0].endswith("(question_rows), the default")
    assert sum("default" in name for name in names) == 1
    assert [re.search(r"\((\w+)\)", name)[1] for name in names] == [
        *("question_rows", "embedding", "lexical")
    ]
    assert any("no model" in name and "(lexical)" in name for name in names)


def test_what_is_copied_is_the_prompt_and_requests_that_run(page, service):
    example(page, "lexical")
    tokens = int(find(page, "#saved").text.split(" of ")[0].replace(",", ""))
    find(page, "[data-copy=prompt]").click()
    wait_until(lambda: page.execute_script("return window.copied"))
    prompt = page.execute_script("return window.copied")
    assert EXPECTED in prompt
    find(page, "[data-copy=curl]").click()
    wait_until(lambda: "curl" in page.execute_script("return window.copied"))
    command = page.execute_script("return window.copied")
    answer = json.loads(subprocess.run(["bash", "-c", command], capture_output=True).stdout)
    assert answer["text"] == prompt
    assert answer["usage"]["output_tokens"] == tokens
    for language in ("python", "langchain"):
        find(page, f"[data-copy={language}]").click()
        wait_until(lambda: "import" in page.execute_script("return window.copied"))
        code = page.execute_script("return window.copied")
        done = run(code)
        assert done.returncode == 0, done.stderr
        assert EXPECTED in done.stdout
        page.execute_script("window.copied = ''")


def run(code):
    import sys

    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_the_paper_in_both_schemes(page, scheme):
    page.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
    )
    ink, paper = page.execute_script(
        "const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]"
    )
    assert contrast(ink, paper) >= 7


def contrast(one, other):
    """WCAG 2.1: relative luminance of the lighter over the darker."""
    light = sorted((luminance(one), luminance(other)))
    return (light[1] + 0.05) / (light[0] + 0.05)


def luminance(colour):
    channels = [int(c) / 255 for c in colour.split("(")[1].rstrip(")").split(",")[:3]]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def test_every_control_has_a_name_and_nothing_comes_from_elsewhere(page, service):
    example(page, "lexical")
    nameless = page.execute_script(
        "return [...document.querySelectorAll('button, input, select, textarea')].filter(e =>"
        " !e.textContent.trim() && !e.ariaLabel && !e.labels?.length).map(e => e.id)"
    )
    assert nameless == []
    sources = page.execute_script(
        "return performance.getEntriesByType('resource').map(e => e.name)"
    )
    assert sources
    assert all(source.startswith(service) for source in sources)


def test_without_documents_it_says_what_to_do(page):
    find(page, "#question").send_keys("Who?")
    find(page, "#go").click()
    wait_until(lambda: "Add a document first" in find(page, "#status").text)
