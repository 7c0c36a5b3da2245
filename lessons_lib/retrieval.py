"""Passages, found by their words (BM25), by their meaning (embeddings in FAISS), or by both.

Contract: an index embeds a passage once; updating it embeds only what is new or changed, and drops what is
gone. Scores can be compared within one search only. It asks no decoder.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import bm25s
import faiss
import numpy as np

from lessons_lib.data import DataError, decode_file
from lessons_lib.dialogs import Dialog, read_dialogs
from lessons_lib.errors import SettingError
from lessons_lib.evaluation import Embedder
from lessons_lib.knowledge import ONTOLOGY, read_terms

ENDINGS = (".txt", ".md", ".json", ".jsonl")
WORDS = 120  # the most in a passage: about what the embedder was trained on
ABSTAIN = "The passages do not say."


@dataclass(frozen=True)
class Passage:
    """A text to find, and the name of the place it stands in."""

    name: str
    text: str


class PassageIndex:
    """Passages with their embeddings (exact search in FAISS) and their words (BM25)."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder
        self.passages: dict[int, Passage] = {}  # by the number FAISS knows them by
        self.vectors = faiss.IndexIDMap2(faiss.IndexFlatIP(embedder.encoder.config.hidden_size))
        self.words: bm25s.BM25 | None = None  # made when first searched

    def update(self, passages: Iterable[Passage]) -> dict[str, int]:
        """Makes the index hold exactly `passages`, of which equal ones count once. Returns how many were
        "embedded", "dropped" and "kept"."""
        wanted, known = dict.fromkeys(passages), set(self.passages.values())
        kept = {number: passage for number, passage in self.passages.items() if passage in wanted}
        start = max(self.passages, default=-1) + 1
        new = dict(enumerate((passage for passage in wanted if passage not in known), start))
        if new:
            vectors = self.embedder.embed([passage.text for passage in new.values()])
            self.vectors.add_with_ids(vectors, np.array(list(new)))
        self.vectors.remove_ids(np.array([*(self.passages.keys() - kept.keys())], dtype=np.int64))
        changes = {"embedded": len(new), "dropped": len(self.passages) - len(kept), "kept": len(kept)}
        self.passages, self.words = kept | new, None
        return changes

    def search(self, queries: list[str], k: int, by: str = "both") -> list[list[tuple[Passage, float]]]:
        """The k best passages of every query with their scores, best first.

        by: "meaning" (cosine), "words" (BM25; passages without any of the words are left out) or "both" (see
        `fuse_ranks`; each search is read to rank 50). Raises ValueError for anything else, and for an empty
        index.
        """
        searches = {"meaning": [self._search_meaning], "words": [self._search_words]}
        searches["both"] = [*searches["meaning"], *searches["words"]]
        if by not in searches:
            raise SettingError(f"there is no search by {by!r}.", remedy=f"one of {', '.join(searches)}.")
        if not self.passages:
            raise SettingError("the index is empty.", remedy="update it with passages first.")
        depth = min(len(self.passages), max(k, 50) if by == "both" else k)
        lists = zip(*(search(queries, depth) for search in searches[by]), strict=True)
        ranked = [fuse_ranks(found) if by == "both" else found[0] for found in lists]
        return [[(self.passages[n], score) for n, score in one[:k]] for one in ranked]

    def _search_meaning(self, queries: list[str], k: int) -> list[list[tuple[int, float]]]:
        scores, numbers = self.vectors.search(self.embedder.embed(queries), k)
        return [list(zip(n.tolist(), s.tolist(), strict=True)) for n, s in zip(numbers, scores, strict=True)]

    def _search_words(self, queries: list[str], k: int) -> list[list[tuple[int, float]]]:
        if self.words is None:
            self.words = bm25s.BM25()
            texts = [passage.text for passage in self.passages.values()]
            self.words.index(bm25s.tokenize(texts, show_progress=False), show_progress=False)
        tokens = bm25s.tokenize(queries, return_ids=False, show_progress=False)
        numbers = np.array(list(self.passages))
        places, scores = self.words.retrieve(tokens, k=k, show_progress=False)
        rows = zip(numbers[places].tolist(), scores.tolist(), strict=True)
        return [[pair for pair in zip(*row, strict=True) if pair[1] > 0] for row in rows]

    def save(self, file: Path) -> None:
        """Writes the index, whole or not at all, to a file ending in .npz."""
        rows = [(number, passage.name, passage.text) for number, passage in self.passages.items()]
        partial = file.with_name(f"partial-{file.name}")
        file.parent.mkdir(parents=True, exist_ok=True)
        described = json.dumps({"encoder": self.embedder.name, "passages": rows})
        np.savez(partial, vectors=faiss.serialize_index(self.vectors), described=described)
        partial.replace(file)


