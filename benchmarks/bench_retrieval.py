"""Search by size of the index, and embedding against sentence-transformers, in one run.

    make bench LESSON=05

Search: the ontology's vectors and, beyond them, copies with noise, up to a million; queries are
copies with noise as well, asked one at a time. An exact index, and three approximate ones with
their recall of the exact ten nearest. Embedding: the same passages by this course's `Embedder` and
by sentence-transformers with its defaults, in turns. The numbers are written to data/results/bench,
where lesson 05 shows them.
"""

import subprocess
import sys
import time

import faiss
import numpy as np

from lessons_lib.assets import fetch_asset
from lessons_lib.evaluation.intervals import Metric
from lessons_lib.models.load import quiet_libraries
from lessons_lib.paths import PUBLISHED
from lessons_lib.report.results import collect_results, write_results
from lessons_lib.studies.study_05 import ASKED, LESSON, load_embedder, load_testbed, open_index

RECIPES = {"exact": "Flat", "cells": "IVF1024,Flat", "cells_8bit": "IVF1024,SQ8", "graph": "HNSW16"}
TRAINED = 40_000
QUERIES = 200
NEAREST = 10
SEARCHED_CELLS = 16
PASSAGES = 1_000
ROUNDS = 3
INSTALL = [
    sys.executable,
    "-m",
    "pip",
    "install",
    "--quiet",
    "--no-deps",
    "sentence-transformers==6.2.0",
]


def add_noise(real: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """`count` unit vectors, each one of `real` (rows, width) moved by noise of half its length."""
    vectors = real[random.integers(len(real), size=count)]
    vectors += random.standard_normal(vectors.shape, np.float32) * np.float32(
        0.5 / np.sqrt(real.shape[1])
    )
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def search_one_by_one(index: faiss.Index, queries: np.ndarray) -> tuple[np.ndarray, float]:
    """The nearest of every query (queries, 10), and the median milliseconds of a search."""
    found = []
    seconds = []
    for query in queries:
        began = time.perf_counter()
        found.append(index.search(query[None], NEAREST)[1][0])
        seconds.append(time.perf_counter() - began)
    return np.array(found), 1000 * float(np.median(seconds))


def measure_growth(real: np.ndarray) -> dict[str, float]:
    """Milliseconds a query, recall, MB and seconds to build, `<kind>.<vectors>.<figure>`."""
    random = np.random.default_rng(0)
    figures = {}
    for count in (len(real), 100_000, 1_000_000):
        vectors = add_noise(real, count, random) if count > len(real) else real
        queries = add_noise(real, QUERIES, random)
        exact = None
        for kind, recipe in RECIPES.items():
            began = time.perf_counter()
            index = faiss.index_factory(real.shape[1], recipe, faiss.METRIC_INNER_PRODUCT)
            index.train(vectors[:TRAINED])
            index.add(vectors)
            built = time.perf_counter() - began
            if "IVF" in recipe:
                index.nprobe = SEARCHED_CELLS
            found, milliseconds = search_one_by_one(index, queries)
            exact = found if exact is None else exact
            shared = [len(set(a) & set(b)) / NEAREST for a, b in zip(found, exact, strict=True)]
            measured = {"ms": milliseconds, "recall": np.mean(shared), "build seconds": built}
            measured["MB"] = len(faiss.serialize_index(index)) / 1e6
            figures |= {f"{kind}.{count}.{name}": float(value) for name, value in measured.items()}
            print(
                f"{kind:10s} {count:9,}",
                {n: round(float(v), 3) for n, v in measured.items()},
                flush=True,
            )
    return figures


def compare_embedders() -> dict[str, float]:
    """Passages a second by us and by sentence-transformers (the best of three rounds), and the
    smallest cosine between their vectors of one passage."""
    try:
        from sentence_transformers import SentenceTransformer
    except ModuleNotFoundError:
        subprocess.run(INSTALL, check=True)
        from sentence_transformers import SentenceTransformer
    passages = [passage.text for passage in open_index().passages.values()]
    texts = list(np.random.default_rng(0).permutation(passages)[:PASSAGES])
    theirs = SentenceTransformer(str(fetch_asset("all-MiniLM-L6-v2")), device="cpu")
    speeds = {"ours": 0.0, "sentence_transformers": 0.0}
    vectors = {}
    for _ in range(ROUNDS):
        for name, embed in (
            ("ours", load_embedder().embed),
            ("sentence_transformers", theirs.encode),
        ):
            began = time.perf_counter()
            vectors[name] = np.asarray(embed(texts))
            speeds[name] = max(speeds[name], PASSAGES / (time.perf_counter() - began))
    cosines = (vectors["ours"] * vectors["sentence_transformers"]).sum(1)
    figures = {f"embedding.{name}_passages_per_second": speed for name, speed in speeds.items()}
    figures["embedding.ratio"] = speeds["ours"] / speeds["sentence_transformers"]
    figures["embedding.smallest_cosine"] = float(cosines.min())
    print({name: round(value, 4) for name, value in figures.items()})
    return figures


def measure_search() -> dict[str, float]:
    """Median milliseconds a question of the course's index, after embedding and with it."""
    index = open_index()
    asked = [ASKED[0].format(fact.term) for fact in load_testbed("invented").facts]
    vectors = load_embedder().embed(asked)
    _, after = search_one_by_one(index.vectors, vectors)
    figures = {"search.ms_after_embedding": after}
    for by in ("words", "meaning", "both"):
        seconds = []
        for question in asked:
            began = time.perf_counter()
            index.search([question], NEAREST, by)
            seconds.append(time.perf_counter() - began)
        figures[f"search.ms_by_{by}"] = 1000 * float(np.median(seconds))
    print({name: round(value, 2) for name, value in figures.items()})
    return figures


def main() -> None:
    """Measures, prints and publishes."""
    quiet_libraries()
    flat = faiss.downcast_index(open_index().vectors.index)
    real = flat.reconstruct_n(0, flat.ntotal)
    figures = compare_embedders() | measure_search() | measure_growth(real)
    metrics = {name: Metric(value, value, value, QUERIES) for name, value in figures.items()}
    headline = (
        "embedding.sentence_transformers_passages_per_second",
        "embedding.ours_passages_per_second",
    )
    results = collect_results(LESSON, "bench", [0], metrics, headline)
    print(write_results(results, PUBLISHED))


if __name__ == "__main__":
    main()
