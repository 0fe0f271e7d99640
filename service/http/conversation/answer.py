"""The answer to a request with `messages`."""

from __future__ import annotations

from collections.abc import Sequence

from tamis.service.http.conversation.candidates import Conversation
from tamis.service.http.conversation.shortened import Shortened
from tamis.service.http.schemas.compress import Status
from tamis.service.http.schemas.messages import MessageCompression, MessagesAnswer, Omitted
from tamis.service.http.schemas.offsets import OffsetConverter


def build_answer(
    conversation: Conversation, shortened: Sequence[Shortened], method: str, is_late: bool
) -> MessagesAnswer:
    """The messages with what is shown in place of each text; under `shadow` as they came.

    Args:
        method: that scored. is_late: whether a deadline came before all was read.
    """
    body = conversation.body
    changed = [one for one in shortened if one.omissions]
    compressions = [_compression(conversation, one) for one in changed]
    if not body.shadow:
        for one in changed:
            one.candidate.text.replace(one.shown)
    after = conversation.tokens_before - sum(c.tokens_before - c.tokens_after for c in compressions)
    applied = [f"tamis:{method}"] if changed else []
    status: Status = "partial" if is_late else "ok" if changed else "passthrough"
    return MessagesAnswer(
        messages=conversation.messages,
        tokens_before=conversation.tokens_before,
        tokens_after=after,
        tokens_saved=conversation.tokens_before - after,
        compression_ratio=after / conversation.tokens_before if conversation.tokens_before else 1.0,
        transforms_applied=applied,
        transforms_summary=dict.fromkeys(applied, len(changed)),
        ccr_hashes=list(dict.fromkeys(c.hash for c in compressions if c.hash)),
        compressions=compressions,
        method=method if changed else None,
        tokenizer=body.tokenizer,
        status="shadow" if body.shadow else status,
        warnings=[*conversation.warnings, *body.field_warnings()],
    )


def whole_answer(conversation: Conversation, why: str) -> MessagesAnswer:
    """The messages as they came, for a caller who prefers them to an error (`passthrough`)."""
    answer = build_answer(conversation, [], "", is_late=False)
    answer.warnings.append(f"nothing was left out, for the service could not: {why}")
    return answer


def _compression(conversation: Conversation, one: Shortened) -> MessageCompression:
    text, body = one.candidate.text, conversation.body
    converter = OffsetConverter(text.text, body.offset_unit)
    to_unit, shows_spans = converter.from_codepoints, body.return_.spans
    return MessageCompression(
        message=text.message,
        part=text.part,
        path=text.pointer,
        tool=text.call.name if text.call else None,
        format=one.format,
        kept=[[to_unit(a), to_unit(b)] for a, b in one.kept] if shows_spans else None,
        omissions=[_convert_offsets(o, converter) for o in one.omissions] if shows_spans else None,
        tokens_before=one.candidate.tokens,
        tokens_after=one.tokens,
        hash=one.hash,
    )


def _convert_offsets(omission: Omitted, converter: OffsetConverter) -> Omitted:
    start, end = map(converter.from_codepoints, (omission.start, omission.end))
    return omission.model_copy(update={"start": start, "end": end})
