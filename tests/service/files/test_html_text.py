"""HTML as what it shows: blocks, what is left out, and pages that are hostile."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamis.probes.errors import BadInput
from tamis.service.files.html_text import html_text

SAMPLE = (Path(__file__).parent / "samples" / "keys.html").read_text("utf-8")


def test_a_page_is_what_it_shows_without_navigation_scripts_and_footer():
    page = html_text(SAMPLE)
    assert page.title == "Keys of the depot"
    assert page.text == (
        "# Keys\n\n"
        "Every signing key of the depot is rotated after ninety days, and a key that was lost is "
        "revoked within an hour of the report.\n\n"
        "| Key | Owner |\n| --- | --- |\n| signing | Ada & Grace |\n| backup | Edsger |\n\n"
        "## Revoking\n\nAsk the owner of the key first.\n\n"
        "```\ndepot revoke   signing\n  --now\n```\n\n"
        "1. Stop the service.\n2. Revoke the key.\n\n"
        "## Rooms\n\n"
        "The rooms of the depot are painted in spring, when the café is closed.\n"
    )
    assert dict(page.left_out) == {
        "scripts and styles": 2,
        "navigation": 2,  # the menu, and the sign beside the heading
        "headers and footers": 2,
    }


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>a<p>b", "a\n\nb\n"),
        ("<ul><li><p>one</p></li><li>two<ul><li>in</li></ul></li></ul>", "- one\n- two\n  - in\n"),
        (
            "<table><tr><th>k<th>v</tr><tr><td>1<td>2</tr></table>",
            "| k | v |\n| --- | --- |\n| 1 | 2 |\n",
        ),
        ("<table><tr><th>k<td>v</tr></table>", "| k | v |\n"),
        ("<table><tr><td><pre>a\nb</pre><td>c</table>", "```\na\nb\n```\n\nc\n"),
        ("<table><tr><td><table><tr><td>a<td>b</table><td>c</table>", "| a | b |\n\nc\n"),
        ("<dl><dt>a term</dt><dd>what it is</dd></dl>", "###### a term\n\nwhat it is\n"),
        ("a<br>b &amp; c", "a\nb & c\n"),
        ("<pre>a\n\n\n  b</pre>", "```\na\n\n\n  b\n```\n"),
        ("<pre>```\na\n```</pre>", "````\n```\na\n```\n````\n"),
        ("<p>see <a href='/x'>the\n page</a>.", "see the page.\n"),
        ("<script>x = '<p>'</script>", ""),
        ("<p>a<p hidden>b<p style='x:y; DISPLAY: none'>c<div style='display:none'>d</div>", "a\n"),
        ("<p>a<p hidden=until-found>b<div role=tabpanel hidden>c</div>", "a\n\nb\n\nc\n"),
        (
            "<article><header><h1>T</h1></header>x<footer>note</footer></article>",
            "# T\n\nx\nnote\n",
        ),
        ("<form><p>A page in one form.</p><button>Go</button></form>", "A page in one form.\n"),
        ("<nav>only <a>this</a></nav>", "only this\n"),
        ("<p>\ud800x", "\ufffdx\n"),
        ("", ""),
    ],
)
def test_html_that_people_write(html: str, text: str):
    assert html_text(html).text == text


@given(st.text(alphabet="<>/=\"' abp\n&;!-", max_size=200) | st.text(max_size=80))
def test_any_text_is_read_and_shows_no_tag_of_its_own(html: str):
    page = html_text(html)
    assert page.text == "" or page.text.endswith("\n")


@pytest.mark.parametrize(
    "html",
    [
        "<div>" * 100_000,
        "".join(f"<b class={i}>" for i in range(100_000)),
        "".join(f"<b class={i}><p>" for i in range(100_000)),
        "<table>x<td>" * 100_000,
        "<p " + " ".join(f"a{i}=1" for i in range(100_000)) + ">x",
        "<p " + " ".join(f"a{i}" for i in range(100_000)) + ">x",
    ],
    ids=["deep", "formats", "formats in paragraphs", "tables", "attributes", "bare attributes"],
)
def test_a_page_that_would_take_the_parser_minutes_is_refused_at_once(html: str):
    began = time.process_time()
    with pytest.raises(BadInput, match=r"give it as plain text$"):
        html_text(html)
    assert time.process_time() - began < 5


def test_a_page_nested_to_the_limit_is_read_deeper_than_python_can_call():
    assert html_text("<div>" * 1_999 + "x").text == "x\n"


def test_unclosed_items_and_paragraphs_are_no_nesting():
    assert html_text("<p>x" * 5_000 + "<ul>" + "<li>y" * 5_000).text.count("y") == 5_000
