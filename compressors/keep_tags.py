"""`<keep>` tags: what a document's author marks as not to be left out."""

from __future__ import annotations

import re
from dataclasses import replace

from tamis.probes.errors import BadInput
from tamis.probes.text import Passage

_TAG = re.compile(r"</?keep>")


def parse_keep_tags(passage: Passage, index: int) -> Passage:
    """The passage with every `<keep> … </keep>` among its spans to keep.

    The tags stay in the text, which is returned verbatim, so offsets are the caller's own.

    Raises:
        BadInput: a tag without its other half, or one inside another, with its place.
    """
    spans, opened = [], None
    for tag in _TAG.finditer(passage.text):
        closing = tag.group() == "</keep>"
        if closing == (opened is None):
            raise BadInput(
                f"passage {index}: {tag.group()} at character {tag.start()} has no partner; "
                "close every <keep> with </keep>, and put none inside another"
            )
        if opened is None:
            opened = tag.start()
        else:
            spans.append((opened, tag.end()))
            opened = None
    if opened is not None:
        raise BadInput(
            f"passage {index}: <keep> at character {opened} is never closed; add </keep>"
        )
    return replace(passage, keep=(*passage.keep, *spans)) if spans else passage
