"""Passages, found by their words (BM25), by their meaning (embeddings in FAISS), or by both.

Contract: an index embeds a passage once; updating it embeds only what is new or changed, and drops
what is gone. Scores can be compared within one search only. It asks no decoder.

Scripts that put no spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese) have no
words that could be counted or looked up without a dictionary. Passages in them are cut by
characters, at the end of a sentence where there is one. BM25's words are their characters and pairs
of characters.
"""

import json
import math
import unicodedata
import zipfile
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import bm25s
import faiss
import numpy as np
import regex
from bm25s.tokenization import Tokenized, Tokenizer, convert_tokenized_to_string_list

from lessons_lib.data.documents import Passage, list_passages, read_documents
from lessons_lib.data.sources.terms import ONTOLOGY, read_terms
from lessons_lib.errors import DataError, SettingError
from lessons_lib.evaluation.inference import Embedder

WORDS = 120  # the most in a passage: about what the embedder was trained on
ABSTAIN = "The passages do not say."

# The embedder reads 256 tokens. English takes about two for a word with what stands around it; a
# character of a script without spaces takes one. So two of them fill a passage like one word.
CHARACTERS = 2
# characters; what is longer is no word, but data such as base64, and is cut too
LONGEST_WORD = 240

# Letters of scripts without spaces. Those of South-East Asia are what Unicode breaks into lines by
# a dictionary or by syllables (lb); others' lengthening signs come with their script extensions
# (scx).
UNSPACED_LETTER = (
    r"[[\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}\p{scx=Bopomofo}\p{scx=Yi}"
    r"\p{lb=SA}\p{lb=AK}\p{lb=AS}]&&[\p{L}\p{M}\p{Nl}]]"
)
UNSPACED = regex.compile(UNSPACED_LETTER, regex.V1)
UNSPACED_OR_NOT = regex.compile(rf"{UNSPACED_LETTER}+|[^{UNSPACED_LETTER}]+", regex.V1)
SENTENCE = regex.compile(
    r"[^。！？｡．។။]*[。！？｡．។။]+[」』”’）]*|[^。！？｡．។။]+"
)  # with its mark
# what a reader takes for one character, with accents and vowel signs
GRAPHEME = regex.compile(r"\X")
HAN = regex.compile(r"\p{Han}")
# bm25s' own pattern, r"\b\w\w+\b", stops at the vowel signs of Hindi or Thai: they are marks (M).
WORD = regex.compile(r"[\p{L}\p{M}\p{N}_]+")


