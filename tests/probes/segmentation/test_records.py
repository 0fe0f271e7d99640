"""Parts of a text with the same fields are found, and what names each."""

from __future__ import annotations

import time

import pytest

from tamis.probes.segmentation.records import find_records
from tamis.probes.segmentation.segment import split_long_units, units_of
from tamis.probes.text import Passage
from tamis.probes.tokens import estimating_tokenizer

PACKAGES = """\
Package: libssl3
Version: 3.0.15-1
Section: libs

Package: curl
Version: 7.88.1-10
Section: web
"""
CALENDAR = """\
BEGIN:VCALENDAR
VERSION:2.0
BEGIN:VEVENT
UID:1@example.org
DTSTART:20260903T163000Z
SUMMARY:Review
BEGIN:VALARM
TRIGGER:-PT15M
END:VALARM
END:VEVENT
BEGIN:VEVENT
UID:2@example.org
DTSTART:20260410T141500Z
SUMMARY:Dentist
END:VEVENT
END:VCALENDAR
"""
HOSTS = """\
# my hosts
Host bastion
    HostName 203.0.113.7
    Port 2222

Host db
    HostName 10.0.9.3
    Port 2200
"""
CHANGES = """\
# Changelog
## 2.0
### Added
- Typed settings.
### Removed
- The XML exporter.
## 1.9
### Added
- Colours.
### Removed
- The daemon.
"""
TRIP = """\
DAY 1 - Arrival in Villach
Meet at the main station, under the clock, at 16:20. Luggage goes by van.
Overnight: Hotel Goldener Anker
Meals included: dinner
Cycling: none

DAY 2 - Villach to Ferlach
We leave at 9:00.
Overnight: Gasthof
Meals included: breakfast
Cycling: 44 km
"""
FLATS = """\
Our flats
Ref: A-1
Price: 900

Agent: Ana
Phone: 12

Ref: A-2
Price: 750

Agent: Bea
Phone: 13
"""
DIRECTORY = """\
dn: uid=maria
objectClass: person
objectClass: account
cn: Maria Jensen
mail: maria@example.org

dn: uid=tobias
objectClass: person
objectClass: account
cn: Tobias Krog
mail: tk@example.org
"""
SHOPS = """\
Office
Phone: 12
Fax: 13

Shop
Phone: 14
Fax: 15
Hours: nine to five
Parking: none
Owner: Ana
"""
PEERS = """\
peer: xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=
  endpoint: 192.0.2.67:1234
  transfer: 180 KiB

peer: TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=
  endpoint: 192.0.2.68:1234
  transfer: 9 MiB
"""
SETTINGS = """\
[mysqld]
user = mysql
port = 3307
max_connections = 220
innodb_buffer_pool_size = 2G

[replica]
port = 3310
max_connections = 90
innodb_buffer_pool_size = 1G
"""
SERVICES = """\
services:
  web:
    image: booking-web
    replicas: 6
    healthcheck:
      interval: 15s
  worker:
    image: booking-worker
    replicas: 3
    healthcheck:
      interval: 30s
"""


def families(*texts: str) -> list[list[tuple[str, str, str]]]:
    """Of each record its name, its first and its last line."""
    passages = [Passage(text) for text in texts]
    units = split_long_units(passages, units_of(passages), estimating_tokenizer(), 12)
    shown = [texts[unit.passage][slice(*unit.visible)] for unit in units]
    found = find_records(passages, units, shown)
    for family in found:
        for record in family:
            assert all(record.start <= u < record.stop for u in record.fields.values())
            assert record.name == -1 or record.start <= record.name < record.stop
    return [
        [(shown[r.name] if r.name >= 0 else "", shown[r.start], shown[r.stop - 1]) for r in family]
        for family in found
    ]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (PACKAGES, ["Package: libssl3", "Package: curl"]),
        (CALENDAR, ["SUMMARY:Review", "SUMMARY:Dentist"]),
        (HOSTS, ["Host bastion", "Host db"]),
        (TRIP, ["DAY 1 - Arrival in Villach", "DAY 2 - Villach to Ferlach"]),
        (FLATS, ["Ref: A-1", "Ref: A-2"]),
        (DIRECTORY, ["cn: Maria Jensen", "cn: Tobias Krog"]),
        (SHOPS, ["Office", "Shop"]),  # one has all fields of the other, and more
        (PEERS, ["", ""]),  # a key is no name
        (SETTINGS, ["[mysqld]", "[replica]"]),
        (SERVICES, ["web:", "worker:"]),
    ],
)
def test_each_record_has_what_tells_it_from_the_others(text: str, names: list[str]) -> None:
    assert [name for name, _, _ in families(text)[0]] == names


