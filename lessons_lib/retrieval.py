"""Search for passages by words (BM25), by meaning (embeddings in FAISS), or by both.

Contract: an index embeds a passage once. An update embeds only new or changed passages, and drops
those that are gone. Scores can be compared within one search only. No decoder runs here.

Scripts without spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese) have no words
that can be counted without a dictionary. Passages in them are cut by characters, if possible at the
end of a sentence. Their words for BM25 are characters and pairs of characters.
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

WORDS = 120  # most words of a passage: about the length that the embedder was trained on
ABSTAIN = "The passages do not say."

# The embedder reads 256 tokens. An English word takes about two, with its punctuation; a character
# of a script without spaces takes one. So two such characters count as one word.
CHARACTERS = 2
# characters; a longer run is data such as base64, and is cut too
LONGEST_WORD = 240

# Letters of scripts without spaces. South-East Asian ones are found by their line-break class (lb),
# for breaks by a dictionary or by syllables. The others are found by their script extensions (scx),
# which include lengthening signs.
UNSPACED_LETTER = (
    r"[[\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}\p{scx=Bopomofo}\p{scx=Yi}"
    r"\p{lb=SA}\p{lb=AK}\p{lb=AS}]&&[\p{L}\p{M}\p{Nl}]]"
)
UNSPACED = regex.compile(UNSPACED_LETTER, regex.V1)
UNSPACED_OR_NOT = regex.compile(rf"{UNSPACED_LETTER}+|[^{UNSPACED_LETTER}]+", regex.V1)
SENTENCE = regex.compile(
    r"[^。！？｡．។။]*[。！？｡．។။]+[」』”’）]*|[^。！？｡．។။]+"
)  # with its mark
# one character as readers see it, with accents and vowel signs
GRAPHEME = regex.compile(r"\X")
HAN = regex.compile(r"\p{Han}")
# bm25s' own pattern, r"\b\w\w+\b", stops at the vowel signs of Hindi or Thai: they are marks (M).
WORD = regex.compile(r"[\p{L}\p{M}\p{N}_]+")


class PassageIndex:
    """Passages with their embeddings (exact search in FAISS) and their words (BM25)."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder
        self.passages: dict[int, Passage] = {}  # by their numbers in FAISS
        self.vectors = faiss.IndexIDMap2(faiss.IndexFlatIP(embedder.encoder.config.hidden_size))
        self.words: bm25s.BM25 | None = None  # made by the first search

    def update(self, passages: Iterable[Passage]) -> dict[str, int]:
        """Makes the index hold exactly `passages`; equal ones count once.

        Returns the numbers of passages that were "embedded", "dropped" and "kept".
        """
        wanted = dict.fromkeys(passages)
        indexed = set(self.passages.values())
        unchanged = {}
        for number, passage in self.passages.items():
            if passage in wanted:
                unchanged[number] = passage
        start = max(self.passages, default=-1) + 1
        added = [passage for passage in wanted if passage not in indexed]
        new = dict(enumerate(added, start))
        if added:
            self._name_unreadable(added)
            vectors = self.embedder.embed([passage.text for passage in added])
            self.vectors.add_with_ids(vectors, np.array(list(new)))
        dropped = self.passages.keys() - unchanged.keys()
        self.vectors.remove_ids(np.array(list(dropped), dtype=np.int64))
        changes = {"embedded": len(new), "dropped": len(dropped), "kept": len(unchanged)}
        self.passages = unchanged | new
        self.words = None
        return changes

    def search(
        self, queries: list[str], k: int, by: str = "both"
    ) -> list[list[tuple[Passage, float]]]:
        """The k best passages for each query with their scores, best first.

        by: "meaning" (cosine similarity), "words" (BM25; passages without any word of the query are
        left out) or "both". "both" fuses the first 50 ranks, or k if that is more, of both searches
        (see `fuse_ranks`). If the embedder knows less than half of a query's tokens, words alone
        count. Raises SettingError for another `by`, and for an empty index.
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
        results = []
        for ranking in searches[by](queries, depth):
            results.append([(self.passages[number], score) for number, score in ranking[:k]])
        return results

    def _search_both(self, queries: list[str], k: int) -> list[list[tuple[int, float]]]:
        meanings = self._search_meaning(queries, k)
        words = self._search_words(queries, k)
        ranked = []
        readable = self._can_read(queries)
        for by_meaning, by_words, is_readable in zip(meanings, words, readable, strict=True):
            # the meaning of unknown tokens ranks passages at random
            ranked.append(fuse_ranks([by_meaning, by_words] if is_readable else [by_words]))
        return ranked

    def _can_read(self, texts: list[str]) -> list[bool]:
        """For each text whether the embedder knows at least half of its tokens."""
        tokenizer = self.embedder.tokenizer
        encoded = tokenizer(texts, truncation=True, max_length=256, add_special_tokens=False)
        readable = []
        for ids in encoded["input_ids"]:
            unknown = sum(token_id == tokenizer.unk_token_id for token_id in ids)
            readable.append(2 * unknown <= len(ids))
        return readable

    def _name_unreadable(self, passages: list[Passage]) -> None:
        """Prints how many passages the embedder cannot read, if there are any."""
        readable = self._can_read([passage.text for passage in passages])
        unread = []
        for passage, is_readable in zip(passages, readable, strict=True):
            if not is_readable:
                unread.append(passage)
        if unread:
            print(
                f"The embedder {self.embedder.name} knows less than half of what stands in "
                f"{len(unread):,} of {len(passages):,} passages, such as {unread[0].name}: "
                "search those by words."
            )

    def _search_meaning(self, queries: list[str], k: int) -> list[list[tuple[int, float]]]:
        scores, numbers = self.vectors.search(self.embedder.embed(queries), k)
        rankings = []
        for row_numbers, row_scores in zip(numbers.tolist(), scores.tolist(), strict=True):
            rankings.append(list(zip(row_numbers, row_scores, strict=True)))
        return rankings

    def _search_words(self, queries: list[str], k: int) -> list[list[tuple[int, float]]]:
        if self.words is None:
            words = _tokenize([passage.text for passage in self.passages.values()])
            if not words.vocab:  # bm25s cannot hold passages without any word
                return [[] for _ in queries]
            self.words = bm25s.BM25()
            self.words.index(words, show_progress=False)
        tokens = convert_tokenized_to_string_list(_tokenize(queries))
        numbers = np.array(list(self.passages))
        positions, scores = self.words.retrieve(tokens, k=k, show_progress=False)
        rankings = []
        for row in zip(numbers[positions].tolist(), scores.tolist(), strict=True):
            pairs = zip(*row, strict=True)
            rankings.append([(number, score) for number, score in pairs if score > 0])
        return rankings

    def save(self, file: Path) -> None:
        """Writes the index to a file ending in .npz; the file is replaced whole or not at all."""
        rows = [(number, passage.name, passage.text) for number, passage in self.passages.items()]
        partial = file.with_name(f"partial-{file.name}")
        file.parent.mkdir(parents=True, exist_ok=True)
        described = json.dumps({"encoder": self.embedder.name, "passages": rows})
        np.savez(partial, vectors=faiss.serialize_index(self.vectors), described=described)
        partial.replace(file)


def load_index(file: Path, embedder: Embedder) -> PassageIndex:
    """The index that `save` wrote; an empty one if there is no file yet.

    Raises DataError for a damaged file, and for one by another encoder, whose vectors cannot be
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
    """Reciprocal rank fusion: each number's sum of 1 / (60 + rank) over the rankings, best first.

    rankings: pairs (number, score), best first. Ranks count from 1; scores are ignored. The
    constant 60 (Cormack et al. 2009) softens the first ranks.

    >>> by_meaning = [(7, 0.9), (3, 0.8)]
    >>> [number for number, score in fuse_ranks([by_meaning, [(3, 12.5)]])]
    [3, 7]
    """
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, (number, _) in enumerate(ranking, 1):
            scores[number] = scores.get(number, 0.0) + 1 / (60 + rank)
    return sorted(scores.items(), key=lambda item: -item[1])