class PassageIndex:
    """Passages with their embeddings (exact search in FAISS) and their words (BM25)."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder
        self.passages: dict[int, Passage] = {}  # by the number FAISS knows them by
        self.vectors = faiss.IndexIDMap2(faiss.IndexFlatIP(embedder.encoder.config.hidden_size))
        self.words: bm25s.BM25 | None = None  # made when first searched

    def update(self, passages: Iterable[Passage]) -> dict[str, int]:
        """Makes the index hold exactly `passages`, of which equal ones count once. Returns how many
        were "embedded", "dropped" and "kept"."""
        wanted = dict.fromkeys(passages)
        known = set(self.passages.values())
        kept = {number: passage for number, passage in self.passages.items() if passage in wanted}
        start = max(self.passages, default=-1) + 1
        new = dict(enumerate((passage for passage in wanted if passage not in known), start))
        if new:
            self._name_unreadable(list(new.values()))
            vectors = self.embedder.embed([passage.text for passage in new.values()])
            self.vectors.add_with_ids(vectors, np.array(list(new)))
        self.vectors.remove_ids(np.array([*(self.passages.keys() - kept.keys())], dtype=np.int64))
        changes = {
            "embedded": len(new),
            "dropped": len(self.passages) - len(kept),
            "kept": len(kept),
        }
        self.passages = kept | new
        self.words = None
        return changes

    def search(
        self, queries: list[str], k: int, by: str = "both"
    ) -> list[list[tuple[Passage, float]]]:
        """The k best passages of every query with their scores, best first.

        by: "meaning" (cosine), "words" (BM25; passages without any of the words are left out) or
        "both" (see `fuse_ranks`; each search is read to rank 50; words alone, where the embedder
        knows less than half of the query's tokens). Raises SettingError for anything else, and for
        an empty index.
        """
        searches = {
            "meaning": self._search_meaning,
            "words": self._search_words,
            "both": self._search_both,
        }
        if by not in searches:
            raise SettingError(
                f"there is no search by {by!r}.", remedy=f"one of {', '.join(searches)}."
            )
        if not self.passages:
            raise SettingError("the index is empty.", remedy="update it with passages first.")
        depth = min(len(self.passages), max(k, 50) if by == "both" else k)
        ranked = searches[by](queries, depth)
        return [[(self.passages[n], score) for n, score in one[:k]] for one in ranked]

    def _search_both(self, queries: list[str], k: int) -> list[list[tuple[int, float]]]:
        meanings = self._search_meaning(queries, k)
        words = self._search_words(queries, k)
        ranked = []
        for by_meaning, by_words, known in zip(
            meanings, words, self._can_read(queries), strict=True
        ):
            # Ranks by the meaning of unknown characters are chance, and push the right passage
            # down.
            ranked.append(fuse_ranks([by_meaning, by_words] if known else [by_words]))
        return ranked

    def _can_read(self, texts: list[str]) -> list[bool]:
        """Of each text whether the embedder knows at least half of its tokens."""
        tokenizer = self.embedder.tokenizer
        encoded = tokenizer(texts, truncation=True, max_length=256, add_special_tokens=False)
        readable = []
        for ids in encoded["input_ids"]:
            unknown = sum(token_id == tokenizer.unk_token_id for token_id in ids)
            readable.append(2 * unknown <= len(ids))
        return readable

    def _name_unreadable(self, passages: list[Passage]) -> None:
        """Prints how many passages the embedder cannot read, if there are such."""
        readable = self._can_read([passage.text for passage in passages])
        unknown = [passage for passage, known in zip(passages, readable, strict=True) if not known]
        if unknown:
            print(
                f"The embedder {self.embedder.name} knows less than half of what stands in "
                f"{len(unknown):,} of {len(passages):,} passages, such as {unknown[0].name}: "
                "search those by words."
            )

    def _search_meaning(self, queries: list[str], k: int) -> list[list[tuple[int, float]]]:
        scores, numbers = self.vectors.search(self.embedder.embed(queries), k)
        return [
            list(zip(n.tolist(), s.tolist(), strict=True))
            for n, s in zip(numbers, scores, strict=True)
        ]

    def _search_words(self, queries: list[str], k: int) -> list[list[tuple[int, float]]]:
        if self.words is None:
            words = _tokenize([passage.text for passage in self.passages.values()])
            if not words.vocab:  # bm25s cannot hold passages without any word
                return [[] for _ in queries]
            self.words = bm25s.BM25()
            self.words.index(words, show_progress=False)
        tokens = convert_tokenized_to_string_list(_tokenize(queries))
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
    """The index that `save` wrote; an empty one where there is none yet.

    Raises DataError for a damaged one, and for one of another encoder: their vectors cannot be
    compared.
    """
    index = PassageIndex(embedder)
    if not file.is_file():
        return index
    try:
        with np.load(file) as arrays:
            described = json.loads(str(arrays["described"]))
            vectors = arrays["vectors"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        remedy = "delete the file: it is made anew."
        raise DataError("the index is damaged.", where=str(file), remedy=remedy) from error
    encoder = described["encoder"]
    if encoder != embedder.name:
        what = f"it was embedded by {encoder}, not by {embedder.name}."
        raise DataError(what, where=str(file), remedy="delete the file: it is made anew.")
    index.vectors = faiss.deserialize_index(vectors)
    for number, name, text in described["passages"]:
        index.passages[number] = Passage(name, text)
    return index


def fuse_ranks(rankings: Iterable[list[tuple[int, float]]]) -> list[tuple[int, float]]:
    """Reciprocal rank fusion: numbers with the sum of 1 / (60 + rank) over the rankings, best
    first. The authors' 60 softens the first ranks (Cormack et al. 2009)."""
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, (number, _) in enumerate(ranking, 1):
            scores[number] = scores.get(number, 0.0) + 1 / (60 + rank)
    return sorted(scores.items(), key=lambda item: -item[1])


def read_passages(source: str | Path, words: int = WORDS) -> list[Passage]:
    """The passages of "hpo" or "samples" (see `read_terms`), or of a file or folder of your own.

    Documents (see `read_documents`) are cut to at most so many `words` (see `cut_passage`);
    passages are named after their place. Raises DataError, which names file, place and remedy.
    """
    if source in (ONTOLOGY, "samples"):
        return list_passages(read_terms(source))
    passages = []
    for document in read_documents(source):
        passages += cut_passage(document, words)
    return passages


def cut_passage(passage: Passage, words: int) -> list[Passage]:
    """Its paragraphs, joined as long as they have at most `words` words; longer ones are cut. Where
    that gives several passages, their names say which part they are.

    Two characters of a script without spaces count as a word. Its sentences stay whole, unless one
    alone is too long. Raises SettingError for less than 1 word.

    >>> [part.text for part in cut_passage(Passage("x", "one two three"), 2)]
    ['one two', 'three']
    >>> [part.text for part in cut_passage(Passage("x", "船六点开。狗免费。"), 3)]
    ['船六点开。', '狗免费。']
    """
    if words < 1:
        raise SettingError(f"passages of {words} words.", remedy="1 word or more.")
    parts: list[list[_Piece]] = []
    for paragraph in "\n".join(passage.text.splitlines()).split("\n\n"):
        pieces = []
        for word in paragraph.split():
            pieces += _cut_word(word, words)
        if parts and _count_words(parts[-1]) + _count_words(pieces) <= words:
            parts[-1] += pieces
        else:
            parts += _fill_parts(pieces, words)
    texts = ["".join(piece.text for piece in part).rstrip() for part in parts]
    if len(texts) == 1:
        return [Passage(passage.name, texts[0])]
    return [Passage(f"{passage.name}, part {n}", text) for n, text in enumerate(texts, 1)]


class _Piece(NamedTuple):
    """What is never cut: a word with the space after it, a sentence without spaces, or part of one.

    size: how many words it counts as.
    """

    text: str
    size: int


def _cut_word(word: str, words: int) -> list[_Piece]:
    """One piece; of a run without spaces its sentences, or parts of them of at most `words`."""
    if len(word) <= LONGEST_WORD and not UNSPACED.search(word):
        return [_Piece(f"{word} ", 1)]
    texts = []
    for sentence in SENTENCE.findall(word):
        texts += _cut_graphemes(sentence, words * CHARACTERS)
    texts[-1] += " "
    return [_Piece(text, math.ceil(len(text.rstrip()) / CHARACTERS)) for text in texts]


def _cut_graphemes(text: str, longest: int) -> list[str]:
    """Parts of at most `longest` characters, unless a single grapheme is longer."""
    parts = [""]
    for grapheme in GRAPHEME.finditer(text):
        if parts[-1] and len(parts[-1]) + len(grapheme[0]) > longest:
            parts.append("")
        parts[-1] += grapheme[0]
    return parts


def _fill_parts(pieces: list[_Piece], words: int) -> list[list[_Piece]]:
    """The pieces in their order, as many to a part as `words` allow."""
    parts: list[list[_Piece]] = []
    size = 0
    for piece in pieces:
        if not parts or size + piece.size > words:
            parts.append([])
            size = 0
        parts[-1].append(piece)
        size += piece.size
    return parts


def _count_words(pieces: list[_Piece]) -> int:
    return sum(piece.size for piece in pieces)


def split_words(text: str) -> list[str]:
    """BM25's words: runs of letters and digits, two or more, as bm25s has them.

    In scripts without spaces they are the pairs of neighbouring characters, and each Chinese
    character, which has a meaning of its own.

    >>> split_words("line 3号线 opens")
    ['line', '号', '线', '号线', 'opens']
    """
    words = []
    for word in WORD.findall(unicodedata.normalize("NFC", text)):
        if not UNSPACED.search(word):
            words.append(word)
            continue
        for run in UNSPACED_OR_NOT.findall(word):
            words += _split_run(run) if UNSPACED.match(run) else [run]
    return [word for word in words if len(word) > 1 or UNSPACED.match(word)]


def _split_run(run: str) -> list[str]:
    """Pairs of characters, and single ones where they are Chinese or stand alone."""
    characters = GRAPHEME.findall(run)
    pairs = [first + second for first, second in pairwise(characters)]
    if not pairs:
        return characters
    return [character for character in characters if HAN.match(character)] + pairs


def _tokenize(texts: list[str]) -> Tokenized:
    """Of each text the numbers of its words in lower case, without English stop words."""
    tokenizer = Tokenizer(splitter=split_words, stopwords="english")
    return tokenizer.tokenize(texts, return_as="tuple", allow_empty=False, show_progress=False)


def ground_question(question: str, passages: list[Passage]) -> str:
    """What a model is asked that may read `passages`: them, an instruction, and the question."""
    listed = "\n".join(f"[{number}] {passage.text}" for number, passage in enumerate(passages, 1))
    rule = f"Answer from these passages. If they do not answer the question, say: {ABSTAIN}"
    return f"{listed}\n\n{rule}\n\n{question}"
