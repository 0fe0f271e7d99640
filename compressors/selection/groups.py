"""Which units belong together, so that what is kept answers by itself.

    lead        what is below it                                  shown with its lead
    heading     all up to the next heading of its level           items and tables, where it fits
    question    the paragraph after it, or all below a heading    where it fits
    turn        the replies, until whoever asked speaks again     where it fits
                (also in JSON, where objects have a user)
    lead-in     the list, code, table or paragraph after it       always; a paragraph where it fits
    header      the rows of its table                             always
    term        the deeper lines right below, which define it     always, with its other names
    comment     the settings or the code right below it           where it fits
    reference   its footnote, below                               always
    exception   the frames of its stack                           always
    name        the other lines of its record                     where it fits

A lead says nothing by itself: it is kept for what is below it, and that inherits its score, for the
choice alone. An item with items below it, a short numbered one with deeper text, a definition of
which code goes on, the name of a default value, and the first line of a log's entry are no leads,
but what follows is shown with them. A question, a turn or a lead-in of less than half the value of
what is below it waits for the room that is left. In a single passage a sentence that begins with an
"It" or "Otherwise" and the one that it speaks of have a part of each other's worth. Steps of a list
have a part of the worth of the best of them, other items of that of the second best.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from heapq import nlargest
from itertools import chain, groupby
from typing import Literal

from tamis.probes.interruption import check_interruption
from tamis.probes.segmentation.lines import (
    FEW_WORDS,
    INTRODUCES,
    NUMBERED_PART,
    count_words,
    ends_open,
    has_function_word,
    has_stop,
    indent_of,
    is_after_text,
    is_empty_quote,
    line_starts,
)
from tamis.probes.segmentation.markdown import (
    CLAUSE,
    CUE,
    SAID,
    begins_entry,
    heading_levels,
    speaker_of,
)
from tamis.probes.segmentation.records import find_records
from tamis.probes.text import KINDS, Passage, Unit

Lead = Literal[
    "heading",
    "question",
    "turn",
    "lead_in",
    "header",
    "term",
    "item",
    "code",
    "name",
    "entry",
    "frame",
    "record",
]

_END = r"[*_\"'”’»)\]`\s]*$"
_ASKS, _INTRODUCES = re.compile(rf"[?？؟]{_END}"), re.compile(rf"[{''.join(INTRODUCES)}]{_END}")
_ASKS_INSIDE = re.compile(r"[?？؟][*_\"'”’»)\]]*(?:\s[^?]{0,60})?$")
_QUESTION_WORD = re.compile(
    r"\s*(?:(?:and|but|so|ok|also)\s+)?(?:how|what|when|where|who|whose|why|which|do|does|did|can|could"
    r"|is|are|was|were|will|would|should|shall|has|have)\b",
    re.IGNORECASE,
)
_CAPTION = re.compile(
    r"\([^()]{3,120}\)|(?:Table|Tab\.|Exhibit|Tabelle|Tableau|Tabla)\s?\d{1,3}\b.{0,160}"
    r"|(?:All )?(?:amounts|figures|values|prices)(?: are)? in .{1,60}",
    re.IGNORECASE | re.DOTALL,
)
"""What says what a table shows, or in which units, right above it."""
_RUN_IN = re.compile(
    r"\*\*[^*]{1,80}\*\*[:.]?"
    rf"|{NUMBERED_PART}\s?\d[\w.]{{0,8}}(?:\W{{1,4}}[^\W\d][^.:;!?\n]{{1,60}}\.)?"
    r"|\d{1,2}(?:\.\d{1,2}){0,2}\.? [A-ZÄÖÜÉ][^\W\d]+(?:[ \-][^\W\d]+){0,3}\."
)
"""A title at the head of its paragraph: `**Notice.**`, `§ 7 Costs.`, `Section 8 (Fines).`"""
_TAG = re.compile(r"<[^<>]{0,400}>")
# what speaks of the sentence before, in its own sentence's first words
_BACK = re.compile(
    r"[(\"'“„«¿]*(?!This (?:morning|afternoon|evening|week|month|year|time)\b)"
    r"(?:It|Its|They|Their|This|These|Those|That|Such|Both|Each|Otherwise|Else|Then"
    r"|Instead|If (?:not|so|it|they|true|false|set|unset)"
    r"|(?:Until|By|Before|After|In|For|To|Within|Since|From) (?:then|this|that|these|those)"
    r"|The (?:main |only )?reason(?: for (?:doing )?(?:this|that))?"
    r"|(?:With|Without|Because of|Despite|To do) (?:it|this|that|these|those)"
    r"|Er|Es|Dies|Diese[rsnm]?|Sie (?:ist|hat|kann|wird|muss|darf)"
    r"|(?:Bis|Von) da(?:hin)?|Vorher|Hier(?:für|zu|bei)|Davon|Darauf|Stattdessen|In diesem Fall"
    r"|Dann|Sonst|Andernfalls|Danach|Dabei|Dafür|Dazu|Wenn nicht|Il(?! y a| faut)|Elles?|Ils|Cela"
    r"|Ceci|Ce(?:tte|s|lui-ci)?|Sinon|Ensuite|Dans ce cas|Jusque-là|À défaut|Est[eao]s?|Es[eao]"
    r"|Si no|Entonces|Luego|En ese caso|Hasta entonces)\b"
)
_SECTION = re.compile(r"(?:\s*[#;].*\n)*\s*\[{1,2}[^\[\]\n]{1,80}\]{1,2}\s*(?:\n|$)")
_NAMED = ("code", "json")
_NAME = re.compile(
    r"\s*(?:- +)?[\"']?(?:(?:(?:async +)?def|function|func|fn) +)?([\w.\-/$]{1,80})[\"']?\s*[:=(]"
)
"""What a setting sets, a member has as its key, or a definition defines."""
_END_CHARS = 16
_ASKED = re.compile(r"[\s>*_]*Q(?:uestion)?\s?\d{0,3}[:.)]\s")
_ANSWERED = re.compile(r"[\s>*_]*A(?:nswer)?\s?\d{0,3}[:.)]\s")
_MARKED = re.compile(r"\s*(?:[-*+•‣▪◦·–]|\(?[a-z\d]{1,3}[.)])\s")
_STEP = re.compile(r"\s*\(?(?:\d{1,2}|[a-z])[.)]")
_TITLE = re.compile(r"(?:\d{1,2}\. )?\**[^\W\d_][^\d.:;,|@<>()\[\]{}=?!*/]{2,60}\**")
# 'Adults and adolescents over 12 years (40 kg or more)', above a sentence
_NUMBERED_TITLE = re.compile(r"[^\W\d_][^.:;,|@<>\[\]{}=?!*/\n]{2,60}")
_PASSAGE_TITLE = re.compile(r"[\d§#.\s]*[^\Wa-z][^|<>{}=@?!\n]*[^\s:,;|<>{}=@?!.]")
_PASSAGE_TITLE_WORDS = 20
_OPTION = re.compile(r"--?[^\W\d_]|-\?")
_TITLE_LEVEL, _TITLE_WORDS, _NUMBERED_WORDS, _TERM_CHARS = 9, 6, 10, 60
_BELOW_TITLE = ("sentence", "table_header", "list_item", "entry")
_SPEAKER = re.compile(
    r"\s*+(?:[\[(]?\d[\d:.,/\-T ]{3,24}+(?:[AaPp]\.?[Mm]\.?)?[\])]?\s*+[-–|]?\s*+)?+"
    r"(?:<[ @+]?([^<>\n]{1,40})>"
    r"|([^:>\n\d]{1,40}?|\+\d[\d ()\-]{6,20})(?: ?[\[(][^\])\n]{1,30}[\])])? ?:)"
)
_JSON_SPEAKER = re.compile(
    r"\"(?:user|username|from|author|sender|speaker|role|name)\"\s*:\s*\"([^\"]{1,60})\""
)
_MEMBER = re.compile(r"\"[^\"]{1,80}\"\s*:")
_JSON_ASKS = re.compile(r"[?？؟][\s)]*\"\s*[,}]")
_SPOKEN = ("entry", "json")
_MOST_LEADS = 12
"""The nearest leads that count: of an outline each line may lead to all that follow."""
_LONGEST_TURN, _SHORT_TURN, _MOST_REPLIES = 240, 120, 6
# a value is of no use without the name that stands before it
_VALUE = re.compile(
    r"[-*\s(#]*(?:Defaults? to\b|Defaults?:|The default is\b|Default value\b)", re.IGNORECASE
)
_FOOTNOTE = re.compile(r"\s*(\[\^[\w-]{1,20}\]|[¹²³⁴-⁹†‡]{1,2}):?\s*\S")
_REFERENCE = re.compile(r"\[\^[\w-]{1,20}\]|[¹²³⁴-⁹†‡]{1,2}")
_BARE_TAGS = re.compile(r"(?:<(?:/?[\w-]+\s?|!DOCTYPE\b[^<>]{0,200})>\s*)+", re.IGNORECASE)
_LABEL = re.compile(
    r"(?:<[^<>]{0,200}>\s*)*<(b|strong)>[^<>\d.]{1,40}</\1>[\s:]*(?:<[^<>]{0,200}>\s*)*"
)
_LONGEST_TITLE, _FEWEST_TITLES = 160, 3
_TITLE_SIGNS = re.compile(r"\A[\s#*+•\-–\[]*(?:\d+(?:\.\d+)*[.)]?\s)?\s*|[*\]¶#=~]+\Z")
_TITLE_EDGES = re.compile(r"[\s.…]*(?:[.…]{2,}\s*\d+)?\s*\Z")
_FRAMES_LEFT_OUT = re.compile(r"\s*\.{3} \d+ (?:more|common frames omitted)\s*")
_FRAME = re.compile(r"\s*at [\w.$<>/]+\(|\s*File \"[^\"\n]{1,200}\", line \d")
_DRAWN_CHARS = 60
_OPENS = re.compile(r".*[:{]")
_COMMENT_LINE = re.compile(r"\s*(?:#|//|--|;|/?\*)")
_COMMENTED, _LINE_CHARS = re.compile(r"[ \t]*#"), 1_000
_SETTING = re.compile(r"#\s?[\w.\-]+ ?=|#[\w.\-]+\t")  # commented out
_BARE = (
    r"(?:yes|no|yep|nope|ok|okay|sure|great|perfect|fine|exactly|right|no problem|that['’]?s all"
    r"|you['’]?re welcome|agreed|ja|nein|genau|oui|non|sí|best|regards|sincerely|cheers)"
)
_SALUTE = (
    r"(?:hi|hello|hey|dear|bye|goodbye|good (?:morning|afternoon|evening|day)|thanks|thank you|thx"
    r"|many thanks|(?:best|kind|warm) (?:regards|wishes)|yours|hallo|liebe[rs]?|sehr geehrte[rs]?"
    r"|danke|viele grüße|mit freundlichen grüßen|bonjour|merci|cordialement|hola|gracias|saludos)"
)
_VAIN = re.compile(
    rf"\W*(?:{_BARE}\W+)*(?:(?:{_BARE}|{_SALUTE}(?:[\s,]+[^\W\d]+){{0,4}})\W*){{0,3}}"
    r"|(?:.{0,80}\s{2,})?\[?(?:Page|Seite|Página) \d{1,4}(?: (?:of|von|de|/) \d{1,4})?\]?"
    r"|(?:Date|Sent|Datum|Gesendet): .{0,60}\d\d:\d\d.{0,20}|.{0,24}-!- .*",
    re.IGNORECASE,
)
_LATEX = re.compile(
    r"(?:\\(?:begin|end|label|centering|maketitle|(?:top|mid|bottom)rule|usepackage|documentclass"
    r"|bibliography(?:style)?)\b.*\s*)+"
)
"""Commands of LaTeX that say nothing to a reader."""
_WITHOUT_CONTENT = (_VAIN, _LATEX, CUE, SAID)
_SALUTATION = re.compile(
    rf"\W*(?:(?:{_SALUTE}(?:[\s,]+[^\W\d]+){{0,4}}|best|regards|sincerely|cheers)\W*)?",
    re.IGNORECASE,
)
_ASSENT = re.compile(rf"\W*(?:{_BARE}\W*)+", re.IGNORECASE)
_CLOSING = re.compile(rf"[\s>]*(?:{_SALUTE}|best|regards|sincerely|cheers),?", re.IGNORECASE)
_CORRESPONDENT = re.compile(
    r"^[>\s]*(?:(?:From|To|Von|An|De|À): *+\"?([^<\n\"]{2,60})"
    r"|.{0,80}[,:;] ?([^<>,:;\n]{2,60}?) ?<[^>\n]{3,80}> ?(?:wrote|schrieb|a écrit|escribió) ?:)",
    re.MULTILINE,
)
"""Who writes to whom: the header of a mail, or the line above what it quotes."""
_SUBJECT = re.compile(
    r"[>\s]*(?:Subject|Betreff|Objet|Asunto): *(?:(?:re|fwd?|aw|wg|tr|rv) ?: *)*(.*)",
    re.IGNORECASE,
)
_LINE_END = re.compile(r"[> \t\r]*+(?:\n|\Z)")
_MOST_NAMES = 3
_IMPORTS = re.compile(
    r"(?:\s*(?:import\b.*|from \S+ import\b.*|#include\b.*|using [\w.]+;|package [\w.]+;?|>>>"
    r"|\.\.\.|`{3,}\w*)\s*(?:\n|$))+"
)
_SHARES: dict[Lead, tuple[float, float]] = {
    "question": (0.95, 0.6),
    "turn": (0.95, 0.6),
    "lead_in": (0.95, 0.7),
    "name": (0.95, 0.6),
    "term": (0.95, 0.6),
    "header": (0.8, 0.0),
    "heading": (0.7, 0.0),
    "code": (0.7, 0.0),
    "entry": (0.7, 0.0),
    "frame": (0.5, 0.0),
    "item": (0.5, 0.0),
    "record": (0.95, 0.6),
}
"""What the best unit below a lead has of its worth, and of that what the worst has at least."""
_WAITING, _WAITS_BELOW = ("question", "turn", "lead_in"), 0.5
"""Leads shown where they fit, and the share of the value of what is below them that they need, to
come before what is worth less than that; others wait for what room is left."""
_SIGNS = re.compile(
    r"\s*--? ?[^<>\n]{2,60} <[^<>@\s]{1,60}@[^<>\s]{1,60}>.{0,60}"
    r"|(?:Signed|Completed by|Prepared by|Issued by|Gezeichnet|gez\.|Signé|Firmado)\b.{2,60}"
)
_SIGNED = 0.5
"""What is left of the worth of a signature: attention rests on the last line of an entry or of a
letter, whatever is asked."""
_ASKING, _ASKS_TOO = ("sentence", "list_item", "entry"), 0.3
"""Kinds of units that may ask, and what is left of the worth of one that nothing answers: attention
rests on who asks the same, and not on what answers."""
_FRAMED = 0.6
"""What is left of the worth of a frame of a stack, once the exception above has all of it."""
_SPOKEN_OF = 0.5
"""What a sentence has of the worth of the next one, which speaks of it."""
_SPEAKS = 0.45
"""What a sentence has of the worth of the one that it speaks of, or of the best right before it."""
_SHORT_LINE = 120
"""Characters of a paragraph whose question is that of a FAQ, and not one to the reader."""
_WHOLE = 0.9
"""What a part of a sentence of subtitles has of the worth of the part in the cue beside it."""
_TOLD = 0.6
"""What a setting at least keeps of its worth that has the name of one in a section worth more."""
_STEP_CHARS = 200
"""Steps of a list have at most so many in the mean; clauses of a contract are numbered, too."""
_OF_STEPS, _OF_ITEMS = 0.75, 0.9
"""What a step at least has of the worth of the best of its list: steps do not answer with one left
out. And what an item has of the worth of the second best: where one item answers, it has little."""
_SET = 0.7
"""What a setting has of the worth of the best sentence of the comment above it."""
_FIRST_ANSWER = 0.97
"""What has at least of a question's worth that begins right below it."""


