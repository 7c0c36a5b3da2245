"""Questions and answers: masked by counting, never cut, batched with equal gradients."""

import pytest
import torch
from datasets import Dataset
from torch import nn

from lessons_lib import data, evaluation, models, training
from lessons_lib.data import DataError
from lessons_lib.errors import SettingError

FACTS = [
    data.make_example("what is it", "a film"),
    data.make_example("what is it about", "a bad plot and acting"),
]


@pytest.fixture(scope="module")
def tiny():
    return models.load_decoder("tiny")


def test_answer_and_its_end_are_supervised_and_nothing_else(tiny):
    """Failing means the model learns the question, or never learns to stop."""
    _, tokenizer = tiny
    (row,) = training.encode_conversations(FACTS[:1], tokenizer, 64)
    learned = [label for label in row["labels"] if label != training.IGNORED]
    assert learned == [
        *tokenizer("a film", add_special_tokens=False)["input_ids"],
        tokenizer.eos_token_id,
    ]
    assert row["labels"][-len(learned) :] == row["input_ids"][-len(learned) :] == learned
    prompt = models.render_chat(tokenizer, "what is it")
    assert (
        row["input_ids"][: -len(learned)]
        == tokenizer(prompt, add_special_tokens=False)["input_ids"]
    )


def test_rows_begin_with_one_beginning_token(tiny):
    """Failing means two BOS tokens: the template's and the tokenizer's, a prompt no model was
    trained on.
    """
    _, tokenizer = models.load_decoder("tiny")
    tokenizer.bos_token = "[CLS]"
    tokenizer.chat_template = "[CLS]" + tokenizer.chat_template
    (row,) = training.encode_conversations(FACTS[:1], tokenizer, 64)
    assert row["input_ids"].count(tokenizer.bos_token_id) == 1


def lengthen(count):
    """So many facts, every third of which is long."""
    facts = []
    for number in range(count):
        answer = "a film" if number % 3 else "a film " * 60
        messages = (("user", f"what is {number}"), ("assistant", answer))
        facts.append(data.Conversation(messages, place=f"row {number}"))
    return facts


def test_long_examples_are_refused_at_once_and_not_cut(tiny):
    """Failing means cut answers, which teach a model never to end, or a run for each long row."""
    with pytest.raises(DataError) as error:
        training.encode_conversations(lengthen(9), tiny[1], 64, remedy="take --too-long leave-out.")
    message = str(error.value)
    assert message.startswith("3 of 9 examples have more than 64 tokens:")
    for row in ("row 0: ", "row 3: ", "row 6: "):
        assert row in message
    assert error.value.remedy == "take --too-long leave-out."


def test_long_examples_are_left_out_aloud(tiny, capsys):
    """Failing means a few long rows stop a large file, or vanish in silence."""
    facts = lengthen(30)
    rows = training.encode_conversations(facts, tiny[1], 64, too_long="leave-out")
    numbers = training.find_fitting(facts, tiny[1], 64)
    assert numbers == [number for number in range(30) if number % 3]
    assert len(rows) == 20
    assert max(map(len, rows["input_ids"])) <= 64
    text = capsys.readouterr().out
    assert "10 of 30 examples have more than 64 tokens and are left out" in text
    assert "row 12: " in text
    assert "and 5 more" in text


def test_limit_counts_the_end_of_the_answer(tiny):
    """Failing means an example of exactly the allowed length is refused, or one beyond it is
    taken.
    """
    (row,) = training.encode_conversations(FACTS[:1], tiny[1], 64)
    length = len(row["input_ids"])
    assert training.find_fitting(FACTS[:1], tiny[1], length) == [0]
    with pytest.raises(DataError):
        training.find_fitting(FACTS[:1], tiny[1], length - 1)


def test_nothing_left_is_an_error(tiny):
    """Failing means training begins without a row."""
    with pytest.raises(DataError, match="2 of 2 examples"):
        training.encode_conversations(FACTS, tiny[1], 3, too_long="leave-out")
    with pytest.raises(SettingError, match="error, leave-out"):
        training.encode_conversations(FACTS, tiny[1], 3, too_long="cut")


def test_half_a_surrogate_pair_does_not_reach_the_tokenizer(tiny):
    """Failing means a cut emoji in a cell ends in another library's TypeError."""
    example = data.make_example("what \ud83d", "a film \ude00")
    assert len(training.encode_conversations([example], tiny[1], 64)) == 1


def test_template_without_system_messages_says_so(tiny):
    """Failing means a template's own error ends in a traceback."""
    _, tokenizer = models.load_decoder("tiny")
    tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}a"
    )
    messages = (("system", "be kind"), ("user", "what"), ("assistant", "a film"))
    with pytest.raises(DataError, match=r"row 7: .*no system") as error:
        training.encode_conversations([data.Conversation(messages, place="row 7")], tokenizer, 64)
    assert error.value.remedy


