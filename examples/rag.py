"""Questions over the example pages: FAISS finds passages, tamis keeps what answers in them.

    python examples/rag.py                 # every question of questions.json, and what was saved
    python examples/rag.py "What is CORS?" # one question of yours, and the prompt for your model

LangChain with langchain-core alone, and offline: `tamis models pull smollm2-135m` and
`tamis models pull minilm-l6` bring the two small models, once.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import Runnable, RunnablePassthrough
from rich.console import Console
from rich.progress import track
from rich.table import Table

from tamis.langchain import TamisRetriever
from tamis.probes.hub.zoo import locate
from tamis.probes.kv_cache.cache import PassageCache
from tamis.probes.model.encoder import Encoder
from tamis.retrieval.storage.chunks import chunk_document
from tamis.service.api.compress import counter_of
from tamis.text.types import CorpusDocument as Page

HERE = Path(__file__).parent
PROMPT = ChatPromptTemplate.from_template(
    "Answer from the context alone.\n\n{context}\n\nQuestion: {question}"
)


class MiniLM(Embeddings):
    """tamis' sentence encoder in LangChain's words."""

    def __init__(self) -> None:
        self.encoder = Encoder.from_folder(locate("minilm-l6"))

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector of unit length a text."""
        return self.encoder.encode(texts).tolist()

    def embed_query(self, text: str) -> list[float]:
        """Questions are embedded as texts are."""
        return self.embed_documents([text])[0]


class FaissRetriever(BaseRetriever):
    """The nearest k of some documents, by FAISS."""

    documents: list[Document]
    embeddings: Embeddings
    index: Any
    k: int

    @classmethod
    def over(cls, documents: list[Document], embeddings: Embeddings, k: int) -> FaissRetriever:
        """Embeds the documents and indexes them."""
        vectors = np.array(embeddings.embed_documents([d.page_content for d in documents]), "f")
        index = faiss.IndexFlatIP(vectors.shape[1])
        index.add(vectors)
        return cls(documents=documents, embeddings=embeddings, index=index, k=k)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        _, ids = self.index.search(np.array([self.embeddings.embed_query(query)], "f"), self.k)
        return [self.documents[i] for i in ids[0].tolist() if i >= 0]


def pages() -> Iterator[Document]:
    """Passages of the pages beside this file, whole sentences up to 1,200 characters."""
    for path in sorted(HERE.glob("*-docs/*")):
        name, text = path.relative_to(HERE).as_posix(), path.read_text("utf-8")
        for chunk in chunk_document(Page(name, text)):
            place = {"source": name, "start": chunk.start}
            yield Document(text[chunk.start : chunk.stop], metadata=place)


def joined(documents: list[Document]) -> str:
    """Documents as a prompt holds them."""
    return "\n\n".join(document.page_content for document in documents)


def chain(retriever: BaseRetriever) -> Runnable[str, Any]:
    """Question to prompt; put `| your_chat_model` behind it."""
    return {"context": retriever | joined, "question": RunnablePassthrough()} | PROMPT


def report(console: Console, nearest: FaissRetriever, short: TamisRetriever, most: int) -> None:
    """Asks the questions of questions.json and says what was saved and what was lost."""
    questions = json.loads((HERE / "questions.json").read_text("utf-8"))[:most]
    count = counter_of("proxy").count
    table = Table("question", "tokens found", "kept", "evidence")
    found_tokens = kept_tokens = found_answers = kept_answers = 0
    for asked in track(questions, "asking", console=console, transient=True):
        found = joined(nearest.invoke(asked["question"]))
        kept = joined(short.invoke(asked["question"]))
        there, held = asked["answer"] in found, asked["answer"] in kept
        sizes = count(found), count(kept)
        found_tokens, kept_tokens = found_tokens + sizes[0], kept_tokens + sizes[1]
        found_answers, kept_answers = found_answers + there, kept_answers + held
        said = "kept" if held else "lost" if there else "not found"
        table.add_row(asked["question"], *map(str, sizes), said)
    console.print(table)
    console.print(
        f"{len(questions)} questions: {found_tokens} tokens found, {kept_tokens} kept, "
        f"{1 - kept_tokens / found_tokens:.0%} saved; "
        f"evidence found for {found_answers}, kept for {kept_answers}",
        soft_wrap=True,
    )


def main(words: list[str] | None = None) -> None:
    """Reads the command line, builds the retrievers, asks."""
    about = __doc__.split("\n\n")
    parser = argparse.ArgumentParser(description=about[0], epilog=about[2])
    parser.add_argument("question", nargs="?", help="one of yours; by default all that are here")
    parser.add_argument("--max-tokens", type=int, default=300, help="of context (%(default)s)")
    parser.add_argument("--k", type=int, default=8, help="passages to find (%(default)s)")
    parser.add_argument("--method", default="question_rows", help="see `tamis methods`")
    parser.add_argument("--first", type=int, help="ask only so many questions")
    given = parser.parse_args(words)
    console = Console()
    with console.status("embedding the pages"):
        nearest = FaissRetriever.over(list(pages()), MiniLM(), given.k)
    # the same passages are found again and again: with a cache each is read once
    short = TamisRetriever(
        retriever=nearest, max_tokens=given.max_tokens, method=given.method, cache=PassageCache()
    )
    if given.question is None:
        report(console, nearest, short, given.first)
    else:
        console.print(chain(short).invoke(given.question).to_string(), markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
