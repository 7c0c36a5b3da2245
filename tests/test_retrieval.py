"""Passages: found by word and by meaning, kept up to date without embedding anew, read from a folder."""

import json

import numpy as np
import pytest

from lessons_lib import retrieval
from lessons_lib.data import DataError
from lessons_lib.dialogs import ask
from lessons_lib.retrieval import Embedder, Passage, PassageIndex, fuse_ranks, load_index

FRUIT = [
    Passage(name, f"{name}: {text}") for name, text in [("apple", "a red fruit"), ("plum", "a blue one")]
]
TOOL = Passage("hammer", "hammer: drives nails into wood")


@pytest.fixture(scope="module")
def embedder():
    return Embedder("tiny")


@pytest.fixture
def index(embedder):
    index = PassageIndex(embedder)
    index.update([*FRUIT, TOOL])
    return index


@pytest.fixture
def counted(embedder, monkeypatch):
    """The texts that have been embedded."""
    texts, embed = [], Embedder.embed
    monkeypatch.setattr(Embedder, "embed", lambda self, some: texts.extend(some) or embed(self, some))
    return texts


def test_vectors_are_the_same_in_any_batch(embedder):
    """Failing means a passage's place in the index depends on what was embedded beside it."""
    texts = ["one", "two words", "a much longer sentence than the others are"]
    together = embedder.embed(texts)
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    assert np.allclose(together, np.concatenate([embedder.embed([text]) for text in texts]), atol=1e-4)


@pytest.mark.parametrize("by", ["words", "meaning", "both"])
def test_a_passage_is_found_by_its_own_text(index, by):
    """Failing means search returns something else than what was asked for."""
    for passage in [*FRUIT, TOOL]:
        assert index.search([passage.text], 1, by)[0][0][0] == passage


def test_results_come_best_first_and_for_every_query(index):
    """Failing means answers belong to other questions, or the worst hit is read first."""
    found = index.search(["a red fruit", "nails in wood"], 3, "meaning")
    assert len(found) == 2
    for row in found:
        assert [score for _, score in row] == sorted((score for _, score in row), reverse=True)


def test_words_that_stand_nowhere_find_nothing(index):
    """Failing means passages are called hits that share no word with the question."""
    assert index.search(["zebra"], 3, "words") == [[]]
    assert len(index.search(["zebra"], 3, "both")[0]) == 3


def test_more_is_asked_for_than_there_is(index):
    """Failing means a small folder cannot be searched."""
    assert len(index.search(["fruit"], 50)[0]) == 3


def test_update_embeds_only_what_is_new(index, counted):
    """Failing means correcting one passage costs as much as embedding all."""
    corrected = Passage("plum", "plum: a purple one")
    assert index.update([FRUIT[0], corrected, TOOL]) == {"embedded": 1, "dropped": 1, "kept": 2}
    assert counted == [corrected.text]


@pytest.mark.parametrize("by", ["words", "meaning", "both"])
def test_what_was_dropped_is_not_found(index, by):
    """Failing means deleted passages still reach the reader."""
    index.update(FRUIT)
    found = [passage for passage, _ in index.search([TOOL.text], 3, by)[0]]
    assert TOOL not in found
    index.update([*FRUIT, TOOL])
    assert index.search([TOOL.text], 1, by)[0][0][0] == TOOL


def test_equal_passages_are_kept_once(embedder):
    """Failing means the same passage fills all places of a prompt."""
    index = PassageIndex(embedder)
    assert index.update([TOOL, TOOL])["embedded"] == 1


def test_saved_index_is_loaded_without_embedding(index, tmp_path, counted):
    """Failing means every start embeds everything again, or finds something else."""
    index.save(tmp_path / "index.npz")
    loaded = load_index(tmp_path / "index.npz", index.embedder)
    assert counted == []
    assert loaded.search(["a red fruit"], 3) == index.search(["a red fruit"], 3)
    assert loaded.update([*FRUIT, TOOL]) == {"embedded": 0, "dropped": 0, "kept": 3}


def test_saving_again_replaces(index, tmp_path):
    """Failing means an old index comes back."""
    index.save(tmp_path / "index.npz")
    index.update(FRUIT)
    index.save(tmp_path / "index.npz")
    assert len(load_index(tmp_path / "index.npz", index.embedder).passages) == 2


def test_index_of_another_encoder_is_refused(index, tmp_path, monkeypatch):
    """Failing means vectors of two encoders are compared, and search returns noise."""
    index.save(tmp_path / "index.npz")
    monkeypatch.setattr(index.embedder, "name", "another")
    with pytest.raises(DataError, match="embedded by tiny, not by another"):
        load_index(tmp_path / "index.npz", index.embedder)