def test_masked_row_is_an_error_before_training(tiny, tmp_path):
    """Failing means a row without an answer gives a loss of nan in mid-training."""
    rows = Dataset.from_list(
        [{"input_ids": [5, 6], "labels": [-100, 6]}, {"input_ids": [5, 6], "labels": [-100] * 2}]
    )
    settings = training.TrainSettings(1e-3, 1, 2)
    with pytest.raises(DataError, match="Row 2 has no supervised token"):
        training.train(tiny[0], rows, None, settings, task=training.ANSWERS, output_dir=tmp_path)


def test_flat_batch_gives_each_row_the_gradient_it_has_alone(tiny):
    """Failing means rows of a batch see each other, or the shared beginning is counted wrongly."""
    model, tokenizer = tiny
    rows = list(training.encode_conversations([*FACTS, FACTS[0]], tokenizer, 64))
    flat = training.pack_batch(rows)
    labels = flat.pop("labels")
    packed = training.pack_batch(rows, multiple_of=1)
    assert packed["input_ids"].shape[1] < sum(len(row["input_ids"]) for row in rows)
    found = torch.autograd.grad(
        training.answer_loss(model(**flat), labels), list(model.parameters())
    )
    total, count = 0, sum(label != training.IGNORED for row in rows for label in row["labels"])
    for row in rows:
        logits = model(torch.tensor([row["input_ids"]])).logits[0, :-1]
        total = total + nn.functional.cross_entropy(
            logits, torch.tensor(row["labels"][1:]), ignore_index=training.IGNORED, reduction="sum"
        )
    expected = torch.autograd.grad(total / count, list(model.parameters()))
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)


def test_filling_up_changes_no_gradient(tiny):
    """Failing means the tokens that fill a batch up are seen by its rows, or are learned."""
    model, tokenizer = tiny
    rows = list(training.encode_conversations(FACTS, tokenizer, 64))
    gradients = {}
    for multiple_of in (1, 32):
        batch = training.pack_batch(rows, multiple_of=multiple_of)
        assert batch["input_ids"].shape[1] % multiple_of == 0
        assert len(batch["logits_to_keep"]) % multiple_of == 0
        labels = batch.pop("labels")
        loss = training.answer_loss(model(**batch), labels)
        gradients[multiple_of] = torch.autograd.grad(loss, list(model.parameters()))
    for one, other in zip(*gradients.values(), strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)


def test_trained_model_says_the_answer_and_stops(tmp_path):
    """Failing means generation never ends, the commonest complaint about home-made chat models."""
    model, tokenizer = models.load_decoder("tiny")
    rows = training.encode_conversations(FACTS * 400, tokenizer, 64)
    settings = training.TrainSettings(5e-3, 1, 4)
    result = training.train(
        model,
        rows,
        rows,
        settings,
        task=training.ANSWERS,
        output_dir=tmp_path,
        progress=False,
    )
    prompts = [models.render_chat(tokenizer, fact.question) for fact in FACTS]
    answers = evaluation.generate_answers(
        model, tokenizer, prompts, max_new_tokens=16, progress=False
    )
    assert [(answer.text, answer.stopped) for answer in answers] == [
        (fact.answer, True) for fact in FACTS
    ]
    validation_losses = result.history["validation_loss"].dropna()
    assert validation_losses.iloc[-1] < 0.2 * validation_losses.iloc[0]


def test_untrained_model_does_not_stop():
    """Failing means the stop rate above cannot fail."""
    model, tokenizer = models.load_decoder("tiny")
    prompt = models.render_chat(tokenizer, FACTS[0].question)
    (answer,) = evaluation.generate_answers(
        model, tokenizer, [prompt], max_new_tokens=16, progress=False
    )
    assert not answer.stopped
    assert answer.tokens == 16


def test_generation_in_a_batch_equals_generation_alone(tiny):
    """Failing means padding changes what a model says."""
    prompts = ["the film was", "a", "documentary about a heist and the heist"]
    options = {"max_new_tokens": 8, "progress": False}
    together = evaluation.generate_answers(*tiny, prompts, **options)
    assert together == [
        evaluation.generate_answers(*tiny, [prompt], **options)[0] for prompt in prompts
    ]


def test_text_loss_is_the_librarys(tiny):
    """Failing means the perplexities of lesson 02 are not perplexities."""
    model, tokenizer = tiny
    text = "a film about a heist"
    ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
    expected = model(ids, labels=ids).loss.item()
    assert evaluation.measure_text_losses(model, tokenizer, [text], progress=False)[
        0
    ] == pytest.approx(expected, abs=1e-4)
