"""Logs of services: tracebacks in the logs of a program, access logs, and JSON Lines."""

from __future__ import annotations

import re

from lab.tests.tool_outputs.kit import Workshop, bash, label_values
from lab.tests.tool_outputs.words import actions, camel, nouns, sentence

TOOLS = {"python": "python --version"}
PROGRAM = '''
import json, logging, random, time

class Clock(logging.Formatter):
    """Times that depend on the number of records alone."""
    count = 0
    def formatTime(self, record, datefmt=None):
        Clock.count += 1
        seconds = 1_795_680_000 + Clock.count * 3
        return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds)) + f",{Clock.count % 997:03}"

class Lines(Clock):
    def format(self, record):
        row = {"time": self.formatTime(record), "level": record.levelname, "logger": record.name,
               "message": record.getMessage()}
        if record.exc_info:
            row["exception"] = self.formatException(record.exc_info)
        return json.dumps(row)

FORMATS = {
    "plain": Clock("%(asctime)s %(levelname)-8s %(name)s: %(message)s"),
    "systemd": Clock("%(asctime)s host1 shop[812]: %(levelname)s %(name)s %(message)s"),
    "brackets": Clock("[%(asctime)s] [%(levelname)s] [%(name)s] %(message)s"),
    "lines": Lines(),
}

def set_up(name):
    import sys
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(FORMATS[name])
    logging.basicConfig(level=logging.DEBUG, handlers=[handler])
'''
STYLES = ("plain", "systemd", "brackets")


def make(shop: Workshop) -> None:
    """Twelve logs with tracebacks, four with a warning, four in JSON Lines, five of access."""
    for i in range(12):
        _add_service(shop, i)
    for i in range(4):
        _add_warning(shop, i)
        _add_lines(shop, i)
    for i in range(5):
        _add_access(shop, i)


def _print_service(shop: Workshop, i: int, style: str, odd: str, records: int) -> str:
    """What a program of random records with an odd statement prints."""
    rng = shop.rng(f"{style} {i} {odd[:30]}")
    words = [sentence(rng, rng.randint(3, 7)) for _ in range(24)]
    code = (
        f"from logs import *\nset_up({style!r})\nrng = random.Random({rng.random()})\n"
        f"WORDS = {words!r}\n"
        "def usual():\n"
        f"    name = rng.choice({nouns(rng, 6)!r})\n"
        "    level = rng.choice([logging.INFO] * 5 + [logging.DEBUG] * 3)\n"
        "    logging.getLogger(f'shop.{name}').log(level, '%s id=%d took=%dms',"
        " rng.choice(WORDS), rng.randrange(9999), rng.randrange(400))\n"
        f"{odd}\n"
        f"for n in range({records}):\n    usual()\n    if n == {rng.randint(20, records - 20)}:\n"
        "        odd()\n"
    )
    folder = shop.project(f"{style}{len(shop.outputs)}", {"logs.py": PROGRAM, "service.py": code})
    return shop.run("python service.py", folder)


