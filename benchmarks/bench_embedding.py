"""Embedding: this course's `Embedder` against sentence-transformers with its defaults, in turns.

    make bench LESSON=embedding      # CPU=avx2: what most laptops can

The same 1,000 definitions of the ontology, the same encoder. sentence-transformers is no package of
this course: it is installed when it is missing. The table goes to data/results/bench.
"""

import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from rounds import THREADS, publish, run_rounds, tabulate_rounds

from lessons_lib import data
from lessons_lib.assets import fetch_asset
from lessons_lib.evaluation.inference import Embedder
from lessons_lib.evaluation.records import Metrics, measured_once
from lessons_lib.models.load import quiet_libraries

ENCODER = "packaged:all-MiniLM-L6-v2"
PASSAGES = 1_000
ROUNDS = 5
PACKAGE = "sentence-transformers==6.2.0"
INSTALL = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", PACKAGE]


def load_theirs() -> object:
    """sentence-transformers' model on the same weights; its package is installed if missing."""
    try:
        from sentence_transformers import SentenceTransformer
    except ModuleNotFoundError:
        subprocess.run(INSTALL, check=True)
        from sentence_transformers import SentenceTransformer
    return SentenceTransformer(str(fetch_asset("all-MiniLM-L6-v2")), device="cpu")


def main() -> None:
    """Measures, prints and publishes."""
    quiet_libraries()
    torch.set_num_threads(int(THREADS))
    facts = data.read_terms(data.ONTOLOGY)
    random = np.random.default_rng(0)
    texts = [facts[number].answer for number in random.permutation(len(facts))[:PASSAGES]]
    embedders: dict[str, Callable] = {
        "plain": load_theirs().encode,
        "ours": Embedder(ENCODER).embed,
    }
    vectors = {}

    def measure(case: str) -> dict[str, float]:
        """One case, once through all passages."""
        began = time.perf_counter()
        vectors[case] = np.asarray(embedders[case](texts))
        return {"passages_per_second": PASSAGES / (time.perf_counter() - began)}

    run_rounds(embedders, measure, 1)  # what is prepared once is prepared before the clock runs
    figures = run_rounds(embedders, measure, ROUNDS)
    metrics = Metrics()
    metrics |= tabulate_rounds(
        figures, plain="plain", speed="passages_per_second", subset="passages"
    )
    cosines = (vectors["ours"] * vectors["plain"]).sum(1)
    metrics.add("ours", "smallest_cosine", measured_once(cosines.min(), PASSAGES))
    print(f"smallest cosine of the two vectors of a passage: {cosines.min():.4f}")
    headline = tuple((case, "passages_per_second", "passages") for case in ("plain", "ours"))
    publish("embedding", metrics, headline, models={"encoder": ENCODER}, data=["hpo"])


if __name__ == "__main__":
    main()
