"""Questions and answers: read with errors that help, masked by counting, batched with equal gradients."""

import json

import pytest
import torch
from datasets import Dataset
from torch import nn

from lessons_lib import decoders, dialogs, training
from lessons_lib.data import SAMPLES, DataError

FACTS = [dialogs.ask("what is it", "a film"), dialogs.ask("what is it about", "a bad plot and acting")]


@pytest.fixture(scope="module")
def tiny():
    return decoders.load_decoder("tiny")


def write(folder, content, name="facts.json"):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("row", "question", "answer"),
    [
        ({"term": "Ataxia", "definition": "Unsteady."}, "What is Ataxia?", "Unsteady."),
        ({"question": "Why?", "answer": "So."}, "Why?", "So."),
        ({"prompt": "Why?", "response": "So."}, "Why?", "So."),
        ({"instruction": "Add", "input": "1 + 1", "output": "2"}, "Add\n\n1 + 1", "2"),
        ({"instruction": "Greet", "input": "", "output": "Hi"}, "Greet", "Hi"),
    ],
)
def test_usual_formats_are_read(tmp_path, row, question, answer):
    """Failing means a reader's file in a common format is refused or misread."""
    (found,) = dialogs.read_dialogs(write(tmp_path, [row]))
    assert (found.question, found.answer) == (question, answer)


def test_every_answer_of_a_chat_is_an_example(tmp_path):
    """Failing means all but the last answer of a conversation are thrown away."""
    said = [("system", "Be kind."), ("user", "A?"), ("assistant", "a"), ("user", "B?"), ("assistant", "b")]
    row = {"messages": [{"role": role, "content": text} for role, text in said]}
    found = dialogs.read_dialogs(write(tmp_path, json.dumps(row) + "\n", "chat.jsonl"))
    assert [(d.question, d.answer, len(d.turns)) for d in found] == [("A?", "a", 3), ("B?", "b", 5)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "mend the JSON"),
        ("{}", "is not a list"),
        ("[]", "holds no examples"),
        ([{"term": "A", "definition": "x"}, {"term": "B"}], "row 2 has term. Remedy: name the fields"),
        ([{"question": "A", "answer": "  "}], "row 1: answer is '  ', not a text. Remedy"),
        ([{"question": 3, "answer": "x"}], "row 1: question is 3, not a text"),
        (["text"], "row 1: not an object"),
        ([{"messages": [{"role": "human", "content": "x"}]}], "message 1: role 'human'. Remedy: one of"),
        ([{"messages": [{"role": "user", "content": "x"}]}], "end with the assistant's answer"),
    ],
)
def test_bad_files_name_row_and_remedy(tmp_path, content, message):
    """Failing means a reader hunts for the bad row by hand."""
    path = write(tmp_path, content)
    with pytest.raises(DataError) as error:
        dialogs.read_dialogs(path)
    assert message in str(error.value)
    assert path.name in str(error.value)


def test_bad_line_of_a_jsonl_file_is_named(tmp_path):
    """Failing means one broken line of thousands cannot be found."""
    path = write(tmp_path, '{"question": "a", "answer": "b"}\n\nnonsense\n', "facts.jsonl")
    with pytest.raises(DataError, match=r"facts\.jsonl, line 3"):
        dialogs.read_dialogs(path)


def test_sample_file_shows_the_format():
    """Failing means the course's own example cannot be read."""
    facts = dialogs.read_dialogs(SAMPLES / "medical_terms.json")
    assert len({fact.term for fact in facts}) == len(facts) >= 24


