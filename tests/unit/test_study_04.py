"""Lesson 04's study: rates that were chosen are those that its own sweeps found."""

import pytest

from lessons_lib import report
from lessons_lib.studies import study_04


@pytest.fixture(scope="module")
def published():
    return report.read_results(study_04.LESSON, "study")


@pytest.mark.parametrize("method", study_04.METHOD_RATES)
def test_a_method_runs_at_the_best_rate_of_its_sweep(published, method):
    """Failing means a relative of LoRA is compared at a rate that somebody typed."""

    def accuracy(rate):
        arm = f"sweep_{method}={rate:g}"
        return published.find(arm, "accuracy", subset="validation").value

    rates = study_04.METHOD_RATES[method]
    assert study_04.CHOSEN_RATES[method] == max(rates, key=accuracy)


@pytest.mark.parametrize("method", study_04.METHOD_RATES)
def test_the_best_rate_is_not_at_the_edge_of_its_sweep(method):
    """Failing means a better rate may lie beyond what was tried."""
    rates = sorted(study_04.METHOD_RATES[method])
    assert study_04.CHOSEN_RATES[method] in rates[1:-1]
