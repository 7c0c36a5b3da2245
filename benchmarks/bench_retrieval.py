"""Search by size of the index, and the milliseconds of a question.

    make bench LESSON=05

Search: the ontology's vectors and, beyond them, copies of these with noise, up to a million;
queries are copies with noise as well, asked one at a time. An exact index, and two approximate
ones, each searched at three depths, with their recall of the exact ten nearest. Copies of one
vector lie close together, so from 100,000 vectors on a query's ten nearest are mostly copies of one
definition: the recall says how well an index finds such neighbours, not how well a search finds
answers. The numbers are written to data/results/bench, where lesson 05 shows them.
"""

import time

import faiss
import numpy as np

from lessons_lib.evaluation.records import Metrics, measured_once
from lessons_lib.models.load import quiet_libraries
from lessons_lib.paths import PUBLISHED
from lessons_lib.report.results import collect_results, write_results
from lessons_lib.studies.study import load_study_profile
from lessons_lib.studies.study_05 import ASKED, LESSON, load_embedder, load_testbed, open_index

# kind of index → depths of its search: cells that are looked into, candidates that are kept
DEPTHS = {"exact": (0,), "cells": (4, 16, 64), "graph": (16, 64, 256)}
QUERIES = 200
NEAREST = 10


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


def build_index(kind: str, vectors: np.ndarray) -> faiss.Index:
    """An index of that kind with the vectors in it. The number of cells grows with the square root
    of the number of vectors, as FAISS advises."""
    width = vectors.shape[1]
    if kind == "exact":
        index = faiss.IndexFlatIP(width)
    elif kind == "graph":
        index = faiss.IndexHNSWFlat(width, 16, faiss.METRIC_INNER_PRODUCT)
    else:
        cells = 2 ** round(np.log2(4 * np.sqrt(len(vectors))))
        index = faiss.index_factory(width, f"IVF{cells},Flat", faiss.METRIC_INNER_PRODUCT)
        index.train(vectors[: 40 * cells])
    index.add(vectors)
    return index


def set_depth(index: faiss.Index, depth: int) -> None:
    """How much of an approximate index a search looks at."""
    if isinstance(index, faiss.IndexHNSW):
        index.hnsw.efSearch = depth
    elif isinstance(index, faiss.IndexIVF):
        index.nprobe = depth


def measure_growth(real: np.ndarray) -> Metrics:
    """Milliseconds per query and recall by kind of index and depth; MB, seconds to build by kind.
    The subset is the number of vectors, and the depth."""
    random = np.random.default_rng(0)
    metrics = Metrics()
    for count in (len(real), 100_000, 1_000_000):
        vectors = add_noise(real, count, random) if count > len(real) else real
        queries = add_noise(real, QUERIES, random)
        exact = None
        for kind, depths in DEPTHS.items():
            began = time.perf_counter()
            index = build_index(kind, vectors)
            built = time.perf_counter() - began
            size = len(faiss.serialize_index(index)) / 1e6
            metrics.add(kind, "build_seconds", measured_once(built), subset=f"{count}")
            metrics.add(kind, "MB", measured_once(size), subset=f"{count}")
            for depth in depths:
                set_depth(index, depth)
                found, milliseconds = search_one_by_one(index, queries)
                exact = found if exact is None else exact
                shared = [len(set(a) & set(b)) / NEAREST for a, b in zip(found, exact, strict=True)]
                subset = f"{count}, depth {depth}"
                metrics.add(kind, "ms", measured_once(milliseconds, QUERIES), subset=subset)
                recall = measured_once(np.mean(shared), QUERIES)
                metrics.add(kind, "recall", recall, subset=subset)
                print(
                    f"{kind} {subset}: {milliseconds:.3f} ms, recall {np.mean(shared):.3f}, "
                    f"built in {built:.1f} s",
                    flush=True,
                )
    return metrics


def measure_search() -> Metrics:
    """Median milliseconds per question of the course's index, after embedding and with it."""
    index = open_index()
    asked = [ASKED[0].format(fact.term) for fact in load_testbed("invented").facts]
    vectors = load_embedder().embed(asked)
    _, after = search_one_by_one(index.vectors, vectors)
    metrics = Metrics()
    metrics.add("search", "ms", measured_once(after, len(asked)), subset="after embedding")
    for by in ("words", "meaning", "both"):
        seconds = []
        for question in asked:
            began = time.perf_counter()
            index.search([question], NEAREST, by)
            seconds.append(time.perf_counter() - began)
        milliseconds = 1000 * float(np.median(seconds))
        metrics.add("search", "ms", measured_once(milliseconds, len(asked)), subset=f"by {by}")
    print(metrics.table()[["subset", "value"]].to_string(index=False))
    return metrics


def main() -> None:
    """Measures, prints and publishes."""
    quiet_libraries()
    flat = faiss.downcast_index(open_index().vectors.index)
    real = flat.reconstruct_n(0, flat.ntotal)
    metrics = Metrics()
    metrics |= measure_search()
    metrics |= measure_growth(real)
    profile = load_study_profile(LESSON)
    results = collect_results(
        LESSON,
        "bench",
        seeds=[0],
        models={"encoder": profile.encoder},
        data=[profile.terms],
        metrics=metrics,
        headline=(("exact", "ms", "1000000, depth 0"), ("cells", "ms", "1000000, depth 16")),
    )
    print(write_results(results, PUBLISHED))


if __name__ == "__main__":
    main()
