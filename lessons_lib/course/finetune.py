"""The command `finetune`: lesson 02 on a file of one's own, without a notebook.

Contract: it calls the notebook's own functions in the notebook's order. Options, file and the
examples' lengths are checked before any weights are loaded. `--resume` goes on from the last
checkpoint of an interrupted run. Under `accelerate launch` the processes share each batch, and the
first process alone saves, asks and prints; the result is the same.
"""

import argparse
import contextlib
import math
import os
from dataclasses import replace
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lessons_lib import data, evaluation, training
from lessons_lib.data import DataError
from lessons_lib.data.encodings import replace_surrogates
from lessons_lib.data.facts import Conversation, read_conversations
from lessons_lib.errors import SettingError
from lessons_lib.evaluation.likelihood import generate_answers
from lessons_lib.hardware import choose_precision, join_processes
from lessons_lib.models.decoder import load_decoder, render_chat, resolve_decoder
from lessons_lib.models.load import ModelError, load_tokenizer
from lessons_lib.paths import REPOSITORY
from lessons_lib.profiles import Profile, load_profile
from lessons_lib.report.model_card import write_card
from lessons_lib.training.conversations import encode_conversations
from lessons_lib.training.monitoring import describe_resources
from lessons_lib.training.precision import mixed_precision_lora
from lessons_lib.training.recipe import FACTS, Recipe, adapt
from lessons_lib.training.tasks import ANSWERS
from lessons_lib.training.trainer import train

LESSON = "02_llama2_knowledge_augmentation"  # whose profile and recipe these are
ASKED = 60  # the most facts in the evaluation set
LEAST = {"repeats": 1, "batch_size": 1, "rank": 1, "max_tokens": 1, "seed": 0}  # integers
LARGEST_SEED = 2**32 - 1  # NumPy's
SHORTEN = "shorten them, or leave them out with --too-long leave-out, or allow more: --max-tokens."