def load_index(file: Path, embedder: Embedder) -> PassageIndex:
    """The index that `save` wrote; an empty one where there is none yet. Raises DataError for an index of
    another encoder: their vectors cannot be compared."""
    index = PassageIndex(embedder)
    if file.is_file():
        kept = np.load(file)
        described = json.loads(str(kept["described"]))
        if (by := described["encoder"]) != embedder.name:
            raise DataError(f"{file} was embedded by {by}, not by {embedder.name}. Remedy: delete the file.")
        index.vectors = faiss.deserialize_index(kept["vectors"])
        index.passages = {number: Passage(name, text) for number, name, text in described["passages"]}
    return index


def fuse_ranks(rankings: Iterable[list[tuple[int, float]]]) -> list[tuple[int, float]]:
    """Reciprocal rank fusion: numbers with the sum of 1 / (60 + rank) over the rankings, best first. The
    authors' 60 softens the first ranks (Cormack et al. 2009)."""
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, (number, _) in enumerate(ranking, 1):
            scores[number] = scores.get(number, 0.0) + 1 / (60 + rank)
    return sorted(scores.items(), key=lambda item: -item[1])


def list_passages(facts: list[Dialog]) -> list[Passage]:
    """A passage a fact, "term: definition" (or "question: answer"), named after its term."""
    names = [fact.term or fact.question for fact in facts]
    return [Passage(name, f"{name}: {fact.answer}") for name, fact in zip(names, facts, strict=True)]


def read_passages(source: str | Path, words: int = WORDS) -> list[Passage]:
    """The passages of "hpo" or "samples" (see `read_terms`), or of a file or folder of your own: text,
    Markdown and JSON (see `read_dialogs`), cut to at most so many `words` (see `cut_passage`) and named after
    their place; hidden files are left out. Raises DataError, which names file, place and remedy."""
    if source in (ONTOLOGY, "samples"):
        return list_passages(read_terms(source))
    root, passages = Path(source).expanduser(), []
    for path in [root] if root.is_file() else sorted(root.rglob("*")):
        name, ending = path.name if path == root else path.relative_to(root).as_posix(), path.suffix.lower()
        if ending not in ENDINGS or not path.is_file() or "/." in f"/{name}":
            continue
        if ending.startswith(".json"):
            passages += list_passages(read_dialogs(path))
        else:
            passages.append(Passage(name, decode_file(path)))
    chunks = [chunk for passage in passages for chunk in cut_passage(passage, words)]
    if not chunks:
        raise DataError(f"{root} is missing or holds no passages. Remedy: texts, as {', '.join(ENDINGS)}.")
    return chunks


def cut_passage(passage: Passage, words: int) -> list[Passage]:
    """Its paragraphs, joined as long as they have at most `words` words; longer ones are cut. Where that
    gives several passages, their names say which part they are."""
    parts: list[list[str]] = []
    for paragraph in "\n".join(passage.text.splitlines()).split("\n\n"):
        said = paragraph.split()
        if parts and said and len(parts[-1]) + len(said) <= words:
            parts[-1] += said
        else:
            parts += [said[start : start + words] for start in range(0, len(said), words)]
    places = [""] if len(parts) == 1 else [f", part {n + 1}" for n in range(len(parts))]
    return [Passage(passage.name + at, " ".join(part)) for at, part in zip(places, parts, strict=True)]


def ground_question(question: str, passages: list[Passage]) -> str:
    """What a model is asked that may read `passages`: them, an instruction, and the question."""
    listed = "\n".join(f"[{number}] {passage.text}" for number, passage in enumerate(passages, 1))
    rule = f"Answer from these passages. If they do not answer the question, say: {ABSTAIN}"
    return f"{listed}\n\n{rule}\n\n{question}"
