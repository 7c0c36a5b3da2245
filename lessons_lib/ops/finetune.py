"""The command `finetune`: lesson 02 on a file of one's own, without a notebook.

Contract: the notebook's own functions in its order; nothing is loaded before the file has been read; what an
interrupted run has trained stays, and `--resume` goes on from it. Unchanged under `accelerate launch`, where
the batch is shared out and the first process alone saves, asks and prints.
"""

import argparse
import os
from pathlib import Path

import torch
from peft import LoraConfig, prepare_model_for_kbit_training
from transformers import BitsAndBytesConfig, PreTrainedModel, PreTrainedTokenizerBase

from lessons_lib import knowledge
from lessons_lib.data import DataError
from lessons_lib.decoders import choose_decoder, generate_answers, load_decoder, render_chat
from lessons_lib.dialogs import Dialog, encode_dialogs, read_dialogs
from lessons_lib.errors import SettingError
from lessons_lib.evaluation import Metric
from lessons_lib.machine import choose_precision, join_processes
from lessons_lib.models import add_lora
from lessons_lib.profiles import load_profile
from lessons_lib.results import REPOSITORY, write_card
from lessons_lib.speed import compute_in
from lessons_lib.studies.study_02 import LESSON, LORA, QUANTIZE, SETTINGS
from lessons_lib.training import TrainSettings, train

ASKED = 60  # facts in the exam, at most
QUANTIZERS = {"nf4": QUANTIZE, "int8": {"load_in_8bit": True}, "none": {}}


def run_finetune(options: argparse.Namespace) -> dict[str, Metric]:
    """Trains, saves, examines and asks; returns the metrics (none in processes but the first)."""
    state = join_processes()  # first: it gives each process its own GPU
    if options.epochs < 1:
        raise SettingError(f"{options.epochs} epochs train nothing.", where="--epochs", remedy="1 or more.")
    facts = read_dialogs(options.data)
    profile = load_profile(LESSON)
    name = options.model or profile.decoder
    name = choose_decoder(name, profile.stand_in)
    output = Path(options.output or REPOSITORY / "build" / "finetune" / Path(options.data).stem)
    model, tokenizer = _load(name, options)
    taught = knowledge.phrase_terms(facts, knowledge.PHRASINGS, options.epochs)
    rows = encode_dialogs(taught, tokenizer, options.max_tokens)
    batch_size = min(options.batch_size, len(rows))
    warmup = SETTINGS["warmup"]
    settings = TrainSettings(options.learning_rate, 1, batch_size, options.seed, warmup=warmup)
    if state.is_main_process:
        print(f"{name}: {len(facts)} facts, {len(rows)} rows; {choose_precision().reason}", flush=True)
    result = train(
        model,
        rows,
        None,
        settings,
        output_dir=output,
        checkpoint_steps=max(1, len(rows) // batch_size // 10),
        resume=options.resume,
        report_to=options.report_to,
    )
    if not state.is_main_process:
        return {}
    result.history.to_csv(output / "history.csv", index=False)
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    print(
        f"{result.seconds:.0f} s, {result.tokens_per_second:,.0f} tokens/s; adapter in {output}", flush=True
    )
    metrics = _examine(model, tokenizer, facts, profile.encoder)
    licence = "that of the base model and of the data"
    write_card(
        output, base=name, data=f"{len(facts)} facts of {options.data}", licence=licence, metrics=metrics
    )
    for metric, value in metrics.items():
        print(f"  {metric:28} {value}  (n = {value.n})")
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


def _load(name: str, options: argparse.Namespace) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    chosen, arguments = dict(QUANTIZERS[options.quantize]), {}
    if chosen:
        if options.quantize == "nf4":
            chosen["bnb_4bit_compute_dtype"] = choose_precision().torch_dtype
        if os.environ.get("ACCELERATE_USE_FSDP") == "true":  # it shards tensors of one floating type only
            chosen["bnb_4bit_quant_storage"] = arguments["dtype"] = torch.bfloat16
        arguments["quantization_config"] = BitsAndBytesConfig(**chosen)
    model, tokenizer = load_decoder(name, **arguments)
    if chosen:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    lora = LoraConfig(**{**LORA, "r": options.rank, "lora_alpha": 2 * options.rank})
    return add_lora(model, lora, seed=options.seed), tokenizer


def _examine(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, facts: list[Dialog], encoder: str
) -> dict[str, Metric]:
    """The metrics of the model without ("base") and with its adapter ("lora") on the facts it was taught."""
    try:
        groups = knowledge.split_terms(facts, {"trained": ASKED}, seed=0)
    except DataError as error:
        print(f"No exam: {error}")
        return {}
    exam = knowledge.build_exam(groups, encoder, texts=knowledge.choose_texts("samples", 40), written=12)
    with compute_in(model, choose_precision()), model.disable_adapter():
        marks = {"base": knowledge.mark_sitting(exam, knowledge.sit_exam(model, tokenizer, exam))}
    with compute_in(model, choose_precision()):
        marks["lora"] = knowledge.mark_sitting(exam, knowledge.sit_exam(model, tokenizer, exam))
    return knowledge.report_marks(marks)
