"""`<keep>` tags: text that a document's author marks as never to be left out."""

from __future__ import annotations

import re
from dataclasses import replace

from tamis.probes.errors import BadInput
from tamis.probes.text import Passage

_TAG = re.compile(r"</?keep>")


def parse_keep_tags(passage: Passage, index: int) -> Passage:
    """The passage with the span of every `<keep> … </keep>` added to its `keep`.

    The tags stay in the text, which is returned verbatim, so offsets are the caller's own.

    Raises:
        BadInput: a tag without its partner, or one inside another; the message names its place.
    """
    spans, open_at = [], None
    for tag in _TAG.finditer(passage.text):
        closing = tag.group() == "</keep>"
        if closing == (open_at is None):
            raise BadInput(
                f"passage {index}: {tag.group()} at character {tag.start()} has no partner; "
                "close every <keep> with </keep>, and put none inside another"
            )
        if open_at is None:
            open_at = tag.start()
        else:
            spans.append((open_at, tag.end()))
            open_at = None
    if open_at is not None:
        raise BadInput(
            f"passage {index}: <keep> at character {open_at} is never closed; add </keep>"
        )
    return replace(passage, keep=(*passage.keep, *spans)) if spans else passage
