"""Training throughput: the classic recipe, the plain Trainer, and this course's `train`, in one
quiet run.

Same model, rows and LoRA targets in all three; run with two threads and nothing else on the
machine:

    make bench                       # what this CPU can do
    LESSONS_PRECISION=float32 ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 \
        make bench QUICK=quick       # what most laptops can

(a) the classic recipe's settings, padded to 512, fp32, throughput only; (b) the plain Trainer as it
is: batch 8, dynamic padding, fp32, the model's own dropout; (c) ours, batch 32 on snippets and 8 on
long rows. Every case runs in a process of its own, so that its peak memory is its own. Accuracy is
on validation. "of peak" is the share of the machine's measured matrix-product peak in the format of
(c): 2 FLOP a weight and token forwards, 2 backwards for activations.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace

import torch
from datasets import Dataset
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

from lessons_lib.data import load_reviews
from lessons_lib.evaluation.inference import predict
from lessons_lib.hardware import choose_precision, peak_memory_mb
from lessons_lib.models.classifier import load_classifier
from lessons_lib.models.load import quiet_libraries
from lessons_lib.models.lora import add_lora
from lessons_lib.studies.study_04 import TUNED
from lessons_lib.training.batches import tokenize_reviews
from lessons_lib.training.tasks import classification
from lessons_lib.training.trainer import train

ENCODER = "packaged:all-MiniLM-L6-v2"
MAX_TOKENS = 384
# 0: three epochs
STEPS = {"snippets": {"a": 30, "b": 0, "c": 0}, "230 words": {"a": 8, "b": 16, "c": 32}}
QUICK = {"snippets": {"b": 80, "c": 60}, "230 words": {"b": 12, "c": 24}}  # throughput only


def load_rows(name: str) -> tuple[Dataset, Dataset, object, object]:
    """Training rows, validation rows, model with LoRA, tokenizer."""
    splits = load_reviews("snippets:movie", train_rows=2000)
    dropout = TUNED.dropout if CASE == "c" else None
    model, tokenizer = load_classifier(ENCODER, seed=0, dropout=dropout)
    if name == "230 words":
        texts = splits["train"]["text"]
        joined = [" ".join(texts[start : start + 12]) for start in range(0, len(texts) - 12, 3)]
        splits["train"] = Dataset.from_dict(
            {"text": joined, "label": splits["train"]["label"][: len(joined)]}
        )
    rows = tokenize_reviews(splits, tokenizer, MAX_TOKENS)
    return (
        rows["train"],
        rows["validation"],
        add_lora(model, TUNED.lora_config(), seed=0),
        tokenizer,
    )


def run_plain_trainer(
    rows: Dataset, model: object, tokenizer: object, steps: int
) -> tuple[float, int]:
    """Seconds and rows of Hugging Face's Trainer; case "a" pads every row to 512."""
    padding = {"padding": "max_length", "max_length": 512} if CASE == "a" else {}
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            max_steps=steps or -1,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            seed=0,
        )
        collator = DataCollatorWithPadding(tokenizer, **padding)
        trainer = Trainer(model, arguments, train_dataset=rows, data_collator=collator)
        start = time.perf_counter()
        trainer.train()
        return time.perf_counter() - start, round(trainer.state.epoch * len(rows))


def run_ours(rows: Dataset, model: object, steps: int, batch: int) -> tuple[float, int]:
    """Seconds and rows of `lessons_lib.training.train` with the tuned recipe."""
    settings = replace(TUNED.train_settings(seed=0), batch_size=batch, max_steps=steps or -1)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        result = train(
            model,
            rows,
            None,
            settings,
            task=classification(model),
            output_dir=folder,
            progress=False,
        )
        return time.perf_counter() - start, result.rows


def measure_peak_flops(dtype: torch.dtype, size: int = 1024, seconds: float = 0.5) -> float:
    """Matrix-product peak of this machine in FLOP/s: the best of many (size × size) products."""
    a = torch.randn(size, size, dtype=dtype)
    b = torch.randn(size, size, dtype=dtype)
    best = float("inf")
    stop = time.perf_counter() + seconds
    while time.perf_counter() < stop:
        start = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def run_apart(title: str, script: str, *arguments: str, **environment: str) -> dict[str, float]:
    """One case's figures, printed, from a process of its own: so its peak memory is its own.
    `script` prints them last, as JSON."""
    command = [sys.executable, script, *arguments]
    variables = os.environ | environment
    output = subprocess.run(command, env=variables, capture_output=True, text=True)
    if output.returncode:
        sys.exit(output.stderr)
    figures = json.loads(output.stdout.splitlines()[-1])
    print(title, " ".join(f"{key} {value:,.4g}" for key, value in figures.items()), flush=True)
    return figures


def run_case(name: str) -> dict[str, float]:
    """One case on one kind of rows; returns its figures."""
    quiet_libraries()
    torch.set_num_threads(2)
    rows, validation, model, tokenizer = load_rows(name)
    steps = (QUICK if "quick" in sys.argv else STEPS)[name][CASE]
    seconds, done = (
        run_ours(rows, model, steps, 8 if name == "230 words" else TUNED.batch_size)
        if CASE == "c"
        else run_plain_trainer(rows, model, tokenizer, steps)
    )
    lengths = [len(ids) for ids in rows["input_ids"]]
    tokens = done * sum(lengths) / len(lengths)
    weights = sum(
        p.numel() for n, p in model.named_parameters() if p.ndim == 2 and "embeddings" not in n
    )
    peak = measure_peak_flops(choose_precision().torch_dtype)
    figures = {
        "rows_s": done / seconds,
        "tokens_s": tokens / seconds,
        "peak_mb": peak_memory_mb(),
        "of_peak": 4 * weights * tokens / seconds / peak,
        "peak_gflops": peak / 1e9,
    }
    if not steps:
        right = predict(model, validation).argmax(1) == validation["labels"]
        figures["accuracy"] = float(right.mean())
    return figures


def main() -> None:
    """Runs every case in a process of its own and prints the table."""
    print(f"precision of (c): {choose_precision().dtype}, {choose_precision().reason}")
    options = [word for word in sys.argv[1:] if word == "quick"]
    for name, cases in (QUICK if options else STEPS).items():
        figures = {
            case: run_apart(
                f"{name:10s} ({case})", __file__, case, name, *options, OMP_NUM_THREADS="2"
            )
            for case in cases
        }
        print(
            f"{name:10s} (c) / (b): {figures['c']['rows_s'] / figures['b']['rows_s']:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    if len(sys.argv) >= 3:
        CASE = sys.argv[1]
        print(json.dumps(run_case(sys.argv[2])))
    else:
        main()