def test_a_record_ends_where_the_next_begins() -> None:
    assert [ends[1:] for ends in families(CALENDAR)[0]] == [
        ("BEGIN:VEVENT", "END:VEVENT"),
        ("BEGIN:VEVENT", "END:VCALENDAR"),
    ]
    assert [ends[1:] for ends in families(FLATS)[0]] == [
        ("Ref: A-1", "Phone: 12"),
        ("Ref: A-2", "Phone: 13"),
    ]
    assert len(families(FLATS)) == 1


def test_sections_are_records_and_so_are_the_parts_that_all_of_them_have() -> None:
    releases, first, second = families(CHANGES)
    assert [name for name, _, _ in releases] == ["## 2.0", "## 1.9"]
    assert [name for name, _, _ in first] == [name for name, _, _ in second]
    assert [name for name, _, _ in first] == ["### Added", "### Removed"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Water boils at 100 degrees. It freezes at 0.\n\nIce: water. Steam: water.\n",
        "Anna: Hi, are you there?\nBen: Yes, I am.\n\nAnna: Good. See you!\nBen: Bye, then.\n",
        "Name: Ana\nPhone: 12\n\nColour: red\nWeight: 3 kg\n",
        "# One\nText of it.\n# Two\nOther text.\n",
        "- a\n- b\n- c\n",
    ],
)
def test_what_has_no_fields_in_common_has_no_records(text: str) -> None:
    assert families(text) == []


def test_no_family_reaches_beyond_its_passage() -> None:
    first, second = PACKAGES.split("\n\n")
    assert families(first, second) == []
    assert families(PACKAGES, HOSTS) == [*families(PACKAGES), *families(HOSTS)]


@pytest.mark.parametrize(
    "line",
    [
        "{0}: 1\nb{0}: 2\n\n",
        "{0}: 1\n{0}: 2\n",
        "a: {0}\nb: {0}\n\n",
        "# {0}\na: 1\nb: 2\n",
        "Host {0}\n    Port 1\n    User u\n",
        "x{0}:\n  a: 1\n\n y{0}: 1\n",
        "k{1}: 1\nm{1}: 2\nn{1}: 3\n\n",
    ],
)
def test_records_are_found_in_linear_time(line: str) -> None:
    def seconds(count: int) -> float:
        text = "".join(line.format(i, i % 97) for i in range(count))
        passages = [Passage(text)]
        units = units_of(passages)
        shown = [text[slice(*unit.visible)] for unit in units]
        clock = time.process_time()
        find_records(passages, units, shown)
        return time.process_time() - clock

    seconds(50)
    short, long = (min(seconds(count) for _ in range(3)) for count in (500, 2_000))
    assert long < 8 * max(0.01, short)  # in quadratic time sixteen times as long


@pytest.mark.parametrize(
    "halves",
    [
        ("k{0}: a\n\n", "k{0}: a\n"),
        ("k{0}: a\nl{0}: b\nm{0}: c\n\n", "k{0}: a\nl{0}: b\n"),
        ("Port{0}: a\nUser{0}: b\n\n",) * 2,
    ],
)
def test_what_is_apart_and_then_together_takes_linear_time(halves: tuple[str, str]) -> None:
    def seconds(count: int) -> float:
        text = "".join(half.format(i) for half in halves for i in range(count))
        passages = [Passage(text)]
        units = units_of(passages)
        shown = [text[slice(*unit.visible)] for unit in units]
        clock = time.thread_time()
        find_records(passages, units, shown)
        return time.thread_time() - clock

    seconds(50)
    short, long = (min(seconds(count) for _ in range(3)) for count in (1_000, 4_000))
    assert long < 8 * max(0.01, short)  # in quadratic time sixteen times as long
