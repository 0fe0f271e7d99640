"""Names for what is made: modules, functions, people, places."""

from __future__ import annotations

import random

NOUNS = (
    "invoice ledger order basket coupon refund shipment parcel carrier warehouse shelf label "
    "customer account session token password address country currency rate tax discount price "
    "catalog product variant review rating image thumbnail search index query filter page report "
    "chart export archive backup snapshot schedule reminder message inbox thread digest webhook "
    "payload schema migration cursor batch queue worker lock lease quota budget alert metric"
).split()
VERBS = (
    "parse render load store merge split validate format convert round apply cancel reserve "
    "release count group sort rank encode decode sign verify expand shrink copy move rename "
    "lookup fetch push retry resume close open"
).split()
FIRST = (
    "Ada Boris Chen Dalia Emeka Farah Goran Hana Ines Jonas Kofi Lena Mateo Nadia Omar Petra Quinn "
    "Rosa Sven Tara Umar Vera Wanda Xavier Yara Zoltan"
).split()
LAST = (
    "Okafor Lindqvist Marino Petrov Haddad Suzuki Novak Bauer Silva Kowalski Dubois Murphy Larsen "
    "Ferrari Ivanova Nguyen Schmidt Moreau Costa Yilmaz"
).split()
CITIES = (
    "Lisbon Oslo Gdansk Turin Leipzig Porto Graz Nantes Malmo Bergen Split Tartu Cork Ghent Bilbao"
).split()


def actions(rng: random.Random, count: int) -> list[str]:
    """Distinct names of functions, such as `parse_invoice`."""
    every = [f"{verb}_{noun}" for verb in VERBS for noun in NOUNS]
    return rng.sample(every, count)


def nouns(rng: random.Random, count: int) -> list[str]:
    """Distinct nouns."""
    return rng.sample(NOUNS, count)


def person(rng: random.Random) -> str:
    """A first and a last name."""
    return f"{rng.choice(FIRST)} {rng.choice(LAST)}"


def sentence(rng: random.Random, words: int = 9) -> str:
    """Words in a row: filler for messages and cells."""
    return " ".join(rng.choice(NOUNS if i % 2 else VERBS) for i in range(words))


def camel(name: str, first: bool = True) -> str:
    """`parse_invoice` as `ParseInvoice` or `parseInvoice`."""
    parts = [part.capitalize() for part in name.split("_")]
    return "".join(parts if first else [parts[0].lower(), *parts[1:]])
