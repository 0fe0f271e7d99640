"""The page at `/`, in a real browser, over the real service and the real model."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.http.app_kit import served, wait_until

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(not (BROWSER and DRIVER), reason="no chromium and chromedriver here"),
]
SHOT = Path(__file__).parents[3] / "docs" / "page.png"
EXPECTED = "The light of Kerlan was first lit on 4 May 1864, in the presence of the prefect."
FRENCH = "Le café de la gare 🚂 ouvre à six heures. Le chat dort.\r\n\r\nLa pluie tombe."


@pytest.fixture(scope="module")
def service(proxy_folder) -> Iterator[str]:
    from tamis.compressors.registry import layers_needed, load_proxy

    reader = load_proxy(proxy_folder, layers_needed("question_rows"))
    with served(reader) as running:
        yield running.url


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "window-size=1100,1300"):
        options.add_argument(f"--{flag}")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_script_timeout(20)
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, service):
    """The page, just opened, with a clipboard that tests can read."""
    browser.get(service)
    browser.execute_script(
        "Object.defineProperty(navigator, 'clipboard', {configurable: true, value:"
        " {writeText: async (text) => { window.copied = text }}})"
    )
    wait_until(lambda: len(options_of(browser)) > 3)
    yield browser
    errors = [row for row in browser.get_log("browser") if row["level"] == "SEVERE"]
    assert not errors


def find(page, selector):
    return page.find_element("css selector", selector)


def options_of(page):
    return page.find_elements("css selector", "#method option")


def kept(page):
    return [mark.text for mark in page.find_elements("css selector", "mark.kept")]


def exact(page):
    """The count of tokens, once the service itself has counted."""
    wait_until(lambda: find(page, "#saved").text and "≈" not in find(page, "#saved").text)
    return int(find(page, "#saved").text.split(" of ")[0].replace(",", ""))


def example(page):
    find(page, "#example").click()
    wait_until(lambda: kept(page))
    exact(page)


def slide_to(page, tokens):
    page.execute_script(
        "const b = document.getElementById('budget'); b.value = arguments[0];"
        "b.dispatchEvent(new Event('input'))",
        tokens,
    )


def test_the_example_is_compressed_and_matches_the_readme(page):
    example(page)
    assert EXPECTED in kept(page)
    assert len(kept(page)) < len(page.find_elements("css selector", "mark"))
    assert "saved" in find(page, "#saved").text
    assert "holds an answer" in find(page, "#answerability").text
    assert page.save_screenshot(str(SHOT))
    assert SHOT.stat().st_size > 20_000


def test_the_slider_chooses_at_once_and_the_service_confirms_it(page):
    example(page)
    before = kept(page)
    slide_to(page, 30)
    at_once = kept(page)  # no waiting: the scores are here
    assert at_once == [EXPECTED] != before
    assert exact(page) <= 30
    assert kept(page) == at_once
    slide_to(page, 10_000)
    assert len(kept(page)) == len(page.find_elements("css selector", "mark"))


def test_a_pasted_document_keeps_every_character_and_marks_fall_on_its_sentences(page):
    page.execute_script("document.getElementById('paste').value = arguments[0]", FRENCH)
    find(page, "#question").send_keys("À quelle heure ouvre le café ?")
    find(page, "#go").click()
    wait_until(lambda: kept(page))
    shown = page.execute_script("return document.querySelector('.text').textContent")
    assert shown == FRENCH.replace("\r\n", "\n")  # as a textarea hands it over
    marks = [m.text for m in page.find_elements("css selector", "mark")]
    assert marks[0] == "Le café de la gare 🚂 ouvre à six heures."


def test_a_score_is_shown_on_hover_and_to_the_keyboard(page):
    example(page)
    page.execute_script("document.getElementById('result').focus()")
    from selenium.webdriver.common.keys import Keys

    page.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert page.switch_to.active_element.tag_name == "mark"
    tooltip = find(page, "#tip").text
    assert tooltip.startswith("[1:1] probability 0.")
    assert "tokens" in tooltip
    page.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert find(page, "#tip").text.startswith("[1:2]")
    webdriver.ActionChains(page).move_to_element(find(page, "mark.kept")).perform()
    assert "kept" in find(page, "#tip").text


def test_what_is_copied_is_the_prompt_and_requests_that_run(page, service):
    example(page)
    tokens = exact(page)
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
    example(page)
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
