"""Throughput of the `gpu` profile's training: lesson 02 on a random model of Llama-2-7B's shape, in
4 bit.

    make bench LESSON=gpu            # one GPU with 16 GB; 14 GB of disk while it runs

"plain" is Hugging Face's Trainer with padded rows and logits everywhere, "ours" this course's
`train`: the same NF4 weights with double quantisation, the same LoRA on all linear layers, gradient
checkpointing and bf16, the same rows in the same batches. The weights are random, so it measures
seconds and memory, nothing else. "terms" are rows as long as lesson 02's, "passages" as long as
lesson 05's. Every case runs in a process of its own, and is warmed up before the clock runs.
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import replace

import numpy as np
import torch
import transformers
from bench_decoder import run_plain
from datasets import Dataset
from rounds import run_apart
from transformers import LlamaConfig

from lessons_lib.hardware import choose_precision, peak_memory_mb, pick_device
from lessons_lib.models.decoder import load_decoder
from lessons_lib.models.load import load_tokenizer, quiet_libraries
from lessons_lib.models.memory import count_bytes
from lessons_lib.training.batches import LengthBucketSampler
from lessons_lib.training.conversations import IGNORED
from lessons_lib.training.recipe import FACTS, adapt
from lessons_lib.training.tasks import ANSWERS
from lessons_lib.training.trainer import train

SHAPES = {
    # the defaults are the first Llama's, of the same widths
    "7b": LlamaConfig(max_position_embeddings=4096),
    "tiny": LlamaConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4
    ),
}
LENGTHS = {"terms": (40, 90), "passages": (250, 450)}  # tokens; the last third is the answer
RECIPE = replace(FACTS, learning_rate=2e-4, batch_size=4)  # the lesson's on a GPU
SAVE = {"gradient_checkpointing_kwargs": {"use_reentrant": False}}
STEPS = 40


def save_model(shape: str, folder: str) -> None:
    """Writes a random model and a tokenizer, as a local folder that `load_decoder` takes."""
    with torch.device(pick_device()):
        model = transformers.AutoModelForCausalLM.from_config(SHAPES[shape], dtype=torch.bfloat16)
    model.save_pretrained(folder, max_shard_size="2GB")  # a shard at a time passes through memory
    load_tokenizer("tiny:decoder").save_pretrained(folder)


def draw_rows(kind: str, steps: int) -> Dataset:
    """Random rows of `input_ids` and `labels` for so many steps, in the order in which `train`
    takes them.
    """
    random = np.random.default_rng(0)
    rows = []
    for length in random.integers(*LENGTHS[kind], steps * RECIPE.batch_size):
        ids = random.integers(5, 400, length).tolist()
        asked = 2 * len(ids) // 3
        rows.append({"input_ids": ids, "labels": [IGNORED] * asked + ids[asked:]})
    order = LengthBucketSampler([len(row["input_ids"]) for row in rows], RECIPE.batch_size, 0)
    return Dataset.from_list(rows).select(list(order))


def run_case(case: str, kind: str, folder: str, steps: int) -> dict[str, float]:
    """One case's figures."""
    quiet_libraries()
    compute = choose_precision()
    model, tokenizer = load_decoder(folder, quantization_config=RECIPE.quantization_config())
    kept = count_bytes(model)
    model = adapt(model, RECIPE, task_type="CAUSAL_LM", seed=0, gradient_checkpointing=True)
    warm_up(model)
    rows = draw_rows(kind, steps)
    with tempfile.TemporaryDirectory() as output:
        if case == "plain":
            more = {
                "bf16": compute.dtype == "bfloat16",
                "use_cpu": pick_device() == "cpu",
                "gradient_checkpointing": True,
                **SAVE,
            }
            seconds = run_plain(
                rows,
                model,
                tokenizer,
                output,
                batch_size=RECIPE.batch_size,
                learning_rate=RECIPE.learning_rate,
                **more,
            )
        else:
            result = train(
                model,
                rows,
                None,
                replace(RECIPE.train_settings(seed=0), warmup=0.0),
                task=ANSWERS,
                output_dir=output,
                progress=False,
            )
            seconds = result.seconds
    return {
        "tokens_s": sum(len(ids) for ids in rows["input_ids"]) / seconds,
        "rows_s": len(rows) / seconds,
        "weights_mb": kept / 1e6,
        "peak_mb": peak_memory_mb(),
    }


def warm_up(model: torch.nn.Module) -> None:
    """A few small steps, so that kernels and memory are there before the clock runs."""
    ids = torch.randint(5, 400, (2, 32), device=pick_device())
    for _ in range(3):
        model(input_ids=ids, labels=ids).loss.backward()
    model.zero_grad()


def main(shape: str, steps: int) -> None:
    """Runs every case in a process of its own and prints the table."""
    precision = choose_precision()
    print(f"{shape} on {pick_device()}, {precision.dtype}: {precision.reason}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        # in a process of its own, which gives the GPU's memory back when it ends
        subprocess.run([sys.executable, __file__, shape, folder], check=True)
        for kind in LENGTHS:
            plain, ours = (
                run_apart(f"{kind:8s} {case:5s}", __file__, case, kind, folder, str(steps))
                for case in ("plain", "ours")
            )
            print(f"{kind:8s} ours / plain: {ours['rows_s'] / plain['rows_s']:.2f}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 5:
        print(json.dumps(run_case(*sys.argv[1:4], int(sys.argv[4]))))
    elif len(sys.argv) == 3:
        save_model(*sys.argv[1:])
    else:
        main(*(("tiny", 4) if "tiny" in sys.argv else ("7b", STEPS)))
