"""Benchmarks that only a GPU can run are tried on a tiny model, so that the one chance is not
lost.
"""

import sys

import pytest

from lessons_lib.paths import REPOSITORY

sys.path.append(str(REPOSITORY / "benchmarks"))
import bench_gpu
import rounds


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


def test_rounds_alternate_and_ratios_are_taken_within_a_round(capsys):
    """Failing means a published speed-up compares two moments of a machine whose speed drifts."""
    order = []
    speeds = {"plain": iter([10.0, 20.0, 5.0]), "ours": iter([30.0, 60.0, 15.0])}

    def measure(case):
        order.append(case)
        return {"speed": next(speeds[case])}

    figures = rounds.run_rounds(["plain", "ours"], measure, 3)
    metrics = rounds.tabulate_rounds(figures, plain="plain", speed="speed", subset="rows")
    assert order == ["plain", "ours"] * 3
    ratio = metrics.find("ours", "times_plain", subset="rows")
    assert (ratio.value, ratio.low, ratio.high, ratio.n) == (3.0, 3.0, 3.0, 3)
    assert metrics.find("ours", "speed", subset="rows").value == 30.0
