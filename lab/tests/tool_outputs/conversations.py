"""Conversations of an agent made of the outputs of `lab/bench/outputs`, as a log of requests.

    python -m lab.tests.tool_outputs.conversations > log.jsonl
    tamis estimate log.jsonl --price 3 --cached 0.3 --cache-write 3.75

A conversation has 20 to 40 steps: a new call with its real output; an edit, after which a call that
was made before is made again, with what another output of its kind printed; the same call again,
with the same output; a command that fails, and succeeds when it is called again. How often each
happens is chosen here, and no measurement.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from typing import Any

from tamis_lab.bench.tools import OUTPUTS_FOLDER, LabelledOutput, find_kinds, load_outputs

CONVERSATIONS, SEED = 2, 0
WEIGHTS = {"new": 0.55, "after an edit": 0.2, "again": 0.1, "failed": 0.15}
SAID = "I look at what this printed and go on with the next part of the work. " * 3
TRACE = "Traceback (most recent call last):\n{}ModuleNotFoundError: No module named 'orders'\n"
FRAME = '  File "/srv/app/src/orders/{0}.py", line {1}, in {0}\n    return {0}(order)\n'


def conversation(
    number: int, rng: random.Random, kinds: dict[str, list[LabelledOutput]]
) -> Iterator[list[Any]]:
    """The messages of each request of one conversation."""
    messages: list[Any] = [
        {"role": "system", "content": "You repair programs. " * 300},
        {"role": "user", "content": f"Find out why nightly run {number} fails; repair it."},
    ]
    done = list[tuple[str, LabelledOutput]]()

    def add(name: str, arguments: str, result: str) -> list[Any]:
        call = {"id": f"c{len(messages)}", "type": "function"}
        call |= {"function": {"name": name, "arguments": arguments}}
        messages.append({"role": "assistant", "content": SAID, "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})
        return list(messages)

    for _ in range(rng.randint(20, 40)):
        what = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        if what == "failed":
            frames = "".join(FRAME.format(f"part_{i}", 7 * i) for i in range(rng.randint(8, 30)))
            arguments = json.dumps({"command": f"python tools/check_{len(messages)}.py"})
            yield add("bash", arguments, TRACE.format(frames))
            yield add("bash", arguments, "42 orders checked")
        elif what == "new" or not done:
            known = {(one.output.name, one.output.arguments) for _, one in done}
            kind = rng.choice(list(kinds))
            given = [o for o in kinds[kind] if (o.output.name, o.output.arguments) not in known]
            done.append((kind, rng.choice(given or kinds[kind])))
            output = done[-1][1].output
            yield add(output.name or "", output.arguments or "{}", output.text)
        else:
            kind, earlier = rng.choice(done[-4:])
            text = earlier.output.text
            if what == "after an edit":
                edit = {"path": "src/a.py", "old_string": "a" * 200, "new_string": "b" * 200}
                yield add("edit_file", json.dumps(edit), "ok")
                text = rng.choice(kinds[kind]).output.text
            yield add(earlier.output.name or "", earlier.output.arguments or "{}", text)


def main() -> None:
    """Writes the log."""
    rng = random.Random(SEED)
    kinds = {kind: load_outputs(path, kind) for kind, path in find_kinds(OUTPUTS_FOLDER).items()}
    for number in range(CONVERSATIONS):
        for messages in conversation(number, rng, kinds):
            sys.stdout.write(json.dumps({"model": "m", "messages": messages}) + "\n")


if __name__ == "__main__":
    main()
