"""Records of a text: parts with the same fields, of which a question asks for one by name.

    sections   below headings of one level, or below lines that others are indented below
    blocks     lines `field: value`, or deeper lines below a first one: apart by blank lines, by
               `[section]`, or where their first field comes again

Releases of a changelog, models of a datasheet, packages, contacts, events, hosts, mails. Parts are
a family if they have two fields in common, blocks without a title three, sections also if they have
a subheading in common; a family is of one passage.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice, pairwise

from tamis.probes.interruption import check_interruption
from tamis.probes.segmentation.lines import has_stop, is_after_text, line_starts
from tamis.probes.segmentation.markdown import heading_levels
from tamis.probes.text import KINDS, Passage, Unit

_FIELD = re.compile(
    r"(?P<begin>BEGIN:[A-Z]+)\s*\Z|[\s>*+•\-]{0,8}(?:\d{1,2}[.)] )?[*_]*"
    r"(?P<name>[^\W\d_][^:=;\n|<>{}(\"]{0,39}?)[*_]*[ \t]*"
    r"(?:(?<!\d):|:(?!\d)|[=;]|\t|\.{3,}| {2,})[*_]*\s*(?=\S)"
)
_FIRST_WORD = re.compile(r"\s*([^\W\d_][\w-]*)\s+(?=\S)")
_SECTION = re.compile(r"\s*\[{1,2}[^\[\]\n]{1,80}\]{1,2}\s*\Z")
_NAME = re.compile(r"(?:full ?)?(?:name|title|summary|label|c?n|fn|titel|nom|nombre|bezeichnung)\Z")
_LINES = ("sentence", "entry", "list_item", "table_header", "table_row")
_FEWEST_SHARED, _MOST_PROSE, _MOST_FAMILIES = 2, 1 / 3, 64
_NAME_CHARS, _RUN_CHARS = 80, 32
"""The longest line that names a record, and the longest run of signs in it: another is a hash."""


@dataclass(frozen=True, slots=True)
class Record:
    """One of several parts with the same fields.

    Attributes:
        start, stop: its units, half-open.
        name: the unit that tells it from the others, else -1.
        fields: the unit of each field.
    """

    start: int
    stop: int
    name: int
    fields: Mapping[str, int]

    @property
    def naming(self) -> Sequence[int]:
        """The unit that names it, if there is one."""
        return [self.name] if self.name >= 0 else []

    @property
    def telling(self) -> Sequence[int]:
        """The units that may tell it from the others: all of one of fields, else its name."""
        is_of_fields = 2 * len(self.fields) >= self.stop - self.start - 1
        return range(self.start, self.stop) if is_of_fields else self.naming


@dataclass(frozen=True)
class _Block:
    """Lines right below each other.

    Attributes:
        lines: the units with a field, and which. title: a line without one above these, else -1.
    """

    start: int
    stop: int
    title: int
    lines: Sequence[tuple[int, str]]

    @cached_property
    def fields(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for u, name in self.lines:
            found.setdefault(name, u)
        return found


def find_records(
    passages: Sequence[Passage], units: Sequence[Unit], texts: Sequence[str]
) -> list[list[Record]]:
    """The families of records, each in text order; those of sections come before those inside.

    Args:
        texts: what is shown of each unit.
    """
    found: list[list[Record]] = []
    lines, start = line_starts(passages, units), 0
    for stop in range(1, len(units) + 1):
        if stop == len(units) or units[stop].passage != units[start].passage:
            part = _Part(passages[units[start].passage].text, units, texts, lines, start, stop)
            sections = list(_find_sections(part))
            # a block is known whose first line is that of a section, or the one below its heading
            begun = {record.start + i for family in sections for record in family for i in (0, 1)}
            blocks = (
                family
                for family in _find_blocks(part)
                if not begun.issuperset(record.start for record in family)
            )
            found += [*sections, *blocks]
            start = stop
    return found


@dataclass(frozen=True, slots=True)
class _Part:
    """The units of a passage, of those of a request."""

    text: str
    units: Sequence[Unit]
    texts: Sequence[str]
    lines: Sequence[int]
    start: int
    stop: int

    def gap(self, u: int) -> str:
        """What stands between a unit and the one before it."""
        return self.text[self.units[u - 1].visible[1] : self.units[u].visible[0]]


def _find_sections(part: _Part) -> Iterator[list[Record]]:
    ranks = _ranks(part)
    stops = dict.fromkeys(ranks, part.stop)
    beside: dict[tuple[int, tuple[int, int]], list[int]] = {}  # by what is above, and the rank
    above: list[int] = []
    leads: set[int] = set()
    for u, rank in ranks.items():
        while above and ranks[above[-1]] >= rank:
            stops[above.pop()] = u
        beside.setdefault((above[-1] if above else -1, rank), []).append(u)
        leads.update(above[-1:])
        above.append(u)
    again: set[int] = set()  # subheadings that several records have
    for siblings in beside.values():
        check_interruption()
        heads = [u for u in siblings if u in leads]
        if len(heads) < 2:
            continue
        named = {
            head: {
                u: _subheading(part.texts[u]) if u in leads else _field_of(part.texts[u])
                for u in range(head + 1, stops[head])
                if u in ranks
            }
            for head in heads
        }
        times = Counter(name for own in named.values() for name in set(own.values()) if name)
        shared = {
            head: {u: name for u, name in own.items() if times[name] > 1}
            for head, own in named.items()
        }
        family = [u for u, own in shared.items() if u in again or _are_of_record(own.values())]
        if len(family) > 1:
            again.update(u for head in family for u in shared[head] if u in leads)
            yield [
                Record(
                    head,
                    stops[head],
                    head if ranks[head][0] == 0 or _is_name(part.texts[head]) else -1,
                    {name: u for u, name in reversed(shared[head].items()) if u not in leads},
                )
                for head in family
            ]


def _ranks(part: _Part) -> dict[int, tuple[int, int]]:
    """Ranks headings by level and other lines by indentation; what is below has a higher rank."""
    units, found = part.units, dict[int, tuple[int, int]]()
    headings = [u for u in range(part.start, part.stop) if units[u].kind == "heading"]
    levels = dict(zip(headings, heading_levels([part.texts[u] for u in headings]), strict=True))
    for u in range(part.start, part.stop):
        line, at = part.lines[u], units[u].visible[0]
        if u in levels:
            found[u] = (0, levels[u])
        elif is_after_text(units, u, line) or KINDS[units[u].kind].block == "table":
            continue
        elif not part.text[line:at].strip():
            found[u] = (1, at - line)
    return found


def _subheading(line: str) -> str:
    return f"#{line.strip('#*-= :{').casefold()}"


def _are_of_record(names: Iterable[str]) -> bool:
    distinct = set(names)
    return len(distinct) >= _FEWEST_SHARED or any(name[0] == "#" for name in distinct)


def _field_of(line: str) -> str:
    found = _FIELD.match(line)
    return (found["begin"] or found["name"]).strip().casefold() if found else ""


def _find_blocks(part: _Part) -> Iterator[list[Record]]:
    families: list[list[_Block]] = []
    latest: dict[str, int] = {}  # the last family that has a field
    for block in (one for whole in _blocks(part) for one in _parts(whole)):
        check_interruption()
        fields = block.fields
        known = islice(
            dict.fromkeys(latest[name] for name in fields if name in latest), _MOST_FAMILIES
        )
        at = next((f for f in known if _are_alike(families[f][-1], block)), len(families))
        if at == len(families):
            families.append([])
        families[at].append(block)
        latest |= dict.fromkeys(fields, at)
    found = [f for f in families if len(f) > 1 and not _is_prose(f, part.texts)]
    for family in _join(found):
        heads = [blocks[0] for blocks in family]
        fields_of_each = [
            dict(chain.from_iterable(block.fields.items() for block in reversed(blocks)))
            for blocks in family
        ]
        starts = [head.title for head in heads]
        if min(starts) < 0:
            times = Counter(chain.from_iterable(fields_of_each))
            if sum(count > 1 for count in times.values()) <= _FEWEST_SHARED:
                continue  # two who talk to each other
            starts = [head.lines[0][0] for head in heads]
        names = _names(heads, starts, part.texts)
        yield [
            Record(start, blocks[-1].stop, name, own)
            for start, blocks, name, own in zip(starts, family, names, fields_of_each, strict=True)
        ]


def _blocks(part: _Part) -> Iterator[_Block]:
    """The runs of lines that have a field, up to a blank line below one or another kind of unit."""
    start, title, depth, is_section = part.start, -1, 0, False
    lines: list[tuple[int, str]] = []
    for u in range(part.start, part.stop + 1):
        text = part.texts[u] if u < part.stop else ""
        begins = _SECTION.match(text) is not None
        is_section = begins or (is_section and u < part.stop and part.units[u].kind == "code")
        ends = u == part.stop or not (is_section or part.units[u].kind in _LINES)
        gap = "\n" if u == part.start or ends else part.gap(u)
        if ends or (lines and (gap.count("\n") > 1 or begins)):
            if lines:
                yield _Block(start, u, title, lines)
            start, title, lines = u + ends, -1, []
        if ends or "\n" not in gap:
            continue
        indent = len(gap.rpartition("\n")[2])
        if u == start:
            depth = indent
        name = _field_of(text)
        if not name and indent > depth and (word := _FIRST_WORD.match(text)):
            name = word[1].casefold()
        if name and not lines:
            start = u if title < 0 else title
        if name:
            lines.append((u, name))
        elif not lines and (title < 0 or has_stop(part.texts[title]) or gap.count("\n") > 1):
            title = -1 if text.startswith("#") or not any(map(str.isalnum, text)) else u


def _parts(block: _Block) -> Iterator[_Block]:
    """A block, or its parts from one line with a field that comes again to the next.

    That is the first with two others that come again between: some have two values of one field,
    and two people talk in turn.
    """
    places: dict[str, list[int]] = {}
    for u, name in block.lines:
        places.setdefault(name, []).append(u)
    repeated = [at for at in places.values() if len(at) > 1]
    pairs = zip(repeated, repeated[2:], strict=False)
    first = next((at for at, after in pairs if after[0] < at[1]), None)
    if first is None:
        yield block
        return
    cuts = [block.start, *first[first[0] == block.lines[0][0] :], block.stop]
    lines = deque(block.lines)
    for start, stop in pairwise(cuts):
        own = list[tuple[int, str]]()
        while lines and lines[0][0] < stop:
            own.append(lines.popleft())
        yield _Block(start, stop, block.title if start <= block.title < stop else -1, own)


def _are_alike(a: _Block, b: _Block) -> bool:
    fields, others = a.fields.keys(), b.fields.keys()
    shared = len(fields & others)
    return shared >= _FEWEST_SHARED and 2 * shared >= min(len(fields), len(others))


def _is_prose(family: Sequence[_Block], texts: Sequence[str]) -> bool:
    stopped = [has_stop(texts[u]) for block in family for u in block.fields.values()]
    return sum(stopped) > _MOST_PROSE * len(stopped)


def _join(families: Sequence[list[_Block]]) -> Iterator[list[list[_Block]]]:
    """The blocks of each record: of a family whose blocks all stand right below one of another
    family each, they go on with these."""
    blocks = [(block, i) for i, family in enumerate(families) for block in family]
    blocks.sort(key=lambda placed: placed[0].start)
    above: dict[int, set[int]] = {}
    before = -1
    for _, i in blocks:
        above.setdefault(i, set()).add(before)
        before = i
    records: dict[int, list[list[_Block]]] = {}
    firsts: dict[int, int] = {}  # of each family the one that its records begin with
    for block, i in blocks:
        over = min(above[i])
        goes_on = len(above[i]) == 1 and over not in (i, -1)
        first = firsts.setdefault(i, firsts[over] if goes_on else i)
        if first == i:
            records.setdefault(i, []).append([block])
        else:
            records[first][-1].append(block)
    yield from records.values()


def _names(family: Sequence[_Block], starts: list[int], texts: Sequence[str]) -> list[int]:
    """The unit that names each: its title, a name, or its first line, if no two are the same."""
    fields = [block.fields for block in family]
    keys = [key for key in filter(_NAME.match, fields[0]) if all(key in own for own in fields)]
    ways = [[own[key] for own in fields] for key in keys]
    have_titles = family[0].title == starts[0]
    for way in [starts, *ways] if have_titles else [*ways, starts]:
        lines = [texts[u] for u in way]
        if all(map(_is_name, lines)) and len(set(lines)) == len(lines):
            return way
    return [-1] * len(family)


def _is_name(line: str) -> bool:
    return len(line) <= _NAME_CHARS and all(len(run) <= _RUN_CHARS for run in line.split())