def run_finetune(options: argparse.Namespace) -> evaluation.Metrics:
    """Trains, saves and evaluates a model, and prints its answers to `--ask`.

    Returns the metrics, which are empty in all processes but the first.
    """
    state = join_processes()  # first: it gives each process its own GPU
    _check_options(options)
    output = _choose_output(options)
    profile = load_profile(LESSON)
    with contextlib.nullcontext() if state.is_main_process else contextlib.redirect_stdout(None):
        facts = read_conversations(options.data)
        phrasings = data.choose_phrasings(options.data)
        name = choose_model(options, profile)
        tokenizer = load_chat_tokenizer(name)
        lengths = {"too_long": options.too_long, "remedy": SHORTEN}
        facts = training.drop_long_terms(facts, phrasings, tokenizer, options.max_tokens, **lengths)
        taught = data.phrase_terms(facts, phrasings.training, options.repeats)
        rows = encode_conversations(taught, tokenizer, options.max_tokens, **lengths)
    recipe = replace(
        FACTS,
        learning_rate=options.learning_rate,
        rank=options.rank,
        alpha=2 * options.rank,
        batch_size=min(options.batch_size, len(rows)),
        quantize=options.quantize,
    )
    model = _load(name, recipe, options.seed)
    if state.is_main_process:
        print(
            f"{name}: {len(facts)} facts, {len(rows)} rows; {choose_precision().reason}", flush=True
        )
    result = train(
        model,
        rows,
        None,
        recipe.train_settings(options.seed),
        task=ANSWERS,
        output_dir=output,
        checkpoint_steps=max(1, len(rows) // recipe.batch_size // 10),
        resume=options.resume,
        report_to=options.report_to,
    )
    if not state.is_main_process:
        return evaluation.Metrics()
    result.history.to_csv(output / "history.csv", index=False)
    result.resources.to_csv(output / "resources.csv", index=False)
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    print(
        f"{result.seconds:.0f} s, {result.tokens_per_second:,.0f} tokens/s; adapter in {output}",
        flush=True,
    )
    print(describe_resources(result.resources))
    metrics = evaluate_facts(model, tokenizer, facts, phrasings, profile.encoder)
    licence = "that of the base model and of the data"
    write_card(
        output,
        base=name,
        data=f"{len(facts)} facts of {options.data}",
        licence=licence,
        metrics=metrics,
    )
    for metric, value in metrics.items():
        print(f"  {metric!s:28} {value}  (n = {value.n})")
    if options.ask:
        print(ask_both(model, tokenizer, options.ask))
    return metrics


def ask_both(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, question: str) -> str:
    """A question's answers without and with the adapter."""
    prompt = [render_chat(tokenizer, question)]
    with model.disable_adapter():
        base = generate_answers(model, tokenizer, prompt, progress=False)[0]
    tuned = generate_answers(model, tokenizer, prompt, progress=False)[0]
    return f"base     {base.text}\n\nadapter  {tuned.text}"


def _check_options(options: argparse.Namespace) -> None:
    """Raises SettingError for an option that nothing can be trained with."""
    for name, least in LEAST.items():
        if getattr(options, name) < least:
            raise SettingError(
                f"{getattr(options, name)} is too small.",
                where=f"--{name.replace('_', '-')}",
                remedy=f"{least} or more.",
            )
    if options.seed > LARGEST_SEED:
        raise SettingError(
            f"{options.seed} is too large.", where="--seed", remedy="a smaller number."
        )
    if not (math.isfinite(options.learning_rate) and options.learning_rate > 0):
        raise SettingError(
            f"{options.learning_rate} is no learning rate.",
            where="--learning-rate",
            remedy="such as 0.001.",
        )
    if options.ask != replace_surrogates(options.ask):  # the shell's bytes could not be decoded
        raise SettingError(
            "the question is no text in this terminal's encoding.",
            where="--ask",
            remedy="set LC_ALL=C.UTF-8, or write it with plain letters.",
        )


def choose_model(options: argparse.Namespace, profile: Profile) -> str:
    """The decoder's name, or that of the open model that replaces it. Raises SettingError for a
    folder without a model.
    """
    name = options.model or profile.decoder
    remedy = 'give a folder with config.json, a Hub name, or "packaged:SmolLM2-135M-Instruct".'
    path = _expand(name, "--model")
    if name.startswith("~"):
        name = str(path)
    if path.is_file():
        raise SettingError(f"{name} is a file.", where="--model", remedy=remedy)
    if (path / "adapter_config.json").is_file() and not (path / "config.json").is_file():
        raise SettingError(
            f"{name} is an adapter.", where="--model", remedy="give the model it belongs to."
        )
    if path.is_dir() and not (path / "config.json").is_file():
        raise SettingError(f"{name} holds no config.json.", where="--model", remedy=remedy)
    is_path = name.startswith((".", "/")) or name.count("/") > 1 or "\\" in name
    if is_path and not path.is_dir():
        raise SettingError(f"{name}: there is no such folder.", where="--model", remedy=remedy)
    return resolve_decoder(name, profile.fallback_decoder)


def _choose_output(options: argparse.Namespace) -> Path:
    """The folder for adapter and checkpoints: the reader's choice, else named after the file."""
    if not options.output:
        return REPOSITORY / "build" / "finetune" / Path(options.data).stem
    folder = _expand(options.output, "--output")
    if folder.is_file():
        raise SettingError(f"{folder} is a file.", where="--output", remedy="name a folder.")
    return folder


def _expand(path: str, option: str) -> Path:
    """A path with ~ replaced by the home folder: the shell leaves it in --model=~/models/x."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:  # there is no such user
        raise SettingError(
            f"{path}: {error}", where=option, remedy="write the path in full."
        ) from error


def load_chat_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The decoder's tokenizer. Raises ModelError for a model that was never taught to chat."""
    tokenizer = load_tokenizer("tiny:decoder" if name == "tiny" else name)
    if tokenizer.chat_template is None:
        raise ModelError(
            "this model has no chat template.",
            where=name,
            remedy='take one made for chat, often called "…-Instruct" or "…-chat".',
        )
    return tokenizer


def _load(name: str, recipe: Recipe, seed: int) -> PreTrainedModel:
    """The decoder with its adapter, ready to be trained."""
    quantization = recipe.quantization_config()
    options = {}
    # FSDP shards tensors of one floating type only
    if quantization and os.environ.get("ACCELERATE_USE_FSDP") == "true":
        quantization.bnb_4bit_quant_storage = torch.bfloat16
        options["dtype"] = torch.bfloat16
    model, _ = load_decoder(name, quantization_config=quantization, **options)
    return adapt(model, recipe, task_type="CAUSAL_LM", seed=seed)


def evaluate_facts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    facts: list[Conversation],
    phrasings: data.Phrasings,
    encoder: str,
) -> evaluation.Metrics:
    """The metrics of the model without ("base") and with its adapter ("lora") on the facts it was
    taught.
    """
    try:
        groups = evaluation.split_terms(facts, {"trained": ASKED}, seed=0)
    except DataError as error:
        print(f"No evaluation: {error}")
        return evaluation.Metrics()
    evaluation_set = evaluation.build_evaluation_set(
        groups,
        encoder,
        texts=evaluation.choose_texts("samples", 40),
        generated_answers=12,
        phrasings=phrasings,
    )
    with mixed_precision_lora(model, choose_precision()):
        with model.disable_adapter():
            before = evaluation.answer_evaluation_set(model, tokenizer, evaluation_set)
        after = evaluation.answer_evaluation_set(model, tokenizer, evaluation_set)
    return evaluation.summarise_scores(
        {
            "base": evaluation.score_predictions(evaluation_set, before),
            "lora": evaluation.score_predictions(evaluation_set, after),
        },
        groups=evaluation_set.groups(),
    )
