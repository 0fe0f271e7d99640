"""Which texts of a request can be retrieved later: their hashes, and the markers that name them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tamis.service.http.conversation.candidates import Candidate, Conversation
from tamis.service.http.conversation.markers import OmissionMarker
from tamis.service.http.conversation.shortened import Shortened
from tamis.service.http.runtime.originals import OriginalStore, text_hash
from tamis.service.http.schemas.messages import CCR, MessagesRequest


@dataclass(frozen=True, slots=True)
class RequestOriginals:
    """The store, for one request and the owner of its API key."""

    store: OriginalStore
    body: MessagesRequest
    owner: str

    def markers(
        self, conversation: Conversation, texts: Sequence[Candidate]
    ) -> dict[str, OmissionMarker]:
        """The marker of each text that will be shortened, by its place."""
        hashes = self._hashes(conversation, texts) if self._is_wanted(conversation) else {}
        tool, elision = conversation.retrieve_tool, self.body.elision
        places = [candidate.text.pointer for candidate in texts]
        return {
            place: OmissionMarker(hashes.get(place), tool if place in hashes else None, elision)
            for place in places
        }

    def keep(self, shortened: Sequence[Shortened], markers: dict[str, OmissionMarker]) -> None:
        """Keeps the texts whose markers have a hash, and from which something was left out."""
        for one in shortened:
            text = one.candidate.text
            if one.omissions and markers[text.pointer].hash is not None:
                tool = text.call.name if text.call else None
                one.hash = self.store.put(
                    self.owner, text.text, tool, one.candidate.tokens, one.shown
                )

    def _is_wanted(self, conversation: Conversation) -> bool:
        if self.body.config.mode != CCR or self.body.shadow:
            return False
        if not self.store.max_bytes:
            conversation.warnings.append(
                f"config.mode has no effect: {CCR} needs a service that keeps originals; start it "
                "with --retrieve-bytes"
            )
        return self.store.max_bytes > 0

    def _hashes(self, conversation: Conversation, texts: Sequence[Candidate]) -> dict[str, str]:
        """The hash of each text that the store has room for, the newest first, by its place."""
        room, found = self.store.max_bytes, dict[str, str]()
        for candidate in sorted(texts, key=lambda c: c.text.message, reverse=True):
            needed = self.store.room_for(candidate.text.text)
            if needed is not None and needed <= room:
                room -= needed
                found[candidate.text.pointer] = text_hash(candidate.text.text)
        if left_out := len(texts) - len(found):
            conversation.warnings.append(
                f"{left_out} of {len(texts)} texts cannot be retrieved: they do not fit into the "
                f"{self.store.max_bytes:,} bytes of --retrieve-bytes"
            )
        return found
