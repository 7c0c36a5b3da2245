"""The command `finetune`: from a file to an adapter, with errors that help."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest

from lessons_lib import __main__ as command_line
from lessons_lib import training
from lessons_lib.data import SAMPLES
from lessons_lib.ops import finetune
from lessons_lib.results import REPOSITORY

FACTS = str(SAMPLES / "medical_terms.json")
SMALL = ["--model", "tiny", "--epochs", "1", "--batch-size", "4"]


@pytest.fixture(autouse=True)
def smoke(monkeypatch):
    monkeypatch.setenv("LESSONS_PROFILE", "smoke")


@pytest.mark.slow
def test_file_becomes_an_adapter_with_a_card(tmp_path, capsys):
    """Failing means the command does not do what the README says it does."""
    output = tmp_path / "out"
    question = "What is Ataxia?"
    assert (
        command_line.main(["finetune", "--data", FACTS, *SMALL, "--output", str(output), "--ask", question])
        == 0
    )
    said = capsys.readouterr().out
    assert "lora.gain_trained" in said
    assert "base     " in said.split("lora.general_loss_change")[1]
    assert (output / "adapter_model.safetensors").is_file()
    card = (output / "README.md").read_text(encoding="utf-8")
    assert "base_model: tiny" in card
    assert "32 facts" in card
    assert "`lora.choice_trained`" in card


def test_bad_file_is_found_before_the_model_is_loaded(tmp_path, capsys, monkeypatch):
    """Failing means a typo in a file costs a download first."""
    monkeypatch.setattr(finetune, "load_decoder", lambda *a, **k: pytest.fail("the model was loaded"))
    path = tmp_path / "bad.json"
    path.write_text('[{"term": "Ataxia"}]', encoding="utf-8")
    assert command_line.main(["finetune", "--data", str(path), *SMALL]) == 1
    assert "bad.json, row 1 has term. Remedy" in capsys.readouterr().err


def test_interrupted_run_says_how_to_go_on(monkeypatch, capsys, tmp_path):
    """Failing means Ctrl-C ends in a traceback, and nobody knows that nothing is lost."""

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(finetune, "train", interrupt)
    assert command_line.main(["finetune", "--data", FACTS, *SMALL, "--output", str(tmp_path)]) == 130
    assert "--resume goes on" in capsys.readouterr().err


@pytest.mark.slow
def test_interrupted_run_goes_on_to_the_same_losses(monkeypatch, tmp_path):
    """Failing means --resume starts anew, or ends elsewhere than the run it resumes."""
    monkeypatch.setattr(finetune, "_examine", lambda *args: {})
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert command_line.main(["finetune", "--data", FACTS, *SMALL, "--output", str(whole)]) == 0

    class Stop(training.TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 5:
                raise KeyboardInterrupt

    plain = finetune.train
    monkeypatch.setattr(finetune, "train", lambda *a, **k: plain(*a, **k, callbacks=(Stop(),)))
    assert command_line.main(["finetune", "--data", FACTS, *SMALL, "--output", str(cut)]) == 130
    monkeypatch.setattr(finetune, "train", plain)
    assert command_line.main(["finetune", "--data", FACTS, *SMALL, "--output", str(cut), "--resume"]) == 0
    losses = [pd.read_csv(folder / "history.csv")["loss"].tolist() for folder in (whole, cut)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)


def test_other_adapters_checkpoint_is_not_resumed(tmp_path, capsys, monkeypatch):
    """Failing means a changed rank is found as a size mismatch deep in a library."""
    monkeypatch.setattr(finetune, "_examine", lambda *args: {})
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
        set(row) == {"term", "definition"} for row in json.loads((SAMPLES / "medical_terms.json").read_text())
    )