def read_passages(source: str | Path, words: int = WORDS) -> list[Passage]:
    """The passages of "hpo" or "samples" (see `read_terms`), or of a file or folder of your own.

    Documents (see `read_documents`) are cut to passages of at most `words` words (see
    `cut_passage`), which are named after their place. Raises DataError, which names file, place and
    remedy.
    """
    if source in (ONTOLOGY, "samples"):
        return list_passages(read_terms(source))
    passages = []
    for document in read_documents(source):
        passages += cut_passage(document, words)
    return passages


def cut_passage(passage: Passage, words: int) -> list[Passage]:
    """The parts of a passage, of at most `words` words each, named "name, part 1" and so on.

    Paragraphs are joined while they fit into a part; longer ones are cut. A passage that fits stays
    one, under its own name. Two characters of a script without spaces count as a word. Its
    sentences stay whole, unless one alone is too long. Raises SettingError for less than 1 word.

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
    texts = [_join_pieces(part) for part in parts]
    if len(texts) == 1:
        return [Passage(passage.name, texts[0])]
    return [Passage(f"{passage.name}, part {n}", text) for n, text in enumerate(texts, 1)]


class _Piece(NamedTuple):
    """A text that is not cut again: a word with the space after it, or a sentence without spaces or
    a part of one.

    size: how many words it counts as.
    """

    text: str
    size: int


def _cut_word(word: str, words: int) -> list[_Piece]:
    """The word as one piece; for a run without spaces its sentences, cut to at most `words`."""
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
    """The pieces in their order, as many per part as fit into `words`."""
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


def _join_pieces(pieces: list[_Piece]) -> str:
    return "".join(piece.text for piece in pieces).rstrip()


def split_words(text: str) -> list[str]:
    """The words of a text for BM25: runs of two or more letters and digits, as in bm25s.

    In scripts without spaces, words are pairs of neighbouring characters, and single Chinese
    characters, which have a meaning of their own.

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
    """Pairs of characters, and single characters if they are Chinese or the run has only one."""
    characters = GRAPHEME.findall(run)
    pairs = [first + second for first, second in pairwise(characters)]
    if not pairs:
        return characters
    return [character for character in characters if HAN.match(character)] + pairs


def _tokenize(texts: list[str]) -> Tokenized:
    """The numbers of each text's words, in lower case and without English stop words."""
    tokenizer = Tokenizer(splitter=split_words, stopwords="english")
    return tokenizer.tokenize(texts, return_as="tuple", allow_empty=False, show_progress=False)


def ground_question(question: str, passages: list[Passage]) -> str:
    """The prompt for a model that may read `passages`: these, an instruction, and the question."""
    listed = "\n".join(f"[{number}] {passage.text}" for number, passage in enumerate(passages, 1))
    rule = f"Answer from these passages. If they do not answer the question, say: {ABSTAIN}"
    return f"{listed}\n\n{rule}\n\n{question}"
