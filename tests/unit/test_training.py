"""Training: repeatable, resumable, quiet."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import hash_weights
from peft import LoraConfig
from transformers import TrainerCallback, TrainingArguments

from lessons_lib import data, models, training
from lessons_lib.errors import SettingError
from lessons_lib.evaluation.inference import predict
from lessons_lib.hardware import PRECISIONS, Precision, choose_precision
from lessons_lib.training import recipe as recipe_module
from lessons_lib.training import trainer
from lessons_lib.training.recipe import Recipe

pytestmark = pytest.mark.usefixtures("each_precision")

SETTINGS = training.TrainSettings(1e-2, epochs=2, batch_size=8, seed=3, ema_decay=0.9)
BF16 = Precision("bfloat16", "the test says so")
FP32 = Precision("float32", "the test says so")


class KillAt(TrainerCallback):
    """Ends the process as `kill -9` would, after a step."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def build(dropout=0.1):
    model = models.load_classifier("tiny", seed=3, dropout=dropout)[0]
    return models.add_lora(model, Recipe(0.01, lora_dropout=dropout).lora_config(), seed=3)


def run(tokens, folder, model=None, class_weights=None, **options):
    model = model or build()
    result = training.train(
        model,
        tokens["train"],
        None,
        SETTINGS,
        task=training.classification(model, class_weights),
        output_dir=folder,
        progress=False,
        **options,
    )
    return hash_weights(model), result


def test_one_seed_gives_identical_weights(tokens, tmp_path):
    """Failing means a published number cannot be repeated."""
    assert run(tokens, tmp_path / "a")[0] == run(tokens, tmp_path / "b")[0]


def test_class_weights_decide_what_a_row_counts(tokens, tmp_path):
    """Failing means weighting the classes does nothing: a class that counts nothing must not be
    learned.
    """
    one_sided = build(dropout=0.0)
    run(tokens, tmp_path, one_sided, class_weights=[0.0, 1.0])
    assert predict(one_sided, tokens["train"]).argmax(1).tolist() == [1] * len(tokens["train"])


def test_resuming_with_other_class_weights_is_refused(tokens, tmp_path):
    """Failing means half a run is weighted and half is not."""
    run(tokens, tmp_path, checkpoint_steps=2)
    with pytest.raises(ValueError, match="other settings"):
        run(tokens, tmp_path, checkpoint_steps=2, resume=True, class_weights=[1.0, 2.0])


