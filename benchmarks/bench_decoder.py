"""Throughput of lesson 02's training: the plain Trainer in fp32 against this course's `train`, in
one run.

    make bench LESSON=02

The same model, the same LoRA on all linear layers, the same rows in the same batches. "plain" is
Hugging Face's Trainer with padded rows and logits everywhere; "fp32" and "bf16" are `train` on
weights kept so, "NF4" on 4-bit weights with double quantisation. bf16 is left out where the CPU is
slow at it. Every case runs in a process of its own. Tokens are those of the rows, without padding,
a shared beginning counted in every row: so tokens/s compares as rows/s does. "of peak" is the share
of the machine's matrix-product peak in the format computed in: 2 FLOP a weight and token forwards,
2 backwards.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import torch
from bench_training import measure_peak_flops, run_apart
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from datasets import Dataset
from peft import LoraConfig, prepare_model_for_kbit_training
from transformers import BitsAndBytesConfig, DataCollatorForSeq2Seq, Trainer, TrainingArguments

sys.path.append(str(Path(__file__).resolve().parent.parent))
from helpers import take_functions

from lessons_lib.data.phrasings import PHRASINGS, phrase_terms
from lessons_lib.hardware import choose_precision, peak_memory_mb
from lessons_lib.models.decoder import load_decoder
from lessons_lib.models.load import quiet_libraries
from lessons_lib.models.lora import add_lora
from lessons_lib.studies.study_02 import LESSON, LORA, QUANTIZE, SETTINGS, load_groups
from lessons_lib.training.batches import LengthBucketSampler
from lessons_lib.training.conversations import encode_dialogs
from lessons_lib.training.trainer import TrainSettings, train

SCOPE = {"torch": torch, "Linear4bit": Linear4bit, "Linear8bitLt": Linear8bitLt}
(count_bytes,) = take_functions(LESSON, "count_bytes", **SCOPE)
MODEL = "packaged:SmolLM2-135M-Instruct"
STEPS = 20


def load_case(case: str) -> tuple:
    """Model with LoRA, tokenizer, bytes of the weights as loaded, scales included."""
    options = {"dtype": torch.bfloat16} if case in ("bf16", "NF4") else {}  # the rest of NF4, too
    if case == "NF4":
        compute = choose_precision().torch_dtype
        options["quantization_config"] = BitsAndBytesConfig(
            **QUANTIZE, bnb_4bit_compute_dtype=compute
        )
    model, tokenizer = load_decoder(MODEL, **options)
    total = count_bytes(model)
    if case == "NF4":
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    return add_lora(model, LoraConfig(**LORA), seed=0), tokenizer, total


def order_rows(tokenizer: object) -> Dataset:
    """Rows in the order in which `train` takes them."""
    rows = encode_dialogs(phrase_terms(load_groups()["trained"], PHRASINGS, 1), tokenizer, 256)
    lengths = [len(ids) for ids in rows["input_ids"]]
    order = list(LengthBucketSampler(lengths, SETTINGS["batch_size"], 0))
    return rows.select(order)


def run_plain(
    rows: Dataset,
    model: object,
    tokenizer: object,
    folder: str,
    *,
    batch_size: int,
    learning_rate: float,
    **more: object,
) -> float:
    """Seconds of Hugging Face's Trainer, once through the rows; more: other `TrainingArguments`."""
    arguments = TrainingArguments(
        folder,
        num_train_epochs=1,
        per_device_train_batch_size=batch_size,
        learning_rate=learning_rate,
        train_sampling_strategy="sequential",
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        **more,
    )
    collator = DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=-100)
    trainer = Trainer(model, arguments, train_dataset=rows, data_collator=collator)
    started = time.perf_counter()
    trainer.train()
    return time.perf_counter() - started


def run_case(case: str) -> dict[str, float]:
    """One case's figures."""
    quiet_libraries()
    model, tokenizer, kept = load_case(case)
    rows = order_rows(tokenizer).select(range(STEPS * SETTINGS["batch_size"]))
    tokens = sum(len(ids) for ids in rows["input_ids"])
    with tempfile.TemporaryDirectory() as folder:
        if case == "plain":
            options = {name: SETTINGS[name] for name in ("batch_size", "learning_rate")}
            seconds = run_plain(rows, model, tokenizer, folder, **options)
        else:
            settings = TrainSettings(**SETTINGS, seed=0)
            seconds = train(model, rows, None, settings, output_dir=folder, progress=False).seconds
    linear = sum(
        module.in_features * module.out_features
        for name, module in model.named_modules()
        if name.endswith("base_layer")
    )
    dtype = torch.float32 if case in ("plain", "fp32") else choose_precision().torch_dtype
    return {
        "rows_s": len(rows) / seconds,
        "tokens_s": tokens / seconds,
        "weights_mb": kept / 1e6,
        "peak_mb": peak_memory_mb(),
        "of_peak": 4 * linear * tokens / seconds / measure_peak_flops(dtype),
    }


def main() -> None:
    """Runs every case in a process of its own and prints the table."""
    print(f"precision: {choose_precision().dtype}, {choose_precision().reason}")
    cases = ["plain", "fp32", *(["bf16"] if choose_precision().dtype == "bfloat16" else []), "NF4"]
    figures = {}
    for case in cases:
        figures[case] = run_apart(f"{case:6s}", __file__, case, OMP_NUM_THREADS="2")
        print(
            f"{case:6s} {figures[case]['tokens_s'] / figures['plain']['tokens_s']:.2f} × plain",
            flush=True,
        )


if __name__ == "__main__":
    if len(sys.argv) == 2:
        print(json.dumps(run_case(sys.argv[1])))
    else:
        main()
