"""Questions and answers of a reader's own: read as they stand, or refused with row and remedy."""

import json
import random
import time

import pandas as pd
import pytest
from datasets import Dataset
from mutations import count_mutations, mutate

from lessons_lib import data
from lessons_lib.data import DataError
from lessons_lib.data.facts import Conversation, read_conversations
from lessons_lib.errors import CourseError
from lessons_lib.paths import SAMPLES

PAIR = {"question": "Why?", "answer": "So."}
CHAT = [
    ("system", "Be kind."),
    ("user", "A?"),
    ("assistant", "a"),
    ("user", "B?"),
    ("assistant", "b"),
]
CHAT_MESSAGES = [{"role": role, "content": content} for role, content in CHAT]
OTHER_CAPITALS = [{"Role": "User", "Content": "A?"}, {"role": "ASSISTANT", "content": "a"}]
SHAREGPT = [{"from": "human", "value": "A?"}, {"from": "gpt", "value": "a"}]
IN_PARTS = [{"role": "user", "content": [{"type": "text", "text": "A?"}]}, CHAT_MESSAGES[2]]


def write(folder, content, name="facts.json"):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def refuse(path):
    """The error that a file gives."""
    with pytest.raises(DataError) as error:
        read_conversations(path)
    assert error.value.remedy
    assert path.name in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("row", "question", "answer"),
    [
        ({"term": "Ataxia", "definition": "Unsteady."}, "What is Ataxia?", "Unsteady."),
        ({"Word ": "Ataxia", "Meaning": "Unsteady."}, "What is Ataxia?", "Unsteady."),
        ({"word": "Ataxia", "definition": "Unsteady."}, "What is Ataxia?", "Unsteady."),
        (PAIR, "Why?", "So."),
        ({" Question": "Why?", "ANSWER ": "So."}, "Why?", "So."),
        ({"Questions": "Why?", "Answers": "So."}, "Why?", "So."),
        ({"Q": "Why?", "A": "So."}, "Why?", "So."),
        ({"prompt": "Why?", "response": "So."}, "Why?", "So."),
        ({"prompt": "Why?", "completion": "So."}, "Why?", "So."),
        ({"Front": "Why?", "Back": "So."}, "Why?", "So."),
        ({"instruction": "Add", "input": "1 + 1", "output": "2"}, "Add\n\n1 + 1", "2"),
        ({"instruction": "Add", "context": "1 + 1", "response": "2"}, "Add\n\n1 + 1", "2"),
        (
            {"instruction": "Greet", "input": "", "output": "Hi", "text": "### Response: Hi"},
            "Greet",
            "Hi",
        ),
        ({"input": "Greet", "output": "Hi"}, "Greet", "Hi"),
        (
            {"question": "Why?", "answers": {"text": ["So.", "Well."], "answer_start": [0, 1]}},
            "Why?",
            "So.",
        ),
        ({"question": "Why?", "answers": ["So.", "Well."]}, "Why?", "So."),
        ({"text": "<s>[INST] Why? [/INST] So. </s>"}, "Why?", "So."),
        ({"messages": OTHER_CAPITALS}, "A?", "a"),
        ({"conversations": SHAREGPT}, "A?", "a"),
        ({"messages": json.dumps(CHAT_MESSAGES[:3])}, "A?", "a"),
        ({"prompt": [CHAT_MESSAGES[1]], "completion": [CHAT_MESSAGES[2]]}, "A?", "a"),
        ({"messages": IN_PARTS}, "A?", "a"),
    ],
)
def test_usual_formats_are_read(tmp_path, row, question, answer):
    """Failing means a reader's file in a common format is refused or misread."""
    (example,) = read_conversations(write(tmp_path, [row]))
    assert (example.question, example.answer) == (question, answer)


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "json", "parquet"])
def test_tables_and_lines_are_read_alike(tmp_path, ending):
    """Failing means facts can be read from one kind of file only."""
    rows = [{"Question": f"Why {n}?", "Answer": f"So, {n}."} for n in range(4)]
    path, frame = tmp_path / f"facts.{ending}", pd.DataFrame(rows)
    if ending == "parquet":
        frame.to_parquet(path)
    elif ending in ("csv", "tsv"):
        frame.to_csv(path, index=False, sep="\t" if ending == "tsv" else ",")
    else:
        frame.to_json(path, orient="records", lines=ending == "jsonl")
    assert [(row.question, row.answer) for row in read_conversations(path)] == [
        (row["Question"], row["Answer"]) for row in rows
    ]