def test_answer_and_its_end_are_supervised_and_nothing_else(tiny):
    """Failing means the model learns the question, or never learns to stop."""
    _, tokenizer = tiny
    (row,) = dialogs.encode_dialogs(FACTS[:1], tokenizer, 64)
    learned = [label for label in row["labels"] if label != dialogs.IGNORED]
    assert learned == [*tokenizer("a film", add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    assert row["labels"][-len(learned) :] == row["input_ids"][-len(learned) :] == learned
    prompt = decoders.render_chat(tokenizer, "what is it")
    assert row["input_ids"][: -len(learned)] == tokenizer(prompt, add_special_tokens=False)["input_ids"]


def test_rows_begin_with_one_beginning_token(tiny):
    """Failing means two BOS tokens: the template's and the tokenizer's, a prompt no model was trained on."""
    _, tokenizer = decoders.load_decoder("tiny")
    tokenizer.bos_token = "[CLS]"
    tokenizer.chat_template = "[CLS]" + tokenizer.chat_template
    (row,) = dialogs.encode_dialogs(FACTS[:1], tokenizer, 64)
    assert row["input_ids"].count(tokenizer.bos_token_id) == 1


def test_long_examples_are_refused_not_cut(tiny):
    """Failing means cut answers, which teach a model never to end."""
    with pytest.raises(DataError, match=r"Example 2 has \d+ \+ \d+ tokens, and 24 are allowed"):
        dialogs.encode_dialogs(FACTS, tiny[1], 24)


def test_masked_row_is_an_error_before_training(tiny, tmp_path):
    """Failing means a row without an answer gives a loss of nan in mid-training."""
    rows = Dataset.from_list(
        [{"input_ids": [5, 6], "labels": [-100, 6]}, {"input_ids": [5, 6], "labels": [-100] * 2}]
    )
    settings = training.TrainSettings(1e-3, 1, 2)
    with pytest.raises(DataError, match="Row 2 has no supervised token"):
        training.train(tiny[0], rows, None, settings, output_dir=tmp_path)


def test_flat_batch_gives_each_row_the_gradient_it_has_alone(tiny):
    """Failing means rows of a batch see each other, or the shared beginning is counted wrongly."""
    model, tokenizer = tiny
    rows = list(dialogs.encode_dialogs([*FACTS, FACTS[0]], tokenizer, 64))
    flat = dialogs.flatten_batch(rows)
    labels = flat.pop("labels")
    assert flat["input_ids"].shape[1] < sum(len(row["input_ids"]) for row in rows)
    found = torch.autograd.grad(dialogs.answer_loss(model(**flat), labels), list(model.parameters()))
    total, count = 0, sum(label != dialogs.IGNORED for row in rows for label in row["labels"])
    for row in rows:
        logits = model(torch.tensor([row["input_ids"]])).logits[0, :-1]
        total = total + nn.functional.cross_entropy(
            logits, torch.tensor(row["labels"][1:]), ignore_index=dialogs.IGNORED, reduction="sum"
        )
    expected = torch.autograd.grad(total / count, list(model.parameters()))
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)


def test_trained_model_says_the_answer_and_stops(tmp_path):
    """Failing means generation never ends, the commonest complaint about home-made chat models."""
    model, tokenizer = decoders.load_decoder("tiny")
    rows = dialogs.encode_dialogs(FACTS * 160, tokenizer, 64)
    settings = training.TrainSettings(1e-2, 1, 4)
    result = training.train(model, rows, rows, settings, output_dir=tmp_path, progress=False)
    prompts = [decoders.render_chat(tokenizer, fact.question) for fact in FACTS]
    answers = decoders.generate_answers(model, tokenizer, prompts, max_new_tokens=16, progress=False)
    assert [(answer.text, answer.stopped) for answer in answers] == [(fact.answer, True) for fact in FACTS]
    assert result.history["validation_loss"].dropna().is_monotonic_decreasing


def test_untrained_model_does_not_stop():
    """Failing means the stop rate above cannot fail."""
    model, tokenizer = decoders.load_decoder("tiny")
    prompt = decoders.render_chat(tokenizer, FACTS[0].question)
    (answer,) = decoders.generate_answers(model, tokenizer, [prompt], max_new_tokens=16, progress=False)
    assert not answer.stopped
    assert answer.tokens == 16


def test_generation_in_a_batch_equals_generation_alone(tiny):
    """Failing means padding changes what a model says."""
    prompts = ["the film was", "a", "documentary about a heist and the heist"]
    options = {"max_new_tokens": 8, "progress": False}
    together = decoders.generate_answers(*tiny, prompts, **options)
    assert together == [decoders.generate_answers(*tiny, [prompt], **options)[0] for prompt in prompts]


def test_text_loss_is_the_librarys(tiny):
    """Failing means the perplexities of lesson 02 are not perplexities."""
    model, tokenizer = tiny
    text = "a film about a heist"
    ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
    expected = model(ids, labels=ids).loss.item()
    assert decoders.score_texts(model, tokenizer, [text], progress=False)[0] == pytest.approx(
        expected, abs=1e-4
    )
