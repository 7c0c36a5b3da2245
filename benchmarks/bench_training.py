"""Training throughput: a classic recipe, the plain Trainer, and this course's `train`, in turns.

Same model, rows and LoRA targets in all three; run with nothing else on the machine:

    make bench                # what this CPU can do
    make bench CPU=avx2       # what most laptops can: without bf16 and the wide AVX-512

"padded" is the classic recipe's settings, every row padded to 512, fp32, throughput only; "plain"
the Trainer as it is: batch 8, dynamic padding, fp32, the model's own dropout; "ours" batch 32 on
snippets and 8 on long rows. Every case runs in a process of its own, so that its peak memory is
its own. Accuracy is on validation, after three epochs. "of_peak" is the share of the machine's
measured matrix-product peak in the format of "ours": 2 FLOP a weight and token forwards, 2
backwards for activations. The table goes to data/results/bench.
"""

import json
import sys
import tempfile
import time
from dataclasses import replace

import torch
from datasets import Dataset
from rounds import publish, run_apart, run_rounds, tabulate_rounds
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

from lessons_lib.data import load_reviews
from lessons_lib.evaluation.inference import predict
from lessons_lib.evaluation.records import Metrics, measured_once
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
# steps of a round: some fifteen seconds each
STEPS = {
    "snippets": {"plain": 80, "ours": 60},
    "230 words": {"plain": 12, "ours": 24},
}
ROUNDS = 3
PADDED_STEPS = 20
THREE_EPOCHS = 0


def load_rows(case: str, name: str) -> tuple[Dataset, Dataset, object, object]:
    """Training rows, validation rows, model with LoRA, tokenizer."""
    splits = load_reviews("snippets:movie", train_rows=2000)
    dropout = TUNED.dropout if case == "ours" else None
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
    rows: Dataset, model: object, tokenizer: object, steps: int, **padding: object
) -> tuple[float, int]:
    """Seconds and rows of Hugging Face's Trainer; padding: options of its collator."""
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


def run_case(case: str, name: str, steps: int) -> dict[str, float]:
    """One case on one kind of rows; returns its figures."""
    quiet_libraries()
    rows, validation, model, tokenizer = load_rows(case, name)
    if case == "ours":
        batch = 8 if name == "230 words" else TUNED.batch_size
        seconds, done = run_ours(rows, model, steps, batch)
    else:
        padding = {"padding": "max_length", "max_length": 512} if case == "padded" else {}
        seconds, done = run_plain_trainer(rows, model, tokenizer, steps, **padding)
    lengths = [len(ids) for ids in rows["input_ids"]]
    tokens = done * sum(lengths) / len(lengths)
    weights = sum(
        p.numel() for n, p in model.named_parameters() if p.ndim == 2 and "embeddings" not in n
    )
    peak = measure_peak_flops(choose_precision().torch_dtype)
    figures = {
        "rows_per_second": done / seconds,
        "tokens_per_second": tokens / seconds,
        "peak_mb": peak_memory_mb(),
        "of_peak": 4 * weights * tokens / seconds / peak,
        "peak_gflops": peak / 1e9,
    }
    if steps == THREE_EPOCHS:
        right = predict(model, validation).argmax(1) == validation["labels"]
        figures["accuracy"] = float(right.mean())
        figures["validation_rows"] = len(right)
    return figures


def main() -> None:
    """Runs the cases in turns, prints and publishes."""
    print(f"precision of ours: {choose_precision().dtype}, {choose_precision().reason}")
    metrics = Metrics()
    for name, steps in STEPS.items():

        def measure(case: str, name: str = name, steps: dict[str, int] = steps) -> dict[str, float]:
            """One case of this kind of rows."""
            return run_apart(f"{name:10s} {case:6s}", __file__, case, name, str(steps[case]))

        figures = run_rounds(steps, measure, ROUNDS)
        metrics |= tabulate_rounds(figures, plain="plain", speed="rows_per_second", subset=name)
    padded = run_apart("padded to 512", __file__, "padded", "snippets", str(PADDED_STEPS))
    speed = measured_once(padded["rows_per_second"])
    metrics.add("padded", "rows_per_second", speed, subset="snippets")
    for case in ("plain", "ours"):
        figures = run_apart(f"three epochs, {case}", __file__, case, "snippets", str(THREE_EPOCHS))
        accuracy = measured_once(figures["accuracy"], int(figures["validation_rows"]))
        metrics.add(case, "accuracy", accuracy, subset="three epochs")
    headline = [(case, "rows_per_second", "snippets") for case in ("plain", "ours")]
    publish(
        "training",
        metrics,
        tuple(headline),
        models={"encoder": ENCODER},
        data=["snippets:movie"],
    )


if __name__ == "__main__":
    if len(sys.argv) == 4:
        print(json.dumps(run_case(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
    else:
        main()
