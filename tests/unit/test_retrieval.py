"""Passages: found by word and by meaning, kept up to date without embedding anew, read from a
folder.
"""

import json

import numpy as np
import pytest

from lessons_lib import retrieval
from lessons_lib.data import DataError
from lessons_lib.data.facts import make_example, make_fact
from lessons_lib.errors import SettingError
from lessons_lib.retrieval import Embedder, Passage, PassageIndex, fuse_ranks, load_index

pytestmark = pytest.mark.usefixtures("each_precision")

FRUIT = [
    Passage(name, f"{name}: {text}")
    for name, text in [("apple", "a red fruit"), ("plum", "a blue one")]
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
    monkeypatch.setattr(
        Embedder, "embed", lambda self, some: texts.extend(some) or embed(self, some)
    )
    return texts


def test_vectors_are_the_same_in_any_batch(embedder):
    """Failing means a passage's place in the index depends on what was embedded beside it."""
    texts = ["one", "two words", "a much longer sentence than the others are"]
    together = embedder.embed(texts)
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    assert np.allclose(
        together, np.concatenate([embedder.embed([text]) for text in texts]), atol=1e-4
    )


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


@pytest.mark.parametrize("part", [0, 0.5, 0.99])
def test_damaged_index_is_refused(index, tmp_path, part):
    """Failing means a full disk ends the next run in a traceback."""
    file = tmp_path / "index.npz"
    index.save(file)
    content = file.read_bytes()
    file.write_bytes(content[: int(part * len(content))])
    with pytest.raises(DataError, match="the index is damaged. Remedy: delete the file"):
        load_index(file, index.embedder)


def test_missing_index_is_an_empty_one(embedder, tmp_path):
    """Failing means a first run ends in a file error."""
    assert load_index(tmp_path / "index.npz", embedder).passages == {}


def test_wrong_questions_to_an_index_are_errors(index, embedder):
    """Failing means a misspelt kind of search, or an empty index, gives strange results."""
    with pytest.raises(
        ValueError, match="no search by 'vectors'. Remedy: one of meaning, words, both"
    ):
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
    (tmp_path / "facts.json").write_text(
        json.dumps([{"term": "Coma", "definition": "Deep sleep."}])
    )
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


@pytest.mark.parametrize(
    "content, what",
    [(None, "it holds no files"), ("", "it is empty"), ("  \n\n ", "no text inside")],
)
def test_folder_without_text_is_an_error(tmp_path, content, what):
    """Failing means an empty folder becomes an empty index, and every search fails later."""
    if content is not None:
        (tmp_path / "empty.txt").write_text(content)
    with pytest.raises(DataError, match=what) as refused:
        retrieval.read_passages(tmp_path)
    assert refused.value.remedy


def test_missing_folder_is_an_error(tmp_path):
    """Failing means a mistyped folder is searched in vain."""
    with pytest.raises(DataError, match="does not exist"):
        retrieval.read_passages(tmp_path / "nowhere")


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_chunks_lose_no_word_and_keep_their_size(newline):
    """Failing means a long document has passages that are cut off, or too long for the embedder."""
    paragraphs = [
        " ".join(f"w{p}.{n}" for n in range(size)) for p, size in enumerate([5, 30, 250, 10])
    ]
    text = (2 * newline).join(paragraphs)
    parts = retrieval.cut_passage(Passage("long", text), 120)
    assert " ".join(part.text for part in parts).split() == text.split()
    assert [len(part.text.split()) for part in parts] == [35, 120, 120, 20]
    assert [part.name for part in parts] == [f"long, part {n}" for n in (1, 2, 3, 4)]


@pytest.mark.parametrize("words", [0, -1])
def test_passages_hold_a_word_at_least(words):
    """Failing means a wrong setting ends in a traceback."""
    with pytest.raises(SettingError, match="Remedy: 1 word or more"):
        retrieval.cut_passage(FRUIT[0], words)


# --- scripts without spaces -----------------------------------------------------------------------

UNSPACED = {
    "Chinese": ("学生凭证半价，狗可以免费上船。", "第二码头在第三周检修。", "狗可以免费上船"),
    "Japanese": ("犬は下のデッキにつないでください。", "冬の始発は朝七時です。", "犬はどこですか"),
    "Thai": ("สุนัขขึ้นเรือฟรี", "ฤดูหนาวออกเจ็ดโมง", "สุนัขขึ้นเรือได้ไหม"),
    "Lao": ("ໝາຂຶ້ນເຮືອຟຣີ", "ລະດູໜາວອອກເຈັດໂມງ", "ໝາຂຶ້ນເຮືອ"),
    "Khmer": ("ឆ្កែឡើងទូកដោយឥតគិតថ្លៃ", "រដូវរងាចេញម៉ោងប្រាំពីរ", "ឆ្កែឡើងទូក"),
    "Burmese": ("ခွေးများလှေစီးခမပေးရ", "ဆောင်းရာသီတွင်ခုနစ်နာရီထွက်သည်", "ခွေးများ"),
}


@pytest.mark.parametrize("language", UNSPACED)
def test_texts_without_spaces_are_cut_too(language):
    """Failing means a whole document becomes one passage, of which the embedder reads the
    beginning.
    """
    dogs, filler, _ = UNSPACED[language]
    text = filler * 100 + dogs + filler * 100
    parts = retrieval.cut_passage(Passage("ferry", text), 120)
    assert "".join(part.text for part in parts) == text
    assert max(len(part.text) for part in parts) <= 240
    assert len(parts) < 1.2 * len(text) / 200


@pytest.mark.parametrize("language", ["Chinese", "Japanese"])
def test_passages_without_spaces_end_with_a_sentence(language):
    """Failing means a sentence is torn in two, so that neither passage answers."""
    dogs, filler, _ = UNSPACED[language]
    parts = retrieval.cut_passage(Passage("ferry", filler * 50 + dogs + filler * 50), 120)
    assert {part.text[-1] for part in parts} == {"。"}


@pytest.mark.parametrize("unit", ["e\u0301\u0323", "กํ้", "👩\u200d🚀", "か\u3099"])
def test_no_cut_falls_between_a_letter_and_its_marks(unit):
    """Failing means a passage begins with an accent, and its last letter is another one."""
    parts = retrieval.cut_passage(Passage("marks", unit * 500), 10)
    assert len(parts) > 1
    assert all(part.text.replace(unit, "") == "" for part in parts)


def test_data_without_spaces_are_cut():
    """Failing means a picture in base64 becomes one endless passage."""
    text = "Before. " + "iVBORw0KGgo" * 500 + " After."
    parts = retrieval.cut_passage(Passage("picture", text), 120)
    assert len(parts) > 10
    assert max(len(part.text) for part in parts) < 500


@pytest.mark.parametrize("by", ["words", "both"])
@pytest.mark.parametrize("language", UNSPACED)
def test_texts_without_spaces_are_found_by_their_words(embedder, language, by):
    """Failing means a Chinese or Thai document is one word to BM25, and nothing is ever found."""
    dogs, filler, question = UNSPACED[language]
    index = PassageIndex(embedder)
    text = filler * 100 + dogs + filler * 100
    index.update(retrieval.cut_passage(Passage("ferry", text), 120))
    best, _ = index.search([question], 3, by)[0][0]
    assert dogs[:5] in best.text


def test_one_chinese_character_is_a_word(embedder):
    """Failing means 狗, dog, finds nothing."""
    index = PassageIndex(embedder)
    index.update([Passage("a", "狗可以上船"), Passage("b", "第二码头检修")])
    [[(best, _)]] = index.search(["狗"], 2, "words")
    assert best.name == "a"


@pytest.mark.parametrize(
    "text", ["The 3 dogs' café_2, re-used: naïve x² ½", "Собаки едут даром", "A b c"]
)
def test_words_of_spaced_scripts_are_those_of_bm25s(text):
    """Failing means published numbers of the search by words no longer hold."""
    [theirs] = retrieval.bm25s.tokenize(text, return_ids=False, stopwords=[], show_progress=False)
    assert retrieval.split_words(text.lower()) == theirs


def test_vowel_signs_belong_to_words():
    """Failing means Hindi words are torn at their vowels."""
    assert retrieval.split_words("कुत्ते मुफ़्त") == ["कुत्ते", "मुफ़्त"]


def test_accents_in_two_spellings_are_one_word():
    """Failing means a note typed on a Mac is not found, as its accents are letters of their own."""
    assert retrieval.split_words("cafe\u0301") == retrieval.split_words("café")


def test_unreadable_script_is_said(embedder, capsys):
    """Failing means passages are embedded that the embedder knows no letter of, and nobody is
    told.
    """
    PassageIndex(embedder).update([*FRUIT, Passage("ferry", "สุนัขขึ้นเรือฟรี")])
    printed = capsys.readouterr().out
    assert "knows less than half of what stands in 1 of 3 passages, such as ferry" in printed


def test_readable_passages_are_embedded_without_a_word(embedder, capsys):
    """Failing means every index of English texts begins with a warning."""
    PassageIndex(embedder).update(FRUIT)
    assert capsys.readouterr().out == ""


def test_passages_without_words_can_be_searched(embedder):
    """Failing means a folder of dots and dashes ends in a traceback."""
    index = PassageIndex(embedder)
    index.update([Passage("dots", "… — !"), Passage("stop word", "the")])
    assert index.search(["anything"], 2, "words") == [[]]
    assert index.search(["the"], 2, "words") == [[]]


def test_long_answers_of_a_json_file_are_cut_too(tmp_path):
    """Failing means the end of a long answer is never found."""
    rows = [{"question": "Why?", "answer": " ".join(["because"] * 300)}]
    (tmp_path / "long.jsonl").write_text(json.dumps(rows[0]))
    assert len(retrieval.read_passages(tmp_path)) == 3


def test_facts_become_passages_with_their_term():
    """Failing means a definition is found without what it defines."""
    facts = [make_fact("plum", "A fruit."), make_example("Why?", "So.")]
    assert [passage.text for passage in retrieval.list_passages(facts)] == [
        "plum: A fruit.",
        "Why?: So.",
    ]


def test_prompt_holds_passages_question_and_the_way_out():
    """Failing means the model is asked without its passages, or not told that it may abstain."""
    prompt = retrieval.ground_question("What is a plum?", FRUIT)
    assert all(passage.text in prompt for passage in FRUIT)
    assert retrieval.ABSTAIN in prompt
    assert prompt.endswith("What is a plum?")
