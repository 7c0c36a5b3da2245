"""How costs grow: rows, tokens, vectors and processes, each doubled three times.

    make bench LESSON=growth

Seconds of training the encoder with LoRA on more rows, on longer rows, and in more processes that
share every batch (a thread each); milliseconds of an exact search among more vectors. Every size is
measured three times, sizes in turns. The figure and the table go to data/results/bench and to the
README.
"""

import functools
import json
import sys
import tempfile
import time
from dataclasses import replace

import faiss
import numpy as np
from datasets import Dataset
from rounds import publish, run_apart, run_rounds, summarise_rounds

from lessons_lib.evaluation.records import Metrics
from lessons_lib.hardware import join_processes
from lessons_lib.models.classifier import load_classifier
from lessons_lib.models.load import quiet_libraries
from lessons_lib.models.lora import add_lora
from lessons_lib.studies.study_04 import TUNED
from lessons_lib.training.tasks import classification
from lessons_lib.training.trainer import train

ENCODER = "packaged:all-MiniLM-L6-v2"
WIDTH = 384
SIZES = {
    "rows": (256, 512, 1024, 2048),
    "tokens": (32, 64, 128, 256),
    "vectors": (12_500, 25_000, 50_000, 100_000),
    "processes": (1, 2, 4, 8),
}
ROUNDS = 3
ROWS = 256  # where it is not rows that grow
TOKENS = 32
QUERIES = 200
BATCH = 32


def time_training(rows: int, tokens: int) -> float:
    """Seconds of one epoch on so many rows of so many random tokens; this process's part of them,
    where there are several."""
    random = np.random.default_rng(0)
    ids = random.integers(1000, 20_000, (rows, tokens)).tolist()
    labels = random.integers(0, 2, rows).tolist()
    model, _ = load_classifier(ENCODER, seed=0, dropout=0.0)
    model = add_lora(model, TUNED.lora_config(), seed=0)
    settings = replace(TUNED.train_settings(seed=0), batch_size=BATCH, epochs=1, ema_decay=0.0)
    with tempfile.TemporaryDirectory() as folder:
        result = train(
            model,
            Dataset.from_dict({"input_ids": ids, "labels": labels}),
            None,
            settings,
            task=classification(model),
            output_dir=folder,
            progress=False,
        )
    return result.seconds


def time_search(vectors: int) -> float:
    """Median milliseconds of an exact search for the ten nearest of so many random unit vectors."""
    random = np.random.default_rng(0)
    stored = random.standard_normal((vectors, WIDTH), np.float32)
    stored /= np.linalg.norm(stored, axis=1, keepdims=True)
    index = faiss.IndexFlatIP(WIDTH)
    index.add(stored)
    milliseconds = []
    for query in random.standard_normal((QUERIES, 1, WIDTH), np.float32):
        began = time.perf_counter()
        index.search(query, 10)
        milliseconds.append(1000 * (time.perf_counter() - began))
    return float(np.median(milliseconds))


MEASURE = {
    "rows": lambda size: time_training(size, TOKENS),
    "tokens": lambda size: time_training(ROWS, size),
    "vectors": time_search,
    "processes": lambda size: time_training(8 * ROWS, TOKENS),
}


def run_case(what: str, size: int) -> None:
    """One size, in this process or in this one of several; the first prints the figures."""
    quiet_libraries()
    cost = MEASURE[what](size)
    if join_processes().is_main_process:
        print(json.dumps({"cost": cost}))


def measure_size(what: str, size: str) -> dict[str, float]:
    """One size in a process of its own; several processes by torchrun."""
    command = [__file__, what, size]
    if what != "processes":
        return run_apart(f"{what} {size}", *command)
    if size != "1":
        command = ["-m", "torch.distributed.run", "--nproc-per-node", size, *command]
    return run_apart(f"{what} {size}", *command, threads="1")


def main() -> None:
    """Measures all sizes in turns, prints and publishes."""
    metrics = Metrics()
    for what, sizes in SIZES.items():
        names = [str(size) for size in sizes]
        figures = run_rounds(names, functools.partial(measure_size, what), ROUNDS)
        for name in names:
            cost = summarise_rounds([one["cost"] for one in figures[name]])
            metrics.add(what, "cost", cost, subset=name)
            print(f"{what} {name}: {cost}", flush=True)
    headline = (("rows", "cost", "256"), ("rows", "cost", "2048"))
    publish("growth", metrics, headline, models={"encoder": ENCODER}, data=[])


if __name__ == "__main__":
    if len(sys.argv) == 3:
        run_case(sys.argv[1], int(sys.argv[2]))
    else:
        main()
