"""The command `finetune`: from a file to an adapter, with errors that help."""

import argparse
import json
import os
import subprocess
import sys

import pandas as pd
import pytest
from transformers import TrainerCallback

from lessons_lib import __main__ as command_line
from lessons_lib import data, evaluation
from lessons_lib.course import finetune
from lessons_lib.errors import SettingError
from lessons_lib.models.load import ModelError, load_tokenizer
from lessons_lib.paths import REPOSITORY, SAMPLES
from lessons_lib.profiles import load_profile

FACTS = str(SAMPLES / "medical_terms.json")
SMALL = ["--model", "tiny", "--repeats", "1", "--batch-size", "4"]


@pytest.fixture(autouse=True)
def smoke(monkeypatch):
    monkeypatch.setenv("LESSONS_PROFILE", "smoke")


@pytest.mark.slow
@pytest.mark.usefixtures("each_precision")
def test_file_becomes_an_adapter_with_a_card(tmp_path, capsys):
    """Failing means the command does not do what the README says it does."""
    output = tmp_path / "out"
    question = "What is Ataxia?"
    assert (
        command_line.main(
            ["finetune", "--data", FACTS, *SMALL, "--output", str(output), "--ask", question]
        )
        == 0
    )
    said = capsys.readouterr().out
    assert "lora: gain_trained" in said
    assert "base     " in said.split("lora: general_loss_change")[1]
    assert (output / "adapter_model.safetensors").is_file()
    card = (output / "README.md").read_text(encoding="utf-8")
    assert "base_model: tiny" in card
    assert "32 facts" in card
    assert "lora: choice_trained" in card


def test_bad_file_is_found_before_the_model_is_loaded(tmp_path, capsys, monkeypatch):
    """Failing means a typo in a file costs a download first."""
    monkeypatch.setattr(
        finetune, "load_decoder", lambda *a, **k: pytest.fail("the model was loaded")
    )
    path = tmp_path / "bad.json"
    path.write_text('[{"term": "Ataxia"}]', encoding="utf-8")
    assert command_line.main(["finetune", "--data", str(path), *SMALL]) == 1
    assert "bad.json, row 1: term has no definition" in capsys.readouterr().err


def write_facts(folder, long):
    """Eight facts, of which the numbers in `long` have an answer of many words."""
    rows = [
        {"term": f"bird {n}", "definition": f"a film {n} " * (200 if n in long else 1)}
        for n in range(8)
    ]
    path = folder / "birds.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return str(path)


def test_long_rows_are_found_before_the_model_is_loaded(tmp_path, capsys, monkeypatch):
    """Failing means 13 GB are loaded to learn that a row is too long, and then of one row alone."""
    monkeypatch.setattr(
        finetune, "load_decoder", lambda *a, **k: pytest.fail("the model was loaded")
    )
    assert command_line.main(["finetune", "--data", write_facts(tmp_path, (2, 5)), *SMALL]) == 1
    message = capsys.readouterr().err
    assert "2 of 8 examples have more than 512 tokens" in message
    assert "row 3: " in message
    assert "row 6: " in message
    assert "--too-long leave-out" in message


def test_own_terms_are_taught_in_neutral_words(tmp_path, capsys, monkeypatch):
    """Failing means birds are taught as findings, or that long rows are taught after all."""
    taught = []

    def stop(conversations, *args, **options):
        taught.extend(conversation.question for conversation in conversations)
        raise KeyboardInterrupt

    monkeypatch.setattr(finetune, "encode_conversations", stop)
    command = [
        "finetune",
        "--data",
        write_facts(tmp_path, (2, 5)),
        "--too-long",
        "leave-out",
        *SMALL,
    ]
    assert command_line.main([*command, "--repeats", "10"]) == 130
    assert "2 of 8 examples" in capsys.readouterr().out
    assert sorted(taught) == sorted(
        template.format(f"bird {number}")
        for template in data.NEUTRAL.training
        for number in (0, 1, 3, 4, 6, 7)
    )


def test_own_terms_are_evaluated_in_neutral_words(monkeypatch):
    """Failing means birds are taught in one way and examined as findings."""
    exams = []

    def stop(groups, encoder, *, phrasings, **options):
        exams.append(phrasings)
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluation, "build_evaluation_set", stop)
    facts = [data.make_fact("x", f"answer {number}") for number in range(8)]
    with pytest.raises(KeyboardInterrupt):
        finetune.evaluate_facts(None, None, facts, data.NEUTRAL, "tiny")
    assert exams == [data.NEUTRAL]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--repeats", "0"),
        ("--batch-size", "0"),
        ("--rank", "-1"),
        ("--max-tokens", "0"),
        ("--seed", "-1"),
        ("--seed", str(2**32)),
        ("--learning-rate", "nan"),
        ("--learning-rate", "0"),
        ("--ask", "What is \udcff?"),
        ("--output", FACTS),
        ("--model", "/nowhere/model"),
        ("--model", "./model"),
        ("--model", "~nobody-of-that-name/model"),
        ("--model", FACTS),
        ("--model", str(SAMPLES)),
    ],
)
def test_options_that_cannot_be_are_named(capsys, monkeypatch, option, value):
    """Failing means a wrong option ends in a traceback, or after a long download."""
    monkeypatch.setattr(
        finetune, "load_decoder", lambda *a, **k: pytest.fail("the model was loaded")
    )
    assert command_line.main(["finetune", "--data", FACTS, *SMALL, f"{option}={value}"]) == 1
    message = capsys.readouterr().err
    assert f"{option}: " in message
    assert "Remedy: " in message


