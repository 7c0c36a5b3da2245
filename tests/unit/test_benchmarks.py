"""Benchmarks that only a GPU can run are tried on a tiny model, so that the one chance is not
lost.
"""

import sys

import pytest

from lessons_lib.paths import REPOSITORY

sys.path.append(str(REPOSITORY / "benchmarks"))
import bench_gpu


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("model"))
    bench_gpu.save_model("tiny", path)
    return path


@pytest.mark.parametrize("case", ["plain", "ours"])
def test_gpu_benchmark_runs(case, folder):
    """Failing means `make bench LESSON=gpu` ends in an error on the first GPU that it meets."""
    figures = bench_gpu.run_case(case, "terms", folder, steps=1)
    assert all(figure > 0 for figure in figures.values())


def test_model_of_the_gpu_benchmark_has_llamas_shape():
    """Failing means the benchmark measures another model than Llama-2-7B."""
    shape = bench_gpu.SHAPES["7b"]
    sizes = (shape.hidden_size, shape.intermediate_size, shape.num_hidden_layers, shape.vocab_size)
    assert sizes == (4096, 11008, 32, 32000)
