"""Decoders: prompts and likelihoods that are what they claim to be."""

import pytest
import torch
from huggingface_hub.errors import GatedRepoError

from lessons_lib import evaluation, models
from lessons_lib.hardware import PRECISIONS
from lessons_lib.models import decoder as decoder_module

pytestmark = pytest.mark.usefixtures("each_precision")


@pytest.fixture(scope="module")
def tiny():
    return models.load_decoder("tiny")


def log_probability(model, tokenizer, prompt, choice):
    before, after = (
        tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, choice)
    )
    logs = model(torch.tensor([before + after])).logits[0].log_softmax(-1)
    return sum(float(logs[len(before) - 1 + n, token]) for n, token in enumerate(after))


def test_scores_equal_those_of_one_row_at_a_time(tiny, monkeypatch):
    """Failing means batching, padding or the shared prefix changes which answer is likelier."""
    # like with like: the single rows are in fp32
    monkeypatch.setenv("LESSONS_PRECISION", "float32")
    prompts = ["the film was", "the film", "the film was not very good and"]
    choices = [["good", "bad film"], ["a good film", "bad"], ["slow", "slow slow slow"]]
    found = evaluation.score_choices(*tiny, prompts, choices, batch_size=2, progress=False)
    with torch.inference_mode():
        expected = [
            [log_probability(*tiny, p, c) for c in cs]
            for p, cs in zip(prompts, choices, strict=True)
        ]
    assert found == pytest.approx(torch.tensor(expected).numpy(), abs=1e-4)


def test_bf16_moves_scores_little(tiny, monkeypatch):
    """Failing means that where bf16 is fast, other answers are likelier than elsewhere."""
    prompts = ["the film was", "the film was not very good and"]
    choices = [["good", "a bad film"], ["slow", "slow slow slow"]]
    scores = {}
    for dtype in PRECISIONS:
        monkeypatch.setenv("LESSONS_PRECISION", dtype)
        scores[dtype] = evaluation.score_choices(*tiny, prompts, choices, progress=False)
    assert scores["bfloat16"] == pytest.approx(scores["float32"], rel=2e-3)
    assert scores["bfloat16"] != pytest.approx(scores["float32"], abs=1e-7)


def test_prompts_without_a_common_beginning_are_scored(tiny):
    """Failing means questions must begin alike, or equal questions crash."""
    found = evaluation.score_choices(*tiny, ["film", "a"], [["good"], ["good"]], progress=False)
    again = evaluation.score_choices(*tiny, ["a", "a"], [["good"], ["good"]], progress=False)
    assert again[0] == again[1] == pytest.approx(found[1], abs=1e-4)


def test_prompt_ends_where_the_answer_begins(tiny):
    """Failing means the model is asked to continue the question, or sees the answer."""
    text = models.render_chat(tiny[1], "Good?", [("Bad?", "no")])
    assert text.endswith("assistant : ")
    assert text.count("[SEP]") == 3
    assert text.index("Bad?") < text.index("no") < text.index("Good?")


def test_saved_decoder_loads_from_a_folder(tiny, tmp_path):
    """Failing means a model of the reader's own cannot be used."""
    model, tokenizer = tiny
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded, again = models.load_decoder(str(tmp_path))
    ids = torch.tensor([tokenizer("the film was good")["input_ids"]])
    assert torch.equal(loaded(ids).logits, model(ids).logits)
    assert models.render_chat(again, "Hi") == models.render_chat(tokenizer, "Hi")


def test_gated_model_is_replaced_before_any_download(monkeypatch, capsys):
    """Failing means a reader without access waits for a 401, or gets another model without a
    word.
    """

    def refuse(name):
        raise GatedRepoError("403", response=type("R", (), {"headers": {}, "request": None})())

    monkeypatch.setattr(decoder_module, "auth_check", refuse)
    assert models.resolve_decoder("meta-llama/Llama-2-7b-chat-hf", "open/one") == "open/one"
    said = capsys.readouterr().out
    assert "open/one instead" in said
    assert "HF_TOKEN" in said
    assert "accept its licence" in said

    with pytest.raises(models.ModelError, match="accept its licence"):
        models.resolve_decoder("meta-llama/Llama-2-7b-chat-hf", "")


def test_mistyped_folder_is_an_error_with_a_remedy():
    """Failing means a typo in --model ends in the Hub's grammar of names."""
    with pytest.raises(models.ModelError, match="check name"):
        models.resolve_decoder("./no/such/folder", "")


@pytest.mark.parametrize("offline", [True, False])
def test_hub_that_cannot_be_reached_is_an_error_with_a_remedy(offline, monkeypatch):
    """Failing means a missing network is taken for a missing permission, or ends in a bare
    traceback.
    """
    if not offline:  # as the Hub's client fails: by an error of its HTTP library's own

        def lose_connection(name):
            raise Exception("no route to host")

        monkeypatch.setattr(decoder_module, "auth_check", lose_connection)
    with pytest.raises(models.ModelError, match="LESSONS_PROFILE=laptop"):
        models.resolve_decoder("meta-llama/Llama-2-7b-chat-hf", "open/one")


def test_cached_hub_model_needs_no_network(tmp_path, monkeypatch):
    """Failing means a model that was downloaded yesterday cannot be used on a train."""
    monkeypatch.setattr(
        decoder_module, "try_to_load_from_cache", lambda name, file: str(tmp_path / file)
    )
    monkeypatch.setattr(decoder_module, "auth_check", lambda name: pytest.fail("asked the Hub"))
    assert models.resolve_decoder("open/one", "") == "open/one"


def test_local_names_are_never_asked_for(monkeypatch):
    """Failing means the laptop profile needs a network."""
    monkeypatch.setattr(decoder_module, "auth_check", lambda name: pytest.fail("asked the Hub"))
    for name in ("tiny", "packaged:SmolLM2-135M-Instruct", "."):
        assert models.resolve_decoder(name, "") == name