def test_missing_index_is_an_empty_one(embedder, tmp_path):
    """Failing means a first run ends in a file error."""
    assert load_index(tmp_path / "index.npz", embedder).passages == {}


def test_wrong_questions_to_an_index_are_errors(index, embedder):
    """Failing means a misspelt kind of search, or an empty index, gives strange results."""
    with pytest.raises(ValueError, match="no search by 'vectors'. Remedy: one of meaning, words, both"):
        index.search(["x"], 1, "vectors")
    with pytest.raises(ValueError, match="the index is empty"):
        PassageIndex(embedder).search(["x"], 1)


def test_fusion_adds_ranks_not_scores():
    """Failing means one list's larger numbers decide alone."""
    fused = fuse_ranks([[(1, 900.0), (2, 800.0)], [(3, 0.9), (2, 0.8)]])
    assert [number for number, _ in fused] == [2, 1, 3]
    assert fused[0][1] == pytest.approx(2 / 62)


def test_folder_of_texts_and_json_becomes_passages(tmp_path):
    """Failing means a reader's own notes cannot be searched."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "notes.md").write_text("# Title\n\nFirst.\n\nSecond.", encoding="utf-8")
    (tmp_path / "old.TXT").write_bytes("café".encode("cp1252"))
    (tmp_path / "facts.json").write_text(json.dumps([{"term": "Coma", "definition": "Deep sleep."}]))
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "secret.txt").write_text("Not this.")
    assert retrieval.read_passages(tmp_path) == [
        Passage("Coma", "Coma: Deep sleep."),
        Passage("old.TXT", "café"),
        Passage("sub/notes.md", "# Title First. Second."),
    ]


def test_one_file_is_enough(tmp_path):
    """Failing means a single document needs a folder around it."""
    path = tmp_path / "one.txt"
    path.write_text("Only this.")
    assert retrieval.read_passages(path) == [Passage("one.txt", "Only this.")]


@pytest.mark.parametrize("content", [None, "", "  \n\n "])
def test_folder_without_text_is_an_error(tmp_path, content):
    """Failing means an empty folder becomes an empty index, and every search fails later."""
    if content is not None:
        (tmp_path / "empty.txt").write_text(content)
    with pytest.raises(DataError, match=r"holds no passages. Remedy: texts, as \.txt"):
        retrieval.read_passages(tmp_path)


def test_bad_row_of_a_folder_names_file_and_row(tmp_path):
    """Failing means one bad row in a folder of files cannot be found."""
    (tmp_path / "facts.json").write_text('[{"term": "Coma", "definition": ""}]')
    with pytest.raises(DataError, match=r"facts\.json, row 1: definition is ''"):
        retrieval.read_passages(tmp_path)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_chunks_lose_no_word_and_keep_their_size(newline):
    """Failing means a long document has passages that are cut off, or too long for the embedder."""
    paragraphs = [" ".join(f"w{p}.{n}" for n in range(size)) for p, size in enumerate([5, 30, 250, 10])]
    text = (2 * newline).join(paragraphs)
    parts = retrieval.cut_passage(Passage("long", text), 120)
    assert " ".join(part.text for part in parts).split() == text.split()
    assert [len(part.text.split()) for part in parts] == [35, 120, 120, 20]
    assert [part.name for part in parts] == [f"long, part {n}" for n in (1, 2, 3, 4)]


def test_long_answers_of_a_json_file_are_cut_too(tmp_path):
    """Failing means the end of a long answer is never found."""
    rows = [{"question": "Why?", "answer": " ".join(["because"] * 300)}]
    (tmp_path / "long.jsonl").write_text(json.dumps(rows[0]))
    assert len(retrieval.read_passages(tmp_path)) == 3


def test_facts_become_passages_with_their_term():
    """Failing means a definition is found without what it defines."""
    facts = [ask("What is a plum?", "A fruit.", "plum"), ask("Why?", "So.")]
    assert [passage.text for passage in retrieval.list_passages(facts)] == ["plum: A fruit.", "Why?: So."]


def test_prompt_holds_passages_question_and_the_way_out():
    """Failing means the model is asked without its passages, or not told that it may abstain."""
    prompt = retrieval.ground_question("What is a plum?", FRUIT)
    assert all(passage.text in prompt for passage in FRUIT)
    assert retrieval.ABSTAIN in prompt
    assert prompt.endswith("What is a plum?")
