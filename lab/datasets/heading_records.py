"""Labelled questions from documentation: a heading is the question, its section the evidence.

pages ─ sections ─► a heading taken out ─ other sections and pages beside it ─► record

Real manuals are what people retrieve from, and their evidence comes in runs: steps, settings, code
and notes below one heading. No labelled set has that shape in quantity.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tamis.compressors.features.bm25 import Collection
from tamis.probes.errors import BadInput
from tamis.service.files.html_text import html_text
from tamis.text.terms import words
from tamis.text.units.segment import segment
from tamis_lab.datasets.records import Record

PAGE_ENDINGS = (".html", ".htm", ".md", ".markdown")
_CHUNK_CHARS = 2_500
_MAX_UNITS = 30
_DISTRACTORS = 4
_TERM_LEVEL = 6
_ATX = re.compile(r"^(#{1,6})\s+(.*?)\s*#*\s*$")
_NUMBERING = re.compile(r"^(Chapter|Appendix|Section)?\s*[A-Z]?\d*(\.\d+)*[.:]?\s+(?=\S)")
_MARKS = re.compile(r"^\s*(?:#+\s|[-*+]\s|```\w*)\s*|\*\*|`", re.MULTILINE)
_GENERIC = frozenset(
    "about abstract also background caution contents description details example examples features "
    "file files general important index information introduction more name note notes options "
    "output overview parameters preface references related requirements result return see settings "
    "summary syntax synopsis table tip tips title usage values variables warning".split()
)


@dataclass(frozen=True, slots=True)
class Page:
    """One page of documentation as Markdown."""

    path: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class _Section:
    """A heading and the text below it, up to the next heading.

    Attributes:
        level: of the heading, 1 to 6. heading: its words. parent: those of the heading above it.
        start, body, stop: where heading and body begin, and where the body ends.
    """

    page: int
    level: int
    heading: str
    parent: str
    start: int
    body: int
    stop: int


def load_pages(folder: Path) -> list[Page]:
    """The HTML and Markdown pages under a folder, in the order of their paths.

    Raises:
        BadInput: there are none.
    """
    paths = sorted(p for p in folder.rglob("*") if p.suffix in PAGE_ENDINGS and p.is_file())
    pages = [_load_page(path, folder) for path in paths]
    found = [page for page in pages if page.text.strip()]
    if not found:
        raise BadInput(f"{folder} holds no page; give a folder with {', '.join(PAGE_ENDINGS)}")
    return found


def _load_page(path: Path, folder: Path) -> Page:
    raw = path.read_text("utf-8", errors="replace")
    title, text = "", raw
    if path.suffix in (".html", ".htm"):
        page = html_text(raw)
        title, text = page.title, page.text
    if not title and (first := _ATX.match(text.lstrip().split("\n", 1)[0])):
        title = first[2]
    return Page(str(path.relative_to(folder)), title, text)


def heading_records(pages: Sequence[Page], name: str, limit: int, seed: int = 0) -> list[Record]:
    """Questions made of headings, at most `limit`, drawn by hash from all pages.

    Half of the questions are asked where all headings are taken out, a third of them where Markdown
    has become plain lines, so that no mark tells where the evidence is. A third of those on longer
    sections have a body: the section's first sentence, which is then taken out, too.

    Args:
        name: of the set; part of each record's id.
    """
    sections = [section for number, page in enumerate(pages) for section in _sections(number, page)]
    words_of = [words(page.text[:20_000]) for page in pages]
    by_words = Collection.of_terms(words_of)
    order = sorted(sections, key=lambda s: _draw(f"{seed}:{name}:{pages[s.page].path}:{s.start}"))
    records: list[Record] = []
    asked: set[str] = set()
    for section in order:
        if len(records) == limit:
            break
        question = _question(section)
        if question is None or question.casefold() in asked or _is_left_out_term(section):
            continue
        record = _make_record(section, question, pages, sections, by_words, f"{name}:{len(asked)}")
        asked.add(question.casefold())
        if record is not None:
            records.append(record)
    return records


def _draw(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _sections(number: int, page: Page) -> Iterator[_Section]:
    """The sections of a page that have a body of their own."""
    above: list[tuple[int, str]] = []
    found: list[tuple[int, str, str, int, int]] = []
    at, in_code = 0, False
    for line in page.text.splitlines(keepends=True):
        in_code ^= line.startswith("```")
        if not in_code and (match := _ATX.match(line.rstrip("\n"))):
            level, heading = len(match[1]), _NUMBERING.sub("", match[2]).strip(" ¶#`*:")
            above = [(other, text) for other, text in above if other < level]
            parent = above[-1][1] if above else page.title
            above.append((level, heading))
            found.append((level, heading, parent, at, at + len(line)))
        at += len(line)
    stops = [start for _, _, _, start, _ in found[1:]] + [len(page.text)] * bool(found)
    for (level, heading, parent, start, body), stop in zip(found, stops, strict=True):
        if page.text[body:stop].strip():
            yield _Section(number, level, heading, parent, start, body, stop)


def _question(section: _Section) -> str | None:
    """The question of a section: its heading, with the one above it where it says little."""

    def content(text: str) -> list[str]:
        return [w for w in words(text) if w not in _GENERIC and len(w) > 2]

    heading = content(section.heading)
    if len(heading) >= 2 and len(section.heading) >= 10:
        return section.heading
    if heading and content(section.parent) and section.parent != section.heading:
        return f"{section.parent}: {section.heading}"
    return None


def _is_left_out_term(section: _Section) -> bool:
    """Terms of definition lists are many, and short: a quarter of them is enough."""
    return section.level == _TERM_LEVEL and _draw(section.heading)[0] > "3"


def _make_record(
    section: _Section,
    question: str,
    pages: Sequence[Page],
    sections: Sequence[_Section],
    by_words: Collection,
    key: str,
) -> Record | None:
    chance = random.Random(_draw(key))
    without_headings, plain = chance.random() < 0.5, chance.random() < 0.35
    opening = _opening(pages[section.page].text[section.body : section.stop])
    if opening and chance.random() < 0.35:
        question = f"{question}\n{opening.strip()}"
    else:
        opening = ""
    own_page = [s for s in sections if s.page == section.page]
    others = _other_pages(section, question, pages, by_words, chance)
    own_chunk = _chunk(own_page, section, chance)
    docs = [_document(pages, own_chunk, section, without_headings, plain, len(opening))]
    for other in others:
        theirs = [s for s in sections if s.page == other]
        if theirs:
            chunk = _chunk(theirs, chance.choice(theirs), chance)
            docs.append(_document(pages, chunk, None, without_headings, plain))
    gold = docs[0]["gold"]
    units = sum(len(doc["sents"]) for doc in docs)
    if len(docs) < 3 or not 1 <= len(gold) <= _MAX_UNITS or len(gold) * 4 > units:
        return None
    asked = set(words(question))
    for doc in docs:
        if chance.random() < 0.5 or len(asked & set(words(doc["title"]))) * 2 > len(asked):
            doc["title"] = ""
    chance.shuffle(docs)
    return {
        "id": key,
        "question": question,
        "answers": [],
        "answerable": True,
        "lang": "en",
        "docs": docs,
        "answer_spans": [],
        "gold_source": "heading",
    }


def _opening(body: str) -> str:
    """The first sentence of a section of four units or more and the space around it, or nothing."""
    pieces = segment(body[: 2 * _CHUNK_CHARS])
    if len(pieces) < 4 or pieces[0].kind != "sentence":
        return ""
    first = body[: pieces[0].stop]
    return first if 40 <= len(first.strip()) <= 400 else ""


def _other_pages(
    section: _Section,
    question: str,
    pages: Sequence[Page],
    by_words: Collection,
    chance: random.Random,
) -> list[int]:
    """Pages to stand beside: half of them share the most words with the question."""
    scores = by_words.score(words(question))
    like = sorted(range(len(pages)), key=lambda p: (-scores[p], p))
    asked = question.casefold()
    allowed = [p for p in like if p != section.page and asked not in pages[p].text.casefold()]
    near = allowed[: _DISTRACTORS // 2]
    far = allowed[_DISTRACTORS // 2 :]
    return [*near, *chance.sample(far, min(len(far), _DISTRACTORS - len(near)))]


def _chunk(own: Sequence[_Section], section: _Section, chance: random.Random) -> list[_Section]:
    """Neighbouring sections of a page around one of them, about `_CHUNK_CHARS` long."""
    at = own.index(section)
    first = last = at
    size = section.stop - section.start
    while size < _CHUNK_CHARS and (first > 0 or last + 1 < len(own)):
        before = first > 0 and (last + 1 == len(own) or chance.random() < 0.5)
        first, last = (first - 1, last) if before else (first, last + 1)
        new = own[first] if before else own[last]
        size += new.stop - new.start
    return list(own[first : last + 1])


def _document(
    pages: Sequence[Page],
    chunk: Sequence[_Section],
    gold: _Section | None,
    without_headings: bool,
    plain: bool,
    asked_chars: int = 0,
) -> Record:
    """Some sections as a document; the gold section stands there without its heading.

    Args:
        asked_chars: of the gold section's beginning, which the question took.
    """
    page = pages[chunk[0].page]
    text, span = "", (0, 0)
    for section in chunk:
        bare = without_headings or section is gold
        body = section.body + (asked_chars if section is gold else 0)
        part = page.text[body if bare else section.start : section.stop]
        part = part[: 2 * _CHUNK_CHARS].strip("\n")
        part = _MARKS.sub("", part) if plain else part
        if section is gold:
            span = (len(text), len(text) + len(part))
        text += part + "\n\n"
    text = text.rstrip() + "\n"
    sents = [list(piece.visible) for piece in segment(text)]
    inside = [i for i, (a, b) in enumerate(sents) if span[0] <= a and b <= span[1]]
    return {"title": page.title, "text": text, "sents": sents, "gold": inside}