def test_squad_is_read(tmp_path):
    """Failing means the best-known file of questions is refused, or its questions without answer
    taught.
    """
    asked = [
        {"question": "Who?", "answers": [{"text": "Ann", "answer_start": 0}]},
        {"question": "When?", "answers": [], "is_impossible": True},
    ]
    article = {"title": "t", "paragraphs": [{"context": "Ann did it.", "qas": asked}]}
    (example,) = read_conversations(write(tmp_path, {"version": "2.0", "data": [article]}))
    assert (example.question, example.answer) == ("Who?\n\nAnn did it.", "Ann")


def test_every_answer_of_a_chat_is_an_example(tmp_path):
    """Failing means all but the last answer of a conversation are thrown away."""
    path = write(tmp_path, json.dumps({"messages": CHAT_MESSAGES}) + "\n", "chat.jsonl")
    examples = read_conversations(path)
    assert [(d.question, d.answer, len(d.messages)) for d in examples] == [
        ("A?", "a", 3),
        ("B?", "b", 5),
    ]


def test_rendered_conversation_gives_its_turns(tmp_path):
    """Failing means a template's marks are taught as words, and rendered once more."""
    text = "<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nA? [/INST] a </s><s>[INST] B? [/INST] b </s>"
    examples = read_conversations(write(tmp_path, [{"text": text}]))
    assert examples[-1].messages == tuple(CHAT)
    assert len(examples) == 2


@pytest.mark.parametrize("field", ["system", "system_prompt"])
def test_system_field_stands_first(tmp_path, field):
    """Failing means a system message is lost, or taught as a question."""
    (example,) = read_conversations(write(tmp_path, [{field: "Be kind.", **PAIR}]))
    assert example.messages == (("system", "Be kind."), ("user", "Why?"), ("assistant", "So."))
    assert example.question == "Why?"


@pytest.mark.parametrize("nothing", ["", "  ", None, float("nan"), "nan", "None", "<noinput>"])
@pytest.mark.parametrize("field", ["input", "context"])
def test_missing_input_adds_nothing(tmp_path, field, nothing):
    """Failing means "nan" is taught as part of a question."""
    path = write(tmp_path, [{"instruction": "Greet", field: nothing, "output": "Hi"}])
    assert read_conversations(path)[0].question == "Greet"


@pytest.mark.parametrize(
    "empty",
    [
        {"question": "Why?", "answer": ""},
        {"question": "Why?", "answer": None},
        {"question": float("nan"), "answer": "So."},
        {"question": "Why?", "answers": {"text": [], "answer_start": []}},
        {"messages": [CHAT_MESSAGES[1], {"role": "assistant", "content": " "}]},
    ],
)
def test_rows_without_an_answer_are_left_out_aloud(tmp_path, capsys, empty):
    """Failing means a row with nothing to learn stops the reader, is taught, or goes in silence."""
    assert len(read_conversations(write(tmp_path, [PAIR, empty, PAIR]))) == 2
    assert "1 row without question or answer left out: row 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"term": "B"}, "term has no definition"),
        ({"question": 3, "answer": "x"}, "question is 3, not a text"),
        ({"question": "x", "answer": True}, "answer is True, not a text"),
        ({"instruction": "x", "input": 5, "output": "y"}, "input is 5, not a text"),
        ({"question": "x", "Question ": "y", "answer": "z"}, "two fields question"),
        ({"query": "x", "q": "y", "reply": "z"}, "the fields are query, q, reply"),
        ({"role": "user", "content": "x"}, "each row is one message"),
        ({"text": "A plain text."}, "a text alone has no answer"),
        ({"text": "<|im_start|>user\nA?<|im_end|>"}, "rendered for another model"),
        ({"text": "### Human: A?### Assistant: a"}, "rendered for another model"),
        ({"text": "[INST] A? a"}, "[INST] 1 has no [/INST]"),
        ({"question": "<|im_start|>A?", "answer": "a"}, "chat template's mark"),
        ({"prompt": "[INST] A? [/INST]", "completion": "a"}, "chat template's mark"),
    ],
)
def test_rows_that_cannot_be_read_name_place_and_remedy(tmp_path, row, message):
    """Failing means a reader hunts for the bad row by hand, or something else is taught."""
    text = refuse(write(tmp_path, [PAIR, row]))
    assert "row 2: " in text
    assert message in text


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ("user", "message 1, the last, is the user's"),
        ("system assistant", "message 2 is the assistant's, and nobody has asked"),
        ("assistant user assistant", "message 1 is the assistant's, and nobody has asked"),
        ("user user assistant", "message 2 is the user's, as is the one before"),
        ("user assistant assistant", "message 3 is the assistant's, as is the one before"),
        ("user assistant user", "message 3, the last, is the user's"),
        ("user system assistant", "message 2 is the system's"),
        ("system system user assistant", "message 2 is the system's"),
        ("system", "message 1, the last, is the system's"),
        ("user tool assistant", "message 2 is a tool's"),
        ("user FUNCTION assistant", "message 2 is a tool's"),
        ("user narrator", "message 2: role 'narrator'"),
    ],
)
def test_conversations_in_another_order_are_refused(tmp_path, roles, message):
    """Failing means a system message is taught as a question, or an answer that nobody asked
    for.
    """
    messages = [{"role": role, "content": "x"} for role in roles.split()]
    text = refuse(write(tmp_path, [{"messages": messages}]))
    assert "row 1: " in text
    assert message in text


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
        {"role": "assistant", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
        {"role": "assistant", "content": 3},
        "so",
    ],
)
def test_messages_that_are_no_texts_are_refused(tmp_path, message):
    """Failing means a call of a tool or a picture is taught as an empty answer."""
    assert "message 2" in refuse(write(tmp_path, [{"messages": [CHAT_MESSAGES[1], message]}]))


