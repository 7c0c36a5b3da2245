"""Throughput of lesson 02's training and generation: the plain Trainer and `generate` as they come
against this course's `train` and `generate_answers`, in turns.

    make bench LESSON=02      # CPU=avx2: what most laptops can

The same model, the same LoRA on all linear layers, the same rows in the same batches. "plain" is
Hugging Face's Trainer with padded rows and logits everywhere; "fp32" and "bf16" are `train` on
weights kept and computed in so, "nf4" on 4-bit weights with double quantisation. bf16 is left out
where the CPU is slow at it. Every case runs in a process of its own, and takes a few steps before
the clock runs: what is prepared once would weigh more in twenty steps than in a training. Tokens
are those of the rows, without padding, a shared beginning counted in every row: so tokens/s
compares as rows/s does. "of_peak" is the share of the machine's matrix-product peak in the format
computed in: 2 FLOP a weight and token forwards, 2 backwards. Generation: the same questions one by
one with `generate` as it is, and in batches as the lessons ask them. The table goes to
data/results/bench.
"""

import json
import sys
import tempfile
import time
from dataclasses import replace

import torch
from bench_training import measure_peak_flops
from datasets import Dataset
from rounds import publish, run_apart, run_rounds, tabulate_rounds
from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

from lessons_lib.data.phrasings import PHRASINGS, phrase_terms
from lessons_lib.evaluation.likelihood import generate_answers
from lessons_lib.evaluation.records import Metrics
from lessons_lib.hardware import Precision, choose_precision, peak_memory_mb
from lessons_lib.models.decoder import load_decoder, render_chat
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
WARM_UP_STEPS = 4
ROUNDS = 3
QUESTIONS = 12
NEW_TOKENS = 48


def load_case(case: str) -> tuple:
    """Model with LoRA, tokenizer, bytes of the weights as loaded, scales included."""
    options = {"dtype": torch.bfloat16} if case in ("bf16", "nf4") else {}  # the rest of nf4, too
    recipe = FACTS if case == "nf4" else replace(FACTS, quantize="none")
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


def run_training(case: str) -> dict[str, float]:
    """One case's figures in training."""
    model, tokenizer, kept = load_case(case)
    rows = order_rows(tokenizer)
    warm_up = rows.select(range(WARM_UP_STEPS * FACTS.batch_size))
    rows = rows.select(range(STEPS * FACTS.batch_size))
    tokens = sum(len(ids) for ids in rows["input_ids"])
    precision = Precision("float32", "the case") if case == "fp32" else choose_precision()
    time_steps(case, model, tokenizer, warm_up, precision)
    seconds = time_steps(case, model, tokenizer, rows, precision)
    linear = sum(
        module.in_features * module.out_features
        for name, module in model.named_modules()
        if name.endswith("base_layer")
    )
    dtype = torch.float32 if case == "plain" else precision.torch_dtype
    return {
        "rows_per_second": len(rows) / seconds,
        "tokens_per_second": tokens / seconds,
        "weights_mb": kept / 1e6,
        "peak_mb": peak_memory_mb(),
        "of_peak": 4 * linear * tokens / seconds / measure_peak_flops(dtype),
    }


def time_steps(
    case: str, model: torch.nn.Module, tokenizer: object, rows: Dataset, precision: Precision
) -> float:
    """Seconds of training once through the rows, by the plain Trainer or by `train`."""
    with tempfile.TemporaryDirectory() as folder:
        if case == "plain":
            return run_plain(
                rows,
                model,
                tokenizer,
                folder,
                batch_size=FACTS.batch_size,
                learning_rate=FACTS.learning_rate,
            )
        result = train(
            model,
            rows,
            None,
            FACTS.train_settings(seed=0),
            task=ANSWERS,
            output_dir=folder,
            precision=precision,
            progress=False,
        )
        return result.seconds


def run_generation(case: str) -> dict[str, float]:
    """One case's figures in generation: "plain" asks one question at a time, the others batches."""
    model, tokenizer, _ = load_case("fp32" if case == "plain" else case)
    facts = load_groups()["untrained"][:QUESTIONS]
    prompts = [render_chat(tokenizer, fact.question) for fact in facts]
    started = time.perf_counter()
    if case == "plain":
        tokens = sum(generate_one(model, tokenizer, prompt) for prompt in prompts)
    else:
        answers = generate_answers(
            model, tokenizer, prompts, max_new_tokens=NEW_TOKENS, progress=False
        )
        tokens = sum(answer.tokens for answer in answers)
    seconds = time.perf_counter() - started
    return {"tokens_per_second": tokens / seconds, "peak_mb": peak_memory_mb()}


def generate_one(model: torch.nn.Module, tokenizer: object, prompt: str) -> int:
    """The number of new tokens of one answer."""
    row = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
    written = model.generate(**row, max_new_tokens=NEW_TOKENS, do_sample=False)
    return written.shape[1] - row["input_ids"].shape[1]


RUNS = {"training": run_training, "generation": run_generation}


def main() -> None:
    """Runs the cases in turns, prints and publishes."""
    fast_bf16 = choose_precision().dtype == "bfloat16"
    print(f"precision: {choose_precision().dtype}, {choose_precision().reason}")
    metrics = Metrics()
    for run in RUNS:
        # batches of 4-bit weights unpack them anew for every token: that is no way to generate
        cases = ["plain", "fp32"]
        cases += ["bf16"] if fast_bf16 else []
        cases += ["nf4"] if run == "training" else []

        def measure(case: str, run: str = run) -> dict[str, float]:
            """One case of this run."""
            return run_apart(f"{run:10s} {case:6s}", __file__, run, case)

        figures = run_rounds(cases, measure, ROUNDS)
        metrics |= tabulate_rounds(
            figures, plain="plain", speed="tokens_per_second", subset=f"decoder, {run}"
        )
    ours = "bf16" if fast_bf16 else "fp32"
    headline = [(case, "tokens_per_second", "decoder, training") for case in ("plain", ours)]
    publish("decoder", metrics, tuple(headline), models={"decoder": MODEL}, data=["hpo"])


if __name__ == "__main__":
    if len(sys.argv) == 3:
        quiet_libraries()
        print(json.dumps(RUNS[sys.argv[1]](sys.argv[2])))
    else:
        main()
