"""`/v1/compress` with `messages`: a conversation whose tool results get shorter."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import Request

from tamis.probes.named_tokenizers import approximation_warning
from tamis.service.api.spans import set_attributes
from tamis.service.http.conversation.answer import whole_answer
from tamis.service.http.conversation.job import ConversationCall, PreparedConversation
from tamis.service.http.routes.base import (
    check_limits,
    log_entry,
    note_passthrough,
    request_span,
    service_state,
)
from tamis.service.http.runtime.errors import message_of
from tamis.service.http.runtime.executor import run_while_connected
from tamis.service.http.schemas.messages import MessagesAnswer, MessagesRequest


async def compress_messages(request: Request, body: MessagesRequest) -> MessagesAnswer:
    """The same messages, with what tools returned in fewer tokens.

    Raises:
        BadInput: fields that a conversation cannot be served with. UnknownMethod: `method` is none.
    """
    state, entry = service_state(request), log_entry(request)
    body.check_served()
    method = state.methods.resolve_method(state.methods.known_model(body.model), body.method)
    call = ConversationCall(state, body, method, entry)
    with request_span(state, "compress", body.model) as span:
        try:
            answer = await run_while_connected(request.receive, _run(call))
        except Exception as error:
            note_passthrough(state, entry, error, body.on_error)
            answer = await asyncio.to_thread(_whole, call, message_of(error))
        if span is not None:
            set_attributes(span, _span_attributes(answer))
    before = sum(one.tokens_before for one in answer.compressions)
    after = before if body.shadow else sum(one.tokens_after for one in answer.compressions)
    state.metrics.count_compression(before, after, entry.key)
    entry.tokens_in, entry.tokens_out = answer.tokens_before, answer.tokens_after
    return answer


def _span_attributes(answer: MessagesAnswer) -> dict[str, Any]:
    return {
        "gen_ai.usage.input_tokens": answer.tokens_before,
        "gen_ai.usage.output_tokens": answer.tokens_after,
        "tamis.messages": len(answer.messages),
        "tamis.method": answer.method,
        "tamis.status": answer.status,
    }


async def _run(call: ConversationCall) -> MessagesAnswer:
    return await call.state.executor.run_prepared(
        lambda: _prepare(call),
        call.tokens_needed,
        call.finish,
        call.body.priority,
        call.state.executor.limits(call.body.timeout_ms),
    )


def _whole(call: ConversationCall, why: str) -> MessagesAnswer:
    return whole_answer(call.read(), why)


def _prepare(call: ConversationCall) -> PreparedConversation:
    conversation = call.read()
    texts = [text for candidate in conversation.candidates for text in candidate.passages]
    questions = [conversation.question or ""]
    check_limits(call.state.settings, questions, len(texts), sum(map(len, texts)))
    prepared = call.prepare(conversation)
    if prepared.counter.approximates:
        prepared.warn(approximation_warning(prepared.counter))
    return prepared