@pytest.mark.parametrize("messages", ["[{'role': 'user'}]", 3, {"role": "user"}])
def test_messages_must_be_a_list(tmp_path, messages):
    """Failing means a table that was saved with Python's own marks ends in a traceback."""
    refuse(write(tmp_path, [{"messages": messages}]))


def test_all_bad_rows_are_named_at_once(tmp_path):
    """Failing means a run for each bad row."""
    text = refuse(write(tmp_path, [PAIR, {"question": 3, "answer": "x"}, PAIR, {"term": "B"}]))
    assert "row 2: question is 3" in text
    assert "row 4: term has no definition" in text


def test_unknown_fields_of_a_whole_file_are_said_once(tmp_path):
    """Failing means a file with other names gives an error a row."""
    text = refuse(write(tmp_path, [{"Frage": "Wozu?", "Antwort": "Darum."}] * 9))
    assert text.count("Frage, Antwort") == 1
    assert "name the fields term and definition" in text
    reviews = [{"text": f"A fine film, {number}.", "label": 1} for number in range(9)]
    assert refuse(write(tmp_path, reviews)).count("a text alone has no answer") == 1


def test_folder_and_missing_file_say_what_to_give(tmp_path):
    """Failing means a folder that exists "does not exist"."""
    (tmp_path / "folder").mkdir()
    inside = write(tmp_path / "folder", [PAIR])
    assert "is a folder" in refuse(tmp_path / "folder")
    assert str(inside) in refuse(tmp_path / "folder")
    assert "check the path" in refuse(tmp_path / "no.json")
    with pytest.raises(DataError) as error:
        read_conversations(tmp_path / ("long" * 100))
    assert error.value.remedy


@pytest.mark.parametrize("content", [[], "", "\n", [{"question": "Why?", "answer": ""}]])
def test_file_without_examples_is_refused(tmp_path, content):
    """Failing means a model is loaded to be taught nothing."""
    refuse(write(tmp_path, content))


@pytest.mark.parametrize("half", ["\ud83d", "\ude00"])
@pytest.mark.parametrize("field", ["question", "answer"])
def test_half_a_surrogate_pair_is_replaced(tmp_path, half, field):
    """Failing means a cut emoji ends in a traceback once the model is loaded."""
    (example,) = read_conversations(write(tmp_path, [{**PAIR, field: f"cut {half}"}]))
    assert getattr(example, field) == "cut \ufffd"


def test_what_was_understood_is_printed(tmp_path, capsys):
    """Failing means a column is taken for another in silence."""
    rows = [{"Question": "Why?", "Answer": "So.", "source": "me"}] * 2
    rows += [{"Question": "Why?", "Answer": "Because.", "source": "me"}]
    read_conversations(write(tmp_path, rows))
    text = capsys.readouterr().out
    assert text.startswith("facts.json: ")
    assert "question ← 'Question', answer ← 'Answer'" in text
    assert '3 examples, such as "Why?" → "So."' in text
    assert "not read: source" in text
    assert "1 example repeated word for word" in text
    assert "1 question with answers that differ" in text


def test_own_samples_and_quiet_readers_print_nothing(tmp_path, capsys):
    """Failing means the lessons' stored outputs change, or a folder's files flood a search."""
    read_conversations(SAMPLES / "medical_terms.json")
    read_conversations(write(tmp_path, [PAIR]), quiet=True)
    assert not capsys.readouterr().out