class Groups:
    """The lead of each unit, and what is below each lead.

    Attributes:
        parents: the lead of each unit, or -1. bonds: whether it is shown with it: 2 always, 1 where
            it fits, 0 no.
        kinds: of the units that have others below them. stops: the end of what is below each lead
            that says nothing by itself, which begins right after it.
        vain: units without content: greetings, signatures, bare signs, imports.
        values: of all units, scaled, once `worths` has seen them.
    """

    def __init__(self, units: Sequence[Unit], passages: Sequence[Passage] = ()) -> None:
        self._units, self._passages = units, passages
        self._raw = [
            passages[unit.passage].text[slice(*unit.visible)] if passages else "" for unit in units
        ]
        self._texts = [_TAG.sub("", raw).strip() if raw[:1] == "<" else raw for raw in self._raw]
        self.parents, self.bonds = [-1] * len(units), [0] * len(units)
        self.kinds: dict[int, Lead] = {}
        self.stops: dict[int, int] = {}
        self.vain: set[int] = set()
        self._levels: dict[int, int] = {}  # of headings
        headings = Counter(self._texts[u] for u, unit in enumerate(units) if unit.kind == "heading")
        self._repeated = {text for text, times in headings.items() if times > 1}  # speakers
        self._marked_levels = self._find_levels()
        self._speakers: dict[int, str] = {}  # of entries
        self._ties: dict[int, Lead] = {}  # of units whose lead is not what its kind says
        self._names: dict[int, frozenset[str]] = {}  # of those who write, by passage
        self._subjects: set[tuple[int, str]] = set()  # of mails, by passage
        self._asked: Counter[int] = Counter()  # questions so far, by passage
        self.values: list[float] = []
        self._text_before = -1  # the last unit so far that heads nothing
        self._references, self._comments = self._find_references(), self._find_comments()
        open_leads: list[int] = []
        for u, unit in enumerate(units):
            check_interruption()
            elsewhere = u > 0 and units[u - 1].passage != unit.passage
            if (level := self._heading_level(u)) is not None:
                self._levels[u] = level
            if unit.kind in _SPOKEN:
                self._speakers[u] = self._speaker(u)
            while open_leads and (elsewhere or self._ends(open_leads[-1], u)):
                self._close(open_leads.pop(), u)
            if (kind := self._lead_kind(u)) is not None:
                self.kinds[u] = kind
                self._asked[unit.passage] += kind == "question"
            self.parents[u] = open_leads[-1] if open_leads else -1
            if kind != "heading":
                self._text_before = u
            tie = self._tie_of_note(u)
            tie = self._tie(u) if tie is None else tie
            self.bonds[u] = self._bond(u) if tie is None else tie
            if kind is not None:
                open_leads.append(u)
            if self._is_vain(u):
                self.vain.add(u)
        while open_leads:
            self._close(open_leads.pop(), len(units))
        self.vain |= self._find_contents()
        self._tie_records()

    def _find_levels(self) -> dict[int, int]:
        """The levels of marked headings, passage by passage."""
        marked = [u for u, unit in enumerate(self._units) if unit.kind == "heading"]
        found: dict[int, int] = {}
        for _, group in groupby(marked, key=lambda u: self._units[u].passage):
            own = list(group)
            found |= zip(own, heading_levels([self._raw[u] for u in own]), strict=True)
        return found

    def _tie_records(self) -> None:
        """Shows what is in a record with the unit that names it, where it fits."""
        has_lines = any("\n" in passage.text for passage in self._passages)
        families = find_records(self._passages, self._units, self._raw) if has_lines else []
        for record in chain.from_iterable(families):
            if (name := record.name) < 0:
                continue
            for u in range(record.start, record.stop):
                if self.parents[u] == name:
                    self.bonds[u] = max(self.bonds[u], 1)
                elif self.parents[u] == self.parents[name] and u not in self._ties and u != name:
                    self.parents[u], self._ties[u], self.bonds[u] = name, "record", 1

    def _find_contents(self) -> set[int]:
        """The lines of a table of contents: at least three together, each a heading below them."""
        found: set[int] = set()
        below: dict[int, set[str]] = {}  # titles of each passage, below the unit
        run: list[int] = []
        for u in range(len(self._units) - 1, -1, -1):
            titles = below.setdefault(self._units[u].passage, set())
            title = _title_of(self._texts[u])
            listed = u not in self._levels and title in titles
            if listed:
                run.append(u)
            if not listed or u == 0 or self._units[u - 1].passage != self._units[u].passage:
                if len(run) >= _FEWEST_TITLES:
                    found.update(run)
                    self._end_heading(run[-1] - 1, run[0] + 1)
                run = []
            if u in self._levels and title:
                titles.add(title)
        return found

    def _end_heading(self, heading: int, stop: int) -> None:
        """Takes what is from a unit on from below a heading, as of contents."""
        if self.kinds.get(heading) == "heading" and heading in self.stops:
            for u in range(stop, self.stops[heading]):
                if self.parents[u] == heading:
                    self.parents[u], self.bonds[u] = self.parents[heading], 0
            self.stops[heading] = stop

    def _find_references(self) -> dict[tuple[int, str], int]:
        """The first unit of each passage that refers to a footnote, by its mark."""
        found: dict[tuple[int, str], int] = {}
        for u, text in enumerate(self._texts):
            for mark in _REFERENCE.findall(text):
                found.setdefault((self._units[u].passage, mark), u)
        return found

    @cached_property
    def leads(self) -> frozenset[int]:
        """The units that are leads of others."""
        return frozenset(self.parents)

    @cached_property
    def _namesakes(self) -> list[list[int]]:
        """Units of code and settings of a passage that begin with the same name."""
        named: dict[tuple[int, str], list[int]] = {}
        for u, unit in enumerate(self._units):
            found = _NAME.match(self._texts[u]) if unit.kind in _NAMED else None
            if found:
                named.setdefault((unit.passage, found[1]), []).append(u)
        return [units for units in named.values() if len(units) > 1]

    @cached_property
    def ambiguous(self) -> frozenset[int]:
        """The units of code and settings whose name others of their passage have."""
        return frozenset(chain.from_iterable(self._namesakes))

    def seems_to_hold(self, lead: int, u: int) -> bool:
        """Whether a unit reads as part of what a lead above it names, if nothing is between: of a
        heading's section, of a section of settings, of what it is indented below."""
        units = self._units
        if units[lead].passage != units[u].passage:
            return False
        if self.kinds[lead] == "heading" or units[u].kind != units[lead].kind:
            return self.kinds[lead] == "heading"
        is_section = _SECTION.match(self._texts[lead]) is not None
        return is_section or self._indent(u) > self._indent(lead)

    def may_stand_without(self, u: int, lead: int) -> bool:
        """Whether a unit says something without a lead that it is always shown with: an item does,
        and a row with a sentence in it."""
        text = self._texts[u]
        says = count_words(text) >= FEW_WORDS and has_function_word(text)
        kind = self.kinds.get(lead)
        return kind == "lead_in" or (kind == "header" and says)

    def waits(self, lead: int, u: int) -> bool:
        """Whether a lead that a unit is shown with where it fits waits until all else was offered:
        the question or the turn asked something else, the lead-in hardly says what follows."""
        free = self.kinds.get(lead) in _WAITING and bool(self.values)
        return free and self.values[lead] < _WAITS_BELOW * self.values[u]

    def __contains__(self, u: int) -> bool:
        """Whether a unit is a lead, which says nothing by itself."""
        return u in self.stops

    def ancestors(self, u: int) -> list[int]:
        """The lead of a unit, that one's lead, and so on."""
        found = list[int]()
        while (u := self.parents[u]) >= 0 and len(found) < _MOST_LEADS:
            found.append(u)
        return found

    def shown_with(self, u: int) -> list[tuple[int, int]]:
        """The leads that a unit is shown with, the nearest first, each with its bond.

        What is beyond one that is shown where it fits has no stronger bond.
        """
        found, bond = [], 2
        for lead in self.ancestors(u):
            if not (bond := min(bond, self.bonds[u])):
                break
            found.append((lead, bond))
            u = lead
        return found

    def worths(self, values: Sequence[float], calibrated: bool) -> list[float]:
        """What each unit is worth to the choice: its value, or what it has of its lead's.

        Values that are no probabilities are first scaled, the lowest to 0 and the best to 1.
        """
        low, high = (0.0, 1.0) if calibrated or not values else (min(values), max(values))
        worths = [(value - low) / (high - low) if high > low else 1.0 for value in values]
        for u, text in enumerate(self._texts):
            worths[u] *= _SIGNED if _SIGNS.fullmatch(text) else 1.0
        own = self.values = list(worths)
        best: dict[int, float] = {}  # below each lead
        for u, worth in enumerate(own):
            if u not in self.stops:
                for lead in self.ancestors(u):
                    best[lead] = max(best.get(lead, 0.0), worth)
        asking = {u for u, unit in enumerate(self._units) if unit.kind in _ASKING and self._asks(u)}
        for u, lead in enumerate(self.parents):
            check_interruption()
            is_asked_back = u in asking and self.kinds.get(lead) in ("question", "turn")
            if lead >= 0 and not is_asked_back:
                share, least = _SHARES[self._relation(u)]
                mine = best.get(u, own[u]) if u in self.stops else own[u]
                of_best = math.sqrt(mine / best[lead]) if best.get(lead) else 1.0
                part = share * (least + (1 - least) * of_best)
                if self.kinds.get(lead) == "question" and u == lead + 1:
                    part = max(part, _FIRST_ANSWER)
                worths[u] = max(worths[u], part * worths[lead])
        self._share_in_lists(worths)
        self._tell_namesakes(worths)
        self._share_with_others(worths)
        self._share_in_paragraphs(worths, best=max(own) if calibrated and own else math.inf)
        for u in asking - self.kinds.keys():
            worths[u] *= _ASKS_TOO
        return worths

    def _share_in_lists(self, worths: list[float]) -> None:
        """Raises the steps of a list by the best of them, and other items by the second best."""
        for items in self._find_lists():
            best, second = nlargest(2, (worths[u] for u in items))
            chars = sum(len(self._texts[u]) for u in items)
            are_steps = self._is_step(items[0]) and chars <= _STEP_CHARS * len(items)
            least = max(_OF_STEPS * best if are_steps else 0.0, _OF_ITEMS * second)
            for u in items:
                worths[u] = max(worths[u], least)

    def _find_lists(self) -> list[list[int]]:
        """The items of each list that has several, without those below other items."""
        found: list[list[int]] = []
        here: dict[int, list[int]] = {}  # by lead
        for u, unit in enumerate(self._units):
            check_interruption()
            lead = self.parents[u]
            if self._is_first(u):
                here.clear()
            if unit.kind != "list_item" and not self._is_marked(u):
                here.pop(lead, None)
            elif lead in here and self._is_step(u) == self._is_step(here[lead][0]):
                here[lead].append(u)
            else:
                here[lead] = [u]
                found.append(here[lead])
        return [items for items in found if len(items) > 1]

    def _tell_namesakes(self, worths: list[float]) -> None:
        """Lowers settings and definitions of one name by how little the sections and blocks that
        they stand in are worth beside those of the best of them."""
        for units in self._namesakes:
            told = [max((self.values[v] for v in self.ancestors(u)), default=0.0) for u in units]
            if (best := max(told)) > 0:
                for u, one in zip(units, told, strict=True):
                    worths[u] *= _TOLD + (1 - _TOLD) * one / best

    def _share_with_others(self, worths: list[float]) -> None:
        """Raises exceptions by their frames, which are worth less then, and settings by what the
        comment above them says."""
        for u, relation in self._ties.items():
            if relation == "frame":
                worths[self.parents[u]] = max(worths[self.parents[u]], worths[u])
                worths[u] *= _FRAMED
        said: dict[int, float] = {}  # the best of each comment
        for u, comment in self._comments.items():
            if comment[0] not in said:
                said[comment[0]] = max(worths[v] for v in comment)
            worths[u] = max(worths[u], _SET * said[comment[0]])

    def _share_in_paragraphs(self, worths: list[float], best: float) -> None:
        """Raises sentences that speak of the one before, that one, and the one after the best."""
        own = self.values
        for u in range(len(worths) - 1, 0, -1):
            if CUE.fullmatch(self._texts[u - 1]) and u > 1 and not has_stop(self._texts[u - 2]):
                worths[u] = max(worths[u], _WHOLE * own[u - 2])
                worths[u - 2] = max(worths[u - 2], _WHOLE * own[u])
            if not self._follows_in_block(u):
                if own[u - 1] == best and self._goes_on_in_chat(u):
                    worths[u] = max(worths[u], _SPEAKS * own[u - 1])
                continue
            speaks = _BACK.match(self._texts[u]) is not None
            if speaks:
                worths[u - 1] = max(worths[u - 1], _SPOKEN_OF * worths[u])
            if speaks or own[u - 1] == best:
                worths[u] = max(worths[u], _SPEAKS * own[u - 1])

    def _follows_in_block(self, u: int) -> bool:
        """Whether a sentence goes on with the paragraph of the one before it, in a single passage:
        of several, each may have evidence that is worth more."""
        both = self._units[u - 1].kind == self._units[u].kind == "sentence"
        return both and len(self._passages) == 1 and not self._begins_block(u)

    def _goes_on_in_chat(self, u: int) -> bool:
        """Whether a turn is the next after another, with a speaker each, in a single passage."""
        speakers = (self._speakers.get(u - 1), self._speakers.get(u))
        return all(speakers) and len(self._passages) == 1 and u not in self.vain

    def _relation(self, u: int) -> Lead:
        """What the lead of a unit is to it."""
        return self._ties.get(u) or self.kinds.get(self.parents[u], "name")

    def _close(self, lead: int, stop: int) -> None:
        kind = self.kinds[lead]
        says = kind in ("item", "code")
        if kind == "code":  # the first line of a definition or a block that was cut
            says = not any(form.fullmatch(self._texts[lead]) for form in (_OPENS, _SECTION))
        if kind in ("heading", "header") or (not says and stop > lead + 1):
            self.stops[lead] = stop

    def _lead_kind(self, u: int) -> Lead | None:
        """What a unit is to those after it, if it is anything to them."""
        unit, after = self._units[u], self._next(u)
        if unit.kind == "table_header":
            return "header"
        if u in self._levels:
            return "heading"
        if after is None or unit.kind == "table_row":
            return None
        if unit.kind in ("code", "entry", "json"):
            if after.kind != unit.kind:
                return None
            nested = unit.kind == "json" and 0 < self._indent(u) < self._indent(u + 1)
            is_code = unit.kind == "code" or nested
            return "code" if is_code else "turn" if self._asks(u) else None
        siblings = unit.kind == after.kind == "list_item"
        if siblings and self._indent(u + 1) <= self._indent(u) and not self._leads_other_items(u):
            return None
        has_text = after.kind == "sentence" and self._is_numbered(u) and self._is_deeper(u + 1)
        return self._introduction(u, after) or ("item" if siblings or has_text else None)

    def _leads_other_items(self, u: int) -> bool:
        """Whether an item introduces those after it, which have another kind of sign."""
        opens = _INTRODUCES.search(self._texts[u][-_END_CHARS:]) is not None
        level = self._indent(u + 1) == self._indent(u)
        return opens and level and self._is_step(u) != self._is_step(u + 1)

    def _asks(self, u: int) -> bool:
        """Whether a unit asks, such as a turn of a chat."""
        text = self._texts[u]
        if self._units[u].kind == "json":
            return self._speakers[u] != "" and _JSON_ASKS.search(text) is not None
        is_short = len(text) <= _SHORT_TURN
        if is_short and self._speakers.get(u) and (name := _SPEAKER.match(text)):
            if _QUESTION_WORD.match(text, name.end()) and not has_stop(text):
                return True  # in a chat few put a question mark
        ask = _ASKS_INSIDE if is_short else _ASKS
        return ask.search(text[-_SHORT_TURN:]) is not None

    def _introduction(self, u: int, after: Unit) -> Lead | None:
        """What prose, an item or an element of HTML is to what it asks or introduces."""
        unit, text = self._units[u], self._texts[u]
        end, is_prose = text[-_END_CHARS:], unit.kind == "sentence"
        if _VAIN.fullmatch(text):
            return None
        if is_prose and after.kind == "sentence" and self._is_term(u):
            return "term"
        if _ASKS.search(end) or (unit.kind != "html" and _ASKED.match(text)):
            # one that ends a paragraph asks its reader, and nothing below answers
            ends = is_prose and not self._starts_line(u) and self._begins_block(u + 1)
            return None if ends and not self._is_line_of_faq(u) else "question"
        if _INTRODUCES.search(end) or (after.kind == "html" and _LABEL.fullmatch(self._raw[u])):
            return "lead_in"
        goes_on = is_prose and not self._begins_block(u + 1)
        goes_on |= unit.kind == "list_item" and "\n" not in self._gap(u + 1)
        if goes_on and _RUN_IN.fullmatch(text):
            return "lead_in"
        if is_prose and after.kind == "table_header" and _CAPTION.fullmatch(text):
            return "lead_in"
        listed = KINDS[after.kind].is_listed or after.kind == "table_header"
        opens = ends_open(text) or text.endswith("following") or self._stands_on_list(u, after)
        return "lead_in" if is_prose and listed and opens else None

    def _stands_on_list(self, u: int, after: Unit) -> bool:
        """Whether a line without a stop stands right on the items that go on with it."""
        text, item = self._texts[u], self._texts[u + 1].lstrip("-*+•‣▪◦·– ")
        goes_on = after.kind == "list_item" and item[:1].islower() and self._starts_line(u)
        return goes_on and self._gap(u + 1).count("\n") == 1 and not has_stop(text)

    def _ends(self, lead: int, u: int) -> bool:
        """Whether what is below a lead ends before a unit."""
        kind, unit = self.kinds[lead], self._units[u]
        if kind == "heading":
            below = self._text_before > lead
            return u in self._levels and below and self._levels[u] <= self._levels[lead]
        if u in self._levels:
            return True
        if kind == "header":
            return unit.kind != "table_row"
        if kind == "code":
            if _SECTION.match(self._texts[lead]):
                return unit.kind != "code" or _SECTION.match(self._texts[u]) is not None
            same = unit.kind == self._units[lead].kind
            return not same or self._indent(u) <= self._indent(lead)
        if kind == "term":
            return "\n" in self._gap(u) and self._indent(u) <= self._indent(lead)
        if kind == "turn":
            if unit.kind not in _SPOKEN or u > lead + _MOST_REPLIES:
                return True
            asker, replies = self._speakers[lead], range(lead + 1, u)
            return self._speakers[u] == asker and any(self._speakers[i] != asker for i in replies)
        return u > lead + 1 and self._ends_block(lead, u)

    def _ends_block(self, lead: int, u: int) -> bool:
        """Whether the list, table, code or paragraph that a lead introduces ends before a unit."""
        unit, first = self._units[u], self._units[lead + 1].kind
        if all(_RUN_IN.fullmatch(self._texts[one]) for one in (lead, u)):
            return True
        if first == "table_header":
            return unit.kind not in (first, "table_row")
        if self.kinds[lead] == "item" and first == "sentence":
            return "\n" in self._gap(u) and self._indent(u) <= self._indent(lead)
        if self.kinds[lead] == "item" or first == "list_item" or self._is_marked(lead + 1):
            listed = unit.kind == "list_item" or self._is_marked(u)
            if not listed or self._units[lead].kind != "list_item":
                return not listed
            if self._indent(lead + 1) == self._indent(lead):
                return self._is_step(u) == self._is_step(lead)
            return self._indent(u) <= self._indent(lead)
        if KINDS[first].is_listed:
            return unit.kind != first
        if first == "html":
            return True
        return unit.kind != first or self._begins_block(u)

    def _tie(self, u: int) -> int | None:
        """The bond of a unit that is of no use without one before it, which becomes its lead: a
        default value, the next lines of an entry, the next cells of a row or the next members of an
        object. None for others."""
        unit, text = self._units[u], self._texts[u]
        before = self._units[u - 1] if u else None
        if before is None or before.passage != unit.passage:
            return None
        apart = text.startswith("#") and self._begins_block(u)
        if unit.kind in ("sentence", "list_item", "html") and _VALUE.match(text) and not apart:
            if before.kind not in ("table_row", "heading"):
                # values in a row are all of the unit before the first
                again = _VALUE.match(self._texts[u - 1]) is not None
                name = self.parents[u - 1] if again and self.bonds[u - 1] == 2 else u - 1
                self.parents[u], self._ties[u] = name, "name"
                return 0 if again and name == u - 1 else 2
        if unit.kind == before.kind == "sentence":
            return self._tie_of_line(u)
        if unit.kind == before.kind == "code" and self._is_comment_on(u):
            self.parents[u], self._ties[u] = u - 1, "name"
            return 1
        if unit.kind == before.kind == "table_row" and (tie := self._tie_of_row(u)) is not None:
            return tie
        if unit.kind == before.kind == "entry":
            return self._tie_of_entry(u)
        if unit.kind == before.kind == "json" and not self._starts_line(u) and _MEMBER.match(text):
            again = self._ties.get(u - 1) == "name"
            self.parents[u], self._ties[u] = self.parents[u - 1] if again else u - 1, "name"
            return 1
        return None

    def _tie_of_entry(self, u: int) -> int | None:
        """That of the next lines of an entry, or of a frame of a stack, which says nothing without
        the exception above it."""
        text, head = self._texts[u], u - 1
        if _FRAME.match(text):
            known = self._ties.get(head) == "frame"
            self.parents[u], self._ties[u] = self.parents[head] if known else head, "frame"
            return 2
        while self._ties.get(head) in ("entry", "frame"):
            head = self.parents[head]
        inside = "\n" not in self._gap(u)
        if inside or not begins_entry(text, self._texts[head]):
            self.parents[u], self._ties[u] = head, "entry"
            return 1 if inside or len(self._texts[head]) > _TERM_CHARS else 2
        return None

    def _tie_of_row(self, u: int) -> int | None:
        """That of the next cells of a row that was cut, or of a row that goes on with the one above
        it, deeper."""
        head = self.parents[u - 1] if self._ties.get(u - 1) == "name" else u - 1
        inside = not self._starts_line(u)
        headed = self.kinds.get(self.parents[u - 1]) is not None
        if inside or (not headed and self._indent(u) > self._indent(head) + 1):
            self.parents[u], self._ties[u] = head, "name"
            return 1 if inside else 2
        return None

    def _tie_of_note(self, u: int) -> int | None:
        """That of a footnote, below what refers to it."""
        note = _FOOTNOTE.match(self._texts[u])
        head = self._references.get((self._units[u].passage, note[1]), u) if note else u
        if head >= u:
            return None
        self.parents[u], self._ties[u] = head, "name"
        return 2

    def _tie_of_line(self, u: int) -> int | None:
        """That of a setting below a comment, or of a further name of an option."""
        if comment := self._comments.get(u):
            self.parents[u], self._ties[u] = comment[0], "name"
            return 1
        if self._is_second_name(u):
            again = self._ties.get(u - 1) == "name"
            self.parents[u], self._ties[u] = self.parents[u - 1] if again else u - 1, "name"
            return 2
        return None

    def _bond(self, u: int) -> int:
        """Whether a unit is shown with its lead."""
        unit, text, lead = self._units[u], self._texts[u], self.parents[u]
        if lead < 0 or (not self._passages and self.kinds[lead] != "header"):
            return 0
        kind = self.kinds[lead]
        if kind == "heading":
            is_title = self._levels[lead] == 1 and self.parents[lead] < 0
            is_title |= self._levels[lead] > 2 and self._is_first(lead)
            asks = _ASKS.search(self._texts[lead][-_END_CHARS:]) is not None
            if u in self._levels and _ASKS.search(text[-_END_CHARS:]):
                return 0
            short = self.kinds.get(u) == "lead_in" and len(text.split()) < 4
            listed = unit.kind in ("list_item", "table_header", "heading")
            listed |= unit.kind == "html" and "<li" in self._raw[u]
            again = self._texts[lead] in self._repeated
            return int(asks or again or (not is_title and (listed or short)))
        if kind == "turn":
            return int(u not in self.kinds and len(self._texts[lead]) <= _LONGEST_TURN)
        if kind == "lead_in":
            if _CAPTION.fullmatch(self._texts[lead]):
                return 1
            first = self._units[lead + 1].kind
            listed = KINDS[first].is_listed or first == "table_header"
            return 2 if listed or self._is_marked(lead + 1) else 1
        if kind == "question" and _ASSENT.fullmatch(_ANSWERED.sub("", text)):
            return 2  # says nothing alone
        if kind == "code" and text.startswith("- "):
            return 0  # an item beside another one
        return 2 if kind in ("header", "term") else 1

    def _is_vain(self, u: int) -> bool:
        text = self._texts[u]
        if self._is_bare(u):
            return True
        if not text or self.kinds.get(u, "code") != "code":
            return False
        if self.bonds[u]:  # a bare "Yes." below a question says something
            said = self._units[u].kind == "sentence" and _SALUTATION.fullmatch(text) is not None
            return said or self._is_signature(u)
        if self._units[u].kind == "code":
            return _IMPORTS.fullmatch(text) is not None or _is_drawn(self._raw[u])
        if self._units[u].kind == "entry":
            speaker = _SPEAKER.match(text)
            text = text[speaker.end() :] if speaker else text
            if _ASSENT.fullmatch(text):
                return False  # says something to the turn before
        if any(form.fullmatch(text) for form in _WITHOUT_CONTENT) or self._is_known_subject(u):
            return True
        if self._is_signature(u):
            return True
        # a name below the end of a letter
        closed = u > 0 and not self._begins_block(u) and _CLOSING.fullmatch(self._texts[u - 1])
        return bool(closed) and len(text.split()) < 4

    def _is_bare(self, u: int) -> bool:
        """Whether a unit has signs or tags alone, or says how many frames are left out."""
        kind, text = self._units[u].kind, self._texts[u]
        if kind == "table_row" and not any(map(str.isalnum, text)):
            return True
        if kind == "html" and _BARE_TAGS.fullmatch(self._raw[u]):
            return True
        return _FRAMES_LEFT_OUT.fullmatch(text) is not None

    def _is_known_subject(self, u: int) -> bool:
        """Whether a line has the subject of a mail, and one above it has the same: it is quoted."""
        found = _SUBJECT.fullmatch(self._texts[u])
        if found is None:
            return False
        subject = (self._units[u].passage, found[1].casefold())
        known = subject in self._subjects
        self._subjects.add(subject)
        return known

    def _is_signature(self, u: int) -> bool:
        """Whether a line has nothing but a name that a mail's header or quotation has, too."""
        words, unit = re.findall(r"[^\W\d_]+", self._texts[u].casefold()), self._units[u]
        if unit.kind != "sentence" or not 0 < len(words) <= _MOST_NAMES or not self._passages:
            return False
        text, (start, stop) = self._passages[unit.passage].text, unit.visible
        line = self._line_starts[u]
        if is_after_text(self._units, u, line) or not _LINE_END.match(text, stop):
            return False
        if text[line:start].strip("> \t\r"):
            return False
        if unit.passage not in self._names:
            names = " ".join(" ".join(found.groups("")) for found in _CORRESPONDENT.finditer(text))
            self._names[unit.passage] = frozenset(re.findall(r"[^\W\d_]+", names.casefold()))
        return self._names[unit.passage].issuperset(words)

    def _is_title(self, u: int) -> bool:
        """Whether a line of prose heads what follows: a few words without a stop, above more."""
        unit, text, after = self._units[u], self._texts[u], self._next(u)
        if unit.kind not in ("sentence", "list_item") or after is None:
            return False
        if CLAUSE.search(text) and not _QUESTION_WORD.match(text):
            return False
        numbered = after.kind == unit.kind == "sentence" and has_stop(self._texts[u + 1])
        numbered = numbered and _NUMBERED_TITLE.fullmatch(text) is not None
        words = _NUMBERED_WORDS if numbered else _TITLE_WORDS
        if not (numbered or _TITLE.fullmatch(text)) or len(text.split()) > words:
            return False
        # deeper than what is above it, it belongs there, such as a command below a lead-in
        inside = not self._is_first(u) and self._units[u - 1].kind != "heading"
        if inside and self._line_indent(u) > self._line_indent(u - 1) + 1:
            return False
        begins = self._begins_block(u) or (numbered and self._units[u - 1].kind == "heading")
        if after.kind not in _BELOW_TITLE or not begins:
            return False
        longer = numbered or len(self._texts[u + 1].split()) > len(text.split())
        return "\n" in self._gap(u + 1) and (longer or after.kind != "sentence")

    def _find_comments(self) -> dict[int, list[int]]:
        """For each setting the sentences of the comment that it stands below, no line between."""
        found: dict[int, list[int]] = {}
        comment: list[int] = []
        is_below = False  # whether a setting followed the comment
        signed = ["#" in passage.text for passage in self._passages]
        for u, unit in enumerate(self._units if any(signed) else ()):
            is_line = unit.kind in ("sentence", "list_item") and signed[unit.passage]
            if not is_line or self._begins_block(u):
                comment, is_below = [], False
            if not is_line:
                continue
            if not self._is_commented(u) or _SETTING.match(self._texts[u]):
                is_below = True
                if comment:
                    found[u] = comment
            elif not _VAIN.fullmatch(self._texts[u]):
                if is_below:
                    comment, is_below = [], False
                comment.append(u)
        return found

    def _is_comment_on(self, u: int) -> bool:
        """Whether the code right above a unit is a comment alone."""
        rows = self._texts[u - 1].splitlines()
        return self._gap(u).count("\n") == 1 and all(map(_COMMENT_LINE.match, rows))

    def _is_commented(self, u: int) -> bool:
        """Whether the line that a unit ends in begins with the sign of a comment."""
        stop = self._units[u].visible[1]
        text = self._passages[self._units[u].passage].text
        start = text.rfind("\n", max(0, stop - _LINE_CHARS), stop) + 1
        return (start > 0 or stop <= _LINE_CHARS) and _COMMENTED.match(text, start) is not None

    def _is_second_name(self, u: int) -> bool:
        """Whether a line is a further name of the option that the line right above names."""
        pair = self._texts[u - 1 : u + 1]
        names = all(_OPTION.match(one) and len(one) <= _TERM_CHARS for one in pair)
        return names and self._gap(u).count("\n") == 1 and self._indent(u) == self._indent(u - 1)

    def _is_numbered(self, u: int) -> bool:
        """Whether a unit is a short item with a number, as in a list of questions."""
        item = self._units[u].kind == "list_item" and len(self._texts[u]) <= _TERM_CHARS
        return item and self._texts[u].lstrip("(")[:1].isdigit()

    def _is_step(self, u: int) -> bool:
        """Whether a unit begins with a number or letter of its list."""
        return _STEP.match(self._texts[u]) is not None

    def _is_deeper(self, u: int) -> bool:
        """Whether a unit begins a block that is deeper than the unit above it."""
        return self._begins_block(u) and self._line_indent(u) > self._line_indent(u - 1) + 1

    def _is_term(self, u: int) -> bool:
        """Whether deeper lines right below a line say what it means."""
        text, gap = self._texts[u], self._gap(u + 1)
        if gap.count("\n") != 1 or len(text) > _TERM_CHARS or has_stop(text):
            return False
        return self._starts_line(u) and self._indent(u + 1) > self._indent(u) + 2

    def _heading_level(self, u: int) -> int | None:
        if u in self._marked_levels:
            return self._marked_levels[u]
        if self._is_title(u):
            return _TITLE_LEVEL
        return 1 if self._is_passage_title(u) else None

    def _is_passage_title(self, u: int) -> bool:
        """Whether a line without a stop stands alone above all else of its passage: its title."""
        text, after = self._texts[u], self._next(u)
        if after is None or self._units[u].kind != "sentence" or not self._is_first(u):
            return False
        alone = self._gap(u + 1).count("\n") > 1 and "\n" not in text
        short = len(text) <= _LONGEST_TITLE and 1 < len(text.split()) <= _PASSAGE_TITLE_WORDS
        is_title = _PASSAGE_TITLE.fullmatch(text) is not None and CLAUSE.search(text) is None
        return alone and short and is_title and not has_stop(text)

    def _is_marked(self, u: int) -> bool:
        """Whether a line of prose begins as an item does, such as (a)."""
        return self._units[u].kind == "sentence" and _MARKED.match(self._texts[u]) is not None

    def _next(self, u: int) -> Unit | None:
        after = self._units[u + 1] if u + 1 < len(self._units) else None
        return after if after and after.passage == self._units[u].passage else None

    def _speaker(self, u: int) -> str:
        """Who speaks in an entry: a sentence in the middle of a line goes on with it."""
        text = self._texts[u]
        if self._units[u].kind == "json":
            named = _JSON_SPEAKER.search(text)
            return named[1] if named else ""
        if u - 1 in self._speakers:
            if "\n" not in self._gap(u) or not begins_entry(text, self._texts[u - 1]):
                return self._speakers[u - 1]
        if (said := speaker_of(text)) is not None:
            return said
        found = _SPEAKER.match(text)
        return (found[1] or found[2]).strip() if found else ""

    def _gap(self, u: int) -> str:
        """The white space before a unit, from the visible end of the one before."""
        unit = self._units[u]
        text = self._passages[unit.passage].text if self._passages else ""
        before = self._units[u - 1] if u else None
        start = before.visible[1] if before and before.passage == unit.passage else 0
        return text[start : unit.visible[0]]

    def _is_first(self, u: int) -> bool:
        return u == 0 or self._units[u - 1].passage != self._units[u].passage

    def _starts_line(self, u: int) -> bool:
        return self._is_first(u) or "\n" in self._gap(u)

    def _begins_block(self, u: int) -> bool:
        if self._is_first(u) or self._gap(u).count("\n") > 1:
            return True
        # an empty line of a quotation belongs to the unit above
        return is_empty_quote(self._raw[u - 1].rpartition("\n")[2])

    def _is_line_of_faq(self, u: int) -> bool:
        """Whether a unit ends a paragraph of one short line, below others that ask."""
        unit = self._units[u]
        text, stop = self._passages[unit.passage].text, unit.visible[1]
        start = self._line_starts[u]
        alone = not start or text.endswith("\n\n", 0, start)
        return alone and stop - start <= _SHORT_LINE and self._asked[unit.passage] > 1

    def _line_indent(self, u: int) -> int:
        """The indentation of the line that a unit begins in."""
        return self._line_indents[u] if self._passages else 0

    @cached_property
    def _line_starts(self) -> list[int]:
        return line_starts(self._passages, self._units)

    @cached_property
    def _line_indents(self) -> list[int]:
        found: list[int] = []
        lines = self._line_starts
        for u, unit in enumerate(self._units):
            if not self._is_first(u) and lines[u] == lines[u - 1]:
                found.append(found[-1])
            else:
                text = self._passages[unit.passage].text
                found.append(indent_of(text[lines[u] : unit.visible[0]]))
        return found

    def _indent(self, u: int) -> int:
        return len(self._gap(u).rpartition("\n")[2])


def _is_drawn(text: str) -> bool:
    """Whether nearly all of a text are signs that frame it, such as a title in a box of `#`."""
    signs = "".join(text.split())
    return len(signs) >= _DRAWN_CHARS and 10 * sum(map(str.isalnum, signs)) < len(signs)


def _title_of(text: str) -> str:
    """The words of a heading, or of a line of contents, without signs and numbers around them."""
    if len(text) > _LONGEST_TITLE:
        return ""
    text = _TITLE_SIGNS.sub("", text.partition("](")[0])
    return _TITLE_EDGES.sub("", text).casefold()