@pytest.mark.slow
def test_killed_run_resumes_to_the_same_weights(tokens, tmp_path):
    """Failing means a lost connection costs the run, or quietly changes its result."""
    whole, _ = run(tokens, tmp_path / "whole", checkpoint_steps=2)
    code = (
        "import sys; sys.path += sys.argv[2:]; import test_training as t\n"
        "from lessons_lib import data, training\n"
        "s = data.load_reviews('samples', train_rows=48, validation_rows=16, test_rows=24)\n"
        "tokens = training.tokenize_reviews(s, t.models.load_tokenizer('tiny'), 48)\n"
        # epochs have 6 steps
        "t.run(tokens, sys.argv[1], checkpoint_steps=2, callbacks=(t.KillAt(9),))"
    )
    here = Path(__file__).parent
    command = [sys.executable, "-c", code, str(tmp_path / "cut"), str(here), str(here.parent)]
    killed = subprocess.run(command, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    (tmp_path / "cut" / "checkpoint-10").mkdir()  # killed while writing: no state in it
    resumed, result = run(tokens, tmp_path / "cut", checkpoint_steps=2, resume=True)
    assert resumed == whole
    assert result.steps == 12
    assert result.rows == 4 * 8  # only what was done here counts towards the speed


def test_resuming_with_other_settings_is_refused(tokens, tmp_path):
    """Failing means an old run is continued under a new name."""
    run(tokens, tmp_path, checkpoint_steps=4)
    other = training.TrainSettings(5e-2, epochs=2, batch_size=8)
    with pytest.raises(ValueError, match="other settings"):
        training.train(
            build(),
            tokens["train"],
            None,
            other,
            task=training.classification(build()),
            output_dir=tmp_path,
            resume=True,
        )


def test_resuming_with_other_rows_is_refused(tokens, tmp_path):
    """Failing means a run on new data continues the old one's."""
    run(tokens, tmp_path, checkpoint_steps=4)
    with pytest.raises(ValueError, match="other settings or rows"):
        run({"train": tokens["train"].select(range(40))}, tmp_path, checkpoint_steps=4, resume=True)


def test_new_run_clears_old_checkpoints(tokens, tmp_path):
    """Failing means a later resume picks up a stranger's checkpoint."""
    run(tokens, tmp_path, checkpoint_steps=4)
    run(tokens, tmp_path)
    assert not list(tmp_path.glob("checkpoint-*"))


def test_sampler_groups_lengths_and_takes_every_row_once():
    """Failing means rows are lost, or batches are padded for nothing."""
    lengths = np.random.default_rng(0).integers(4, 60, 203)
    sampler = training.LengthBucketSampler(list(lengths), 8, seed=0)
    order = list(sampler)
    assert sorted(order) == list(range(203))
    spread = [np.ptp(lengths[order[start : start + 8]]) for start in range(0, 200, 8)]
    assert np.median(spread) <= 4


def test_sampler_changes_with_the_epoch_and_only_with_it():
    """Failing means every epoch repeats one order, or a resumed epoch has another."""
    sampler = training.LengthBucketSampler([3, 1, 2] * 20, 4, seed=0)
    first, again = list(sampler), list(sampler)
    sampler.set_epoch(1)
    assert first == again != list(sampler)


def test_model_trained_in_bf16_answers_in_fp32(tokens, tmp_path):
    """Failing means a saved adapter gives other logits in a fresh process, on CPUs with fast bf16
    only.
    """
    model, fresh = build(dropout=0.0), build(dropout=0.0)
    run(tokens, tmp_path, model, precision=BF16)
    fresh.load_state_dict(model.state_dict())
    rows = {
        "input_ids": torch.tensor([[5, 60, 7, 80]]),
        "attention_mask": torch.ones(1, 4, dtype=torch.long),
    }
    with torch.inference_mode():
        assert torch.equal(model(**rows).logits, fresh.eval()(**rows).logits)


def test_model_can_be_trained_again(tmp_path):
    """Failing means a reader who runs the training's cell twice gets an error where bf16 is fast:
    on a GPU, or a CPU with AVX512_BF16."""
    model, tokenizer = models.load_decoder("tiny")
    model = models.add_lora(model, LoraConfig(r=4, task_type="CAUSAL_LM"), seed=0)
    rows = training.encode_conversations([data.make_example("what", "a film")] * 8, tokenizer, 64)
    settings = training.TrainSettings(1e-2, 1, 4)
    losses = []
    for _ in range(2):
        result = training.train(
            model,
            rows,
            None,
            settings,
            task=training.ANSWERS,
            output_dir=tmp_path,
            progress=False,
        )
        losses += result.history["loss"].dropna().tolist()
    assert losses[-1] < losses[0]


def test_average_is_of_the_last_two_thirds(tokens, tmp_path):
    """Failing means the averaged weights are not the average of what training passed through."""
    seen = []

    class Record(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs):
            seen.append(next(p for p in model.parameters() if p.requires_grad).detach().clone())

    model = build()
    run(tokens, tmp_path, model, callbacks=(Record(),))
    trained = next(p for p in model.parameters() if p.requires_grad)
    assert len(seen) == 12
    assert torch.allclose(trained, torch.stack(seen[4:]).mean(0), atol=1e-6)


def test_history_has_a_row_per_step(tokens, tmp_path):
    """Failing means the curves have holes."""
    model = build()
    result = training.train(
        model,
        tokens["train"],
        tokens["validation"],
        SETTINGS,
        task=training.classification(model),
        output_dir=tmp_path,
        progress=False,
    )
    assert result.history["step"].is_unique
    assert result.history["loss"].notna().sum() == 12
    assert result.history["validation_accuracy"].notna().sum() == 3
    assert result.tokens == 2 * sum(map(len, tokens["train"]["input_ids"]))


def test_arguments_are_still_known_to_the_trainer(tmp_path):
    """Failing means this version of transformers renamed an argument: the TypeError names it."""
    arguments = training.build_arguments(
        SETTINGS,
        BF16,
        12,
        evaluate_every=5,
        save_every=4,
        output_dir=str(tmp_path),
        report_to="none",
    )
    assert (arguments.eval_steps, arguments.save_steps, arguments.bf16) == (5, 4, True)


def test_batch_must_be_shared_out_evenly(tmp_path, monkeypatch):
    """Failing means two processes train on other batches than one, without a word."""
    monkeypatch.setattr(trainer, "join_processes", lambda: SimpleNamespace(num_processes=3))
    with pytest.raises(ValueError, match="cannot be shared out to 3 processes"):
        training.build_arguments(SETTINGS, BF16, 4, 0, 0, output_dir=str(tmp_path))


def test_precision_obeys_the_limit_on_instructions(monkeypatch):
    """Failing means bf16 is chosen where it is slower than fp32."""
    monkeypatch.delenv("LESSONS_PRECISION", raising=False)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert choose_precision("cpu").dtype == "float32"
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    for has, dtype in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has=has: {"avx512_bf16": has})
        assert choose_precision("cpu").dtype == dtype


def test_precision_can_be_chosen(monkeypatch):
    """Failing means nobody can look at what the other kind of CPU computes, or a typo is passed
    over.
    """
    for dtype in PRECISIONS:
        monkeypatch.setenv("LESSONS_PRECISION", dtype)
        assert choose_precision("cpu").dtype == dtype
    monkeypatch.setenv("LESSONS_PRECISION", "bf16")
    with pytest.raises(SettingError, match="one of float32, bfloat16"):
        choose_precision("cpu")