def test_sample_file_shows_the_format():
    """Failing means the course's own example cannot be read."""
    examples = read_conversations(SAMPLES / "medical_terms.json")
    assert len({example.term for example in examples}) == len(examples) >= 24


def test_place_does_not_count():
    """Failing means equal facts of two files are two facts."""
    assert Conversation(tuple(CHAT), place="a") == Conversation(tuple(CHAT), place="b")


FUZZED = {
    "facts.json": json.dumps(
        [PAIR, {"term": "A", "definition": "b \ud83d"}, {"messages": CHAT_MESSAGES}] * 3
    ),
    "facts.jsonl": "\n".join(json.dumps(row) for row in [PAIR, {"text": "[INST] a [/INST] b"}] * 4),
    "facts.csv": "question,answer\n" + '"Why, é?","So ""then""."\n' * 6,
    "facts.tsv": "instruction\tinput\toutput\n" + "Greet\tnan\tHi\n" * 6,
    "squad.json": json.dumps({"data": [{"paragraphs": [{"context": "c", "qas": [PAIR] * 3}]}] * 2}),
}


@pytest.mark.parametrize("name", FUZZED)
def test_damaged_files_are_read_or_refused(tmp_path, name):
    """Failing means a damaged file ends in a traceback, in an error without a remedy, or takes for
    ever.
    """
    chance = random.Random(0)
    path = tmp_path / name
    for _ in range(count_mutations(60)):
        path.write_bytes(mutate(FUZZED[name].encode(), chance))
        started = time.process_time()
        try:
            for example in read_conversations(path, quiet=True):
                str(example.messages).encode("utf-8")
                assert data.phrase_terms([example], data.NEUTRAL.training, 1)
        except CourseError as error:
            assert error.remedy, error
        assert time.process_time() - started < 1


def test_report_shows_few_of_many(tmp_path, capsys):
    """Failing means a file with thousands of empty answers floods the page."""
    read_conversations(write(tmp_path, [PAIR] + [{"question": "Why?", "answer": ""}] * 99))
    text = capsys.readouterr().out
    assert "99 rows without question or answer left out: row 2, row 3, row 4, …" in text
    assert len(text.splitlines()) < 6


def test_first_line_that_is_a_question_is_no_header(tmp_path, capsys):
    """Failing means a table without a header is refused, or its first question is lost."""
    path = write(tmp_path, "Why?,So.\nHow?,Well.\nWhen?,Now.\n", "facts.csv")
    assert [example.question for example in read_conversations(path)] == ["Why?", "How?", "When?"]
    assert "no header" in capsys.readouterr().out


@pytest.mark.parametrize("gap", [None, "", float("nan")])
def test_fields_that_are_filled_in_a_row_count(tmp_path, gap):
    """Failing means rows of two kinds, which one table holds beside gaps, are taken for empty."""
    rows = [{**PAIR, "messages": gap}, {"question": gap, "answer": gap, "messages": SHAREGPT}]
    assert [example.answer for example in read_conversations(write(tmp_path, rows))] == ["So.", "a"]


def test_gap_is_not_filled_from_a_rendered_text(tmp_path):
    """Failing means a row without an answer is refused for a column that nobody reads."""
    row = {"instruction": "Greet", "output": "", "text": "### Instruction: Greet"}
    assert len(read_conversations(write(tmp_path, [row, {**row, "output": "Hi"}]))) == 1


def test_answers_as_python_shows_them_are_refused(tmp_path):
    """Failing means SQuAD saved by `to_csv` teaches braces and "answer_start"."""
    answers = "{'text': array(['Ann'], dtype=object), 'answer_start': array([0], dtype=int32)}"
    assert "row 1: " in refuse(write(tmp_path, [{"question": "Who?", "answers": answers}]))
    path = write(
        tmp_path, [{"question": "Who?", "answers": '{"text": ["Ann"], "answer_start": [0]}'}]
    )
    assert read_conversations(path)[0].answer == "Ann"


def test_further_answers_are_counted_aloud(tmp_path, capsys):
    """Failing means all answers of a question but the first vanish in silence."""
    read_conversations(write(tmp_path, [{"question": "Why?", "answers": ["So.", "Well."]}, PAIR]))
    assert "1 row with several answers: the first is taken" in capsys.readouterr().out


def test_saved_dataset_is_read(tmp_path):
    """Failing means a folder of `save_to_disk` is taken for one of files."""
    Dataset.from_list([PAIR, PAIR]).save_to_disk(tmp_path / "saved")
    assert len(read_conversations(tmp_path / "saved")) == 2
