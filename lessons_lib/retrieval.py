"""Passages, found by their words (BM25), by their meaning (embeddings in FAISS), or by both.

Contract: an index embeds a passage once; updating it embeds only what is new or changed, and drops what is
gone. Scores can be compared within one search only. It asks no decoder.
"""

import json
import shutil
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from pathlib import Path

import bm25s
import faiss
import numpy as np
from datasets import Dataset

from lessons_lib.data import DataError, decode_file
from lessons_lib.dialogs import Dialog, read_dialogs
from lessons_lib.evaluation import embed
from lessons_lib.models import load_classifier

ENDINGS = (".txt", ".md", ".json", ".jsonl")
WORDS = 120  # the most in a passage: about what the embedder was trained on
RANK = 60  # softens the first ranks in fusion (Cormack et al. 2009)
ABSTAIN = "The passages do not say."


@dataclass(frozen=True)
class Passage:
    """A text to find, and the name of the place it stands in."""

    name: str
    text: str


@dataclass(frozen=True)
class Change:
    """How many passages an update embedded, dropped and left alone."""

    added: int
    removed: int
    kept: int


class Embedder:
    """The encoder of that name (see `load_classifier`), kept in memory."""

    def __init__(self, name: str) -> None:
        self.name = name
        model, self.tokenizer = load_classifier(name, seed=0)
        self.encoder = model.base_model

    def embed(self, texts: list[str], max_tokens: int = 256) -> np.ndarray:
        """Unit vectors (texts, width): the mean of each text's last states, so that products are cosines."""
        ids = self.tokenizer(texts, truncation=True, max_length=max_tokens)["input_ids"]
        rows = Dataset.from_dict({"input_ids": ids})
        vectors = embed(self.encoder, rows, pad_id=self.tokenizer.pad_token_id, batch_size=32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class PassageIndex:
    """Passages with their embeddings (exact search in FAISS) and their words (BM25)."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder
        self.passages: dict[int, Passage] = {}  # by the number FAISS knows them by
        width = embedder.encoder.config.hidden_size
        self.vectors = faiss.IndexIDMap2(faiss.IndexFlatIP(width))
        self.words: bm25s.BM25 | None = None

    def update(self, passages: Iterable[Passage]) -> Change:
        """Makes the index hold exactly `passages`, of which equal ones count once."""
        wanted = dict.fromkeys(passages)
        gone = [number for number, passage in self.passages.items() if passage not in wanted]
        known = set(self.passages.values())
        new = [passage for passage in wanted if passage not in known]
        start = max(self.passages, default=-1) + 1
        if new:
            vectors = self.embedder.embed([passage.text for passage in new])
            self.vectors.add_with_ids(vectors, np.arange(start, start + len(new)))
        self.vectors.remove_ids(np.array(gone, dtype=np.int64))
        kept = {number: self.passages[number] for number in self.passages if number not in set(gone)}
        self.passages = kept | dict(enumerate(new, start))
        self.words = None
        return Change(len(new), len(gone), len(kept))

    def search(self, queries: list[str], k: int, by: str = "both") -> list[list[tuple[Passage, float]]]:
        """The k best passages of every query with their scores, best first.

        by: "meaning" (cosine), "words" (BM25) or "both" (the sum of 1 / (60 + rank) over the two, each read
        to rank 50; Cormack et al. 2009).
        """
        searches = {"meaning": [self._search_meaning], "words": [self._search_words]}
        searches["both"] = [*searches["meaning"], *searches["words"]]
        if by not in searches:
            raise ValueError(f"by is {by!r}; remedy: one of {', '.join(searches)}.")
        if not self.passages:
            raise ValueError("The index is empty. Remedy: update it with passages first.")
        depth = min(len(self.passages), k if by != "both" else max(k, 50))
        found = [search(queries, depth) for search in searches[by]]
        ranked = [fuse_ranks(lists) if by == "both" else lists[0] for lists in zip(*found, strict=True)]
        return [[(self.passages[n], score) for n, score in one[:k]] for one in ranked]

    def _search_meaning(self, queries: list[str], k: int) -> list[list[tuple[int, float]]]:
        scores, numbers = self.vectors.search(self.embedder.embed(queries), k)
        return [list(zip(*pair, strict=True)) for pair in zip(numbers.tolist(), scores.tolist(), strict=True)]

    def _search_words(self, queries: list[str], k: int) -> list[list[tuple[int, float]]]:
        numbers = list(self.passages)
        if self.words is None:
            self.words = bm25s.BM25()
            texts = [passage.text for passage in self.passages.values()]
            self.words.index(bm25s.tokenize(texts, show_progress=False), show_progress=False)
        tokens = bm25s.tokenize(queries, return_ids=False, show_progress=False)
        places, scores = self.words.retrieve(tokens, k=k, show_progress=False)
        return [
            [(numbers[place], score) for place, score in zip(*pair, strict=True) if score > 0]
            for pair in zip(places.tolist(), scores.tolist(), strict=True)
        ]

    def save(self, folder: Path) -> None:
        """Writes the index to `folder`, whole or not at all."""
        partial = folder.with_name(f".{folder.name}-partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        faiss.write_index(self.vectors, str(partial / "vectors.faiss"))
        rows = [(number, *astuple(passage)) for number, passage in self.passages.items()]
        content = {"encoder": self.embedder.name, "passages": rows}
        (partial / "passages.json").write_text(json.dumps(content), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)


def load_index(folder: Path, embedder: Embedder) -> PassageIndex:
    """The index that `save` wrote. Raises DataError where there is none, or one of another encoder."""
    path = folder / "passages.json"
    if not path.is_file():
        raise DataError(f"{folder} holds no index. Remedy: build one and save it there.")
    content = json.loads(path.read_text(encoding="utf-8"))
    if content["encoder"] != embedder.name:
        raise DataError(
            f"{folder} was embedded by {content['encoder']}, not by {embedder.name}: their vectors cannot be "
            "compared. Remedy: load that encoder, or build the index anew."
        )
    index = PassageIndex(embedder)
    index.vectors = faiss.read_index(str(folder / "vectors.faiss"))
    index.passages = {number: Passage(name, text) for number, name, text in content["passages"]}
    return index


def fuse_ranks(rankings: Iterable[list[tuple[int, float]]]) -> list[tuple[int, float]]:
    """Reciprocal rank fusion: numbers with the sum of 1 / (60 + rank) over the rankings, best first."""
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, (number, _) in enumerate(ranking, 1):
            scores[number] = scores.get(number, 0.0) + 1 / (RANK + rank)
    return sorted(scores.items(), key=lambda item: -item[1])


def list_passages(facts: list[Dialog]) -> list[Passage]:
    """A passage a fact, "term: definition" (or "question: answer"), named after its term."""
    names = [fact.term or fact.question for fact in facts]
    return [Passage(name, f"{name}: {fact.answer}") for name, fact in zip(names, facts, strict=True)]


def read_passages(folder: str | Path, words: int = WORDS) -> list[Passage]:
    """The passages of a folder's text and Markdown files (paragraphs joined up to so many `words`) and of its
    JSON files (see `read_dialogs`), named after file and place. Raises DataError, with the remedy."""
    folder = Path(folder).expanduser()
    files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in ENDINGS]
    if not files:
        raise DataError(f"{folder} holds no passages. Remedy: a folder with files ending in {ENDINGS}.")
    passages = []
    for path in files:
        if path.suffix.lower().startswith(".json"):
            passages += list_passages(read_dialogs(path))
            continue
        parts = join_paragraphs(decode_file(path), words)
        name = path.relative_to(folder).as_posix()
        passages += [Passage(f"{name}, part {number}", part) for number, part in enumerate(parts, 1)]
    return passages


def join_paragraphs(text: str, words: int) -> list[str]:
    """Consecutive paragraphs, joined as long as they have at most `words` words; longer ones are cut."""
    parts: list[list[str]] = []
    for paragraph in text.split("\n\n"):
        said = paragraph.split()
        if parts and said and len(parts[-1]) + len(said) <= words:
            parts[-1] += said
        else:
            parts += [said[start : start + words] for start in range(0, len(said), words)]
    return [" ".join(part) for part in parts]


def ground_question(question: str, passages: list[Passage]) -> str:
    """What a model is asked that may read `passages`: them, an instruction, and the question."""
    listed = "\n".join(f"[{number}] {passage.text}" for number, passage in enumerate(passages, 1))
    return (
        f"{listed}\n\nAnswer from these passages. If they do not answer the question, say: {ABSTAIN}\n\n"
        f"{question}"
    )