def test_home_folder_of_a_model_is_found(tmp_path, monkeypatch):
    """Failing means --model=~/models/x, which no shell expands, is looked for on the Hub."""
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "config.json").write_text("{}", encoding="utf-8")
    monkeypatch.setenv("HOME", str(tmp_path))
    options = argparse.Namespace(model="~/x")
    assert finetune.choose_model(options, load_profile(finetune.LESSON)) == str(tmp_path / "x")


def test_adapter_is_no_model(tmp_path):
    """Failing means what an earlier run saved is refused in a library's words."""
    (tmp_path / "adapter_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(SettingError, match="is an adapter") as error:
        finetune.choose_model(
            argparse.Namespace(model=str(tmp_path)), load_profile(finetune.LESSON)
        )
    assert error.value.remedy


def test_model_without_a_chat_template_is_refused(monkeypatch):
    """Failing means a model that cannot chat ends in a library's words, once its weights are
    loaded.
    """
    tokenizer = load_tokenizer("tiny:decoder")
    tokenizer.chat_template = None
    monkeypatch.setattr(finetune, "load_tokenizer", lambda name: tokenizer)
    with pytest.raises(ModelError, match="no chat template") as error:
        finetune.load_chat_tokenizer("gpt2")
    assert error.value.remedy


def test_interrupted_run_says_how_to_go_on(monkeypatch, capsys, tmp_path):
    """Failing means Ctrl-C ends in a traceback, and nobody knows that nothing is lost."""

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(finetune, "train", interrupt)
    assert (
        command_line.main(["finetune", "--data", FACTS, *SMALL, "--output", str(tmp_path)]) == 130
    )
    assert "--resume goes on" in capsys.readouterr().err


@pytest.mark.slow
def test_interrupted_run_goes_on_to_the_same_losses(monkeypatch, tmp_path):
    """Failing means --resume starts anew, or ends elsewhere than the run it resumes."""
    monkeypatch.setattr(finetune, "evaluate_facts", lambda *args: {})
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert command_line.main(["finetune", "--data", FACTS, *SMALL, "--output", str(whole)]) == 0

    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 5:
                raise KeyboardInterrupt

    plain = finetune.train
    monkeypatch.setattr(finetune, "train", lambda *a, **k: plain(*a, **k, callbacks=(Stop(),)))
    assert command_line.main(["finetune", "--data", FACTS, *SMALL, "--output", str(cut)]) == 130
    monkeypatch.setattr(finetune, "train", plain)
    assert (
        command_line.main(["finetune", "--data", FACTS, *SMALL, "--output", str(cut), "--resume"])
        == 0
    )
    losses = [pd.read_csv(folder / "history.csv")["loss"].tolist() for folder in (whole, cut)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)


def test_other_adapters_checkpoint_is_not_resumed(tmp_path, capsys, monkeypatch):
    """Failing means a changed rank is found as a size mismatch deep in a library."""
    monkeypatch.setattr(finetune, "evaluate_facts", lambda *args: {})
    command = ["finetune", "--data", FACTS, *SMALL, "--output", str(tmp_path)]
    assert command_line.main(command) == 0
    assert command_line.main([*command, "--resume", "--rank", "4"]) == 1
    assert "holds a run with other settings" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one(tmp_path):
    """Failing means training on several GPUs trains on other batches, or weighs them otherwise."""
    launch = [
        "-m",
        "accelerate.commands.launch",
        "--multi_gpu",
        "--num_processes",
        "2",
        "--num_machines",
        "1",
    ]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    environment = {**os.environ, "LESSONS_PROFILE": "smoke", "OMP_NUM_THREADS": "1"}
    losses = []
    for name, start in (("one", []), ("two", launch)):
        output = tmp_path / name
        command = [sys.executable, *start, "-m", "lessons_lib", "finetune", "--data", FACTS, *SMALL]
        run = subprocess.run(
            [*command, "--output", str(output)],
            cwd=REPOSITORY,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stderr
        losses.append(pd.read_csv(output / "history.csv")["loss"].dropna().tolist())
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert losses[1] != losses[0]  # equal to the last digit would mean that there was one process


def test_every_option_is_explained(capsys):
    """Failing means `--help` breaks."""
    with pytest.raises(SystemExit):
        command_line.main(["finetune", "--help"])
    assert "--quantize" in capsys.readouterr().out


def test_sample_of_facts_is_valid_json():
    """Failing means the file that shows the format is broken."""
    assert all(
        set(row) == {"term", "definition"}
        for row in json.loads((SAMPLES / "medical_terms.json").read_text())
    )