def _add_service(shop: Workshop, i: int) -> None:
    rng = shop.rng(f"service {i}")
    noun, (outer, inner) = f"{rng.choice(nouns(rng, 9))}_{i}", actions(rng, 2)
    ends, cause = (
        (f"KeyError: '{noun}'", None),
        (f"RuntimeError: {noun} cannot be saved", f"TimeoutError: no answer from {noun} in 30 s"),
        (f"ValueError: {noun} has no currency", None),
    )[i % 3]
    raised = f"raise {ends.partition(':')[0]}({ends.partition(': ')[2].strip(chr(39))!r})"
    body = f"        {raised}\n"
    if cause:
        kind, _, words = cause.partition(": ")
        body = (
            f"        try:\n            raise {kind}({words!r})\n"
            f"        except OSError as error:\n            {raised} from error\n"
        )
    odd = (
        f"def {inner}():\n    if True:\n{body}\ndef {outer}():\n    {inner}()\n\n"
        f"def odd():\n    try:\n        {outer}()\n    except Exception:\n"
        f"        logging.getLogger('shop.jobs').exception('job {700 + i} failed')\n"
    )
    text = _print_service(shop, i, STYLES[i % 3], odd, 130 + 20 * (i % 5))
    said = [rf"job {700 + i} failed", rf"^{re.escape(ends)}"]
    said += [rf"^{re.escape(cause)}"] if cause else []
    frames = [rf"in {inner}$", rf"in {outer}$"]
    asks = (
        f"Why did job {700 + i} fail?",
        f"Job {700 + i} failed: what is the cause, and in which function?",
        None,
    )[i // 3 % 3]
    gold = [*said, *frames] if i // 3 % 3 == 1 else said
    path = f"/var/log/shop/{noun}.log"
    call = bash(f"cat {path}") if i % 2 else ("read_file", {"path": path})
    shop.add(call, asks, text, gold, said)


def _add_warning(shop: Workshop, i: int) -> None:
    rng = shop.rng(f"warning {i}")
    noun, share = f"{rng.choice(nouns(rng, 9))}_{i}", rng.randint(91, 99)
    message, asks = (
        (f"pool of {noun} is {share} % used", f"Did the pool of {noun} fill up?"),
        (
            f"certificate of {noun} expires in 2 days",
            f"When does the certificate of {noun} expire?",
        ),
    )[i % 2]
    odd = f"def odd():\n    logging.getLogger('shop.watch').warning({message!r})\n"
    text = _print_service(shop, i, STYLES[i % 3], odd, 190)
    shop.add(bash("journalctl -u shop -n 200"), asks, text, [re.escape(message)])


def _add_lines(shop: Workshop, i: int) -> None:
    rng = shop.rng(f"lines {i}")
    noun = f"{rng.choice(nouns(rng, 9))}_{i}"
    name = camel(noun, False)
    odd = (
        f"def {name}():\n    raise PermissionError('{noun} is read only')\n\n"
        f"def odd():\n    try:\n        {name}()\n    except OSError:\n"
        "        logging.getLogger('shop.disk').exception('sync failed')\n"
    )
    text = _print_service(shop, i, "lines", odd, 150)
    gold = label_values(text, lambda value: value["level"] == "ERROR")
    errors = [r'"level": "ERROR"']
    rules = ({"rule": "lines"}, {"rule": "json_lines"})
    asks = (f"Why is {noun} not in sync?", "What went wrong?")[i % 2]
    shop.add(bash("kubectl logs deploy/shop"), asks, text, gold, errors, rules)


def _add_access(shop: Workshop, i: int) -> None:
    rng = shop.rng(f"access {i}")
    pages = [f"/{a}/{b}" for a in nouns(rng, 6) for b in nouns(rng, 4)]
    lines = [
        f"10.0.{rng.randrange(9)}.{rng.randrange(255)} - - "
        f"[26/Nov/2026:0{n // 60 % 10}:{n % 60:02}:"
        f'{rng.randrange(60):02} +0000] "{rng.choice(("GET", "GET", "POST"))} {rng.choice(pages)} '
        f'HTTP/1.1" {rng.choice((200, 200, 200, 304, 301))} {rng.randint(200, 90_000)} "-" '
        f'"Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/{rng.randint(120, 144)}.0"'
        for n in range(150 + 20 * i)
    ]
    path = f"/export/{rng.choice(nouns(rng, 5))}_{i}"
    odd = (
        f'10.0.3.77 - - [26/Nov/2026:05:12:44 +0000] "POST {path} HTTP/1.1" 502 157 "-" "shop/3.1"'
    )
    lines.insert(rng.randint(30, 120), odd)
    asks = ("Which request got a 502?", f"What did the server answer to POST {path}?")[i % 2]
    command = "tail -n 300 /var/log/nginx/access.log"
    folder = shop.project(f"access{i}", {"access.log": "\n".join(lines) + "\n"})
    text = shop.run("tail -n 300 access.log", folder)
    shop.add(bash(command), asks, text, [f'"POST {path} HTTP/1.1" 502'], [r'" 502 157'])