def test_several_gpus_do_not_change_the_batch(tmp_path, monkeypatch):
    """Failing means a machine with two GPUs trains other batches, or stops with rows and weights
    apart.
    """

    class SeesTwoGPUs(TrainingArguments):
        def __post_init__(self):
            super().__post_init__()
            self._n_gpu = 2

    monkeypatch.setattr(trainer, "TrainingArguments", SeesTwoGPUs)
    settings = training.TrainSettings(1e-3, 1, 8)
    more = {"output_dir": str(tmp_path), "report_to": "none"}
    assert (
        training.build_arguments(settings, choose_precision(), 10, 0, 0, **more).train_batch_size
        == 8
    )


@pytest.mark.parametrize("own", [True, False])
def test_training_on_own_data_says_how_long_it_will_take(monkeypatch, capsys, own):
    """Failing means nobody can tell a training of hours from one that hangs; or that a published
    lesson prints minutes of one machine."""
    if own:
        monkeypatch.setenv("LESSONS_DATA", "mine.csv")
    watch = trainer._Watch(steps=603, batch_size=8, lengths=[4] * 8, progress=True)
    clock = iter(range(0, 1000, 2))
    monkeypatch.setattr(trainer.time, "perf_counter", lambda: next(clock))
    for step in range(1, 6):
        state = SimpleNamespace(global_step=step, max_steps=603)
        watch.on_step_begin(None, state, None)
        watch.on_step_end(None, state, None)
    assert ("about 20 minutes for 600 more steps" in capsys.readouterr().out) == own


def train_in_pieces(model, rows, task, folder, monkeypatch, most_tokens):
    """Trained weights and logged losses, with so many tokens computed at once."""
    monkeypatch.setattr(trainer, "CPU_TOKENS", most_tokens)
    result = training.train(
        model,
        rows,
        None,
        SETTINGS,
        task=task,
        output_dir=folder / str(most_tokens),
        precision=FP32,
        progress=False,
    )
    weights = [p.detach() for p in model.parameters() if p.requires_grad]
    return weights, result.history["loss"].to_numpy()


def assert_equal_runs(whole, pieces):
    """The same weights; and the same losses, since AdamW alone would not mind another scale."""
    np.testing.assert_allclose(whole[1], pieces[1], atol=2e-4)
    for ours, theirs in zip(whole[0], pieces[0], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-4)


@pytest.mark.parametrize("class_weights", [None, [0.25, 1.75]])
def test_gradients_of_pieces_add_up_to_those_of_the_batch(
    tokens, tmp_path, class_weights, monkeypatch
):
    """Failing means long rows, which are computed in pieces, are trained on another loss."""
    runs = []
    for most_tokens in (trainer.CPU_TOKENS, 1):  # the second: every row a piece of its own
        model = build(dropout=0.0)
        task = training.classification(model, class_weights)
        runs.append(
            train_in_pieces(model, tokens["train"], task, tmp_path, monkeypatch, most_tokens)
        )
    assert_equal_runs(*runs)


def test_packed_rows_in_pieces_are_trained_on_the_same_loss(tmp_path, monkeypatch):
    """Failing means a decoder that learns to read long passages learns something else on a CPU."""
    _, tokenizer = models.load_decoder("tiny")
    facts = [data.make_example(f"what is {n}", "a film " * (1 + n % 5)) for n in range(16)]
    rows = training.encode_conversations(facts, tokenizer, 64)
    runs = []
    for most_tokens in (trainer.CPU_TOKENS, 1):
        model = models.load_decoder("tiny")[0]
        config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
        model = models.add_lora(model, config, seed=0)
        runs.append(
            train_in_pieces(model, rows, training.ANSWERS, tmp_path, monkeypatch, most_tokens)
        )
    assert_equal_runs(*runs)


def test_time_of_a_training_is_estimated_from_a_few_steps(tokens, tmp_path, monkeypatch):
    """Failing means a reader with a long file of their own is told nothing, or anything, about how
    long it will take."""
    task = training.classification(build())
    rows = tokens["train"]
    monkeypatch.setattr(trainer._StepTimer, "ends", [0, 9, 11, 13], raising=False)
    monkeypatch.setattr(trainer._StepTimer, "__init__", lambda self: None)
    monkeypatch.setattr(trainer._StepTimer, "on_step_end", lambda *args, **kwargs: None)
    same = rows.map(lambda row: {"input_ids": [5, 6, 7, 8]})
    settings = training.TrainSettings(1e-3, epochs=3, batch_size=8)
    seconds = trainer.estimate_seconds(build(), same, settings, task=task)
    assert seconds == pytest.approx(2 / 8 * len(rows) * 3)


def test_reader_is_told_minutes_and_the_rows_that_fit(monkeypatch, reviews):
    """Failing means a reader starts a training of an hour that fewer rows would have kept short."""
    monkeypatch.setattr(recipe_module, "estimate_seconds", lambda *args, **kwargs: 300.0)
    recipes = [Recipe(1e-3), Recipe(1e-3)]
    rows = len(reviews["train"])
    said = training.describe_duration(recipes, "tiny", reviews, max_tokens=8, minutes=5)
    assert f"2 trainings on {rows} rows will take about 10 minutes" in said
    assert f"; {rows // 2} rows would keep it to 5." in said
    short = training.describe_duration(recipes[:1], "tiny", reviews, max_tokens=8, minutes=5)
    assert short.endswith("about 5 minutes on this machine.")
