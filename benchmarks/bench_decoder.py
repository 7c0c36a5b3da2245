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
from dataclasses import replace

import torch
from bench_training import measure_peak_flops, run_apart
from datasets import Dataset
from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

from lessons_lib.data.phrasings import PHRASINGS, phrase_terms
from lessons_lib.hardware import choose_precision, peak_memory_mb
from lessons_lib.models.decoder import load_decoder
from lessons_lib.models.load import quiet_libraries
from lessons_lib.models.memory import count_bytes
from lessons_lib.studies.study_02 import load_groups
from lessons_lib.training.batches import LengthBucketSampler
from lessons_lib.training.conversations import encode_conversations
from lessons_lib.training.recipe import FACTS, adapt
from lessons_lib.training.tasks import ANSWERS
from lessons_lib.training.trainer import train

MODEL = "packaged:SmolLM2-135M-Instruct"
STEPS = 20


def load_case(case: str) -> tuple:
    """Model with LoRA, tokenizer, bytes of the weights as loaded, scales included."""
    options = {"dtype": torch.bfloat16} if case in ("bf16", "NF4") else {}  # the rest of NF4, too
    recipe = FACTS if case == "NF4" else replace(FACTS, quantize="none")
    model, tokenizer = load_decoder(
        MODEL, quantization_config=recipe.quantization_config(), **options
    )
    total = count_bytes(model)
    return adapt(model, recipe, task_type="CAUSAL_LM", seed=0), tokenizer, total


def order_rows(tokenizer: object) -> Dataset:
    """Rows in the order in which `train` takes them."""
    rows = encode_conversations(
        phrase_terms(load_groups()["trained"], PHRASINGS, 1), tokenizer, 256
    )
    lengths = [len(ids) for ids in rows["input_ids"]]
    order = list(LengthBucketSampler(lengths, FACTS.batch_size, 0))
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
    rows = order_rows(tokenizer).select(range(STEPS * FACTS.batch_size))
    tokens = sum(len(ids) for ids in rows["input_ids"])
    with tempfile.TemporaryDirectory() as folder:
        if case == "plain":
            seconds = run_plain(
                rows,
                model,
                tokenizer,
                folder,
                batch_size=FACTS.batch_size,
                learning_rate=FACTS.learning_rate,
            )
        else:
            result = train(
                model,
                rows,
                None,
                FACTS.train_settings(seed=0),
                task=ANSWERS,
                output_dir=folder,
                progress=False,
            )
            seconds = result.seconds
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
