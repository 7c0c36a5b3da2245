# %% [markdown]
# # Assignment 04 · LoRA, and what is evidence
#
# Lesson 04 adapted DistilBERT with LoRA and asked whether it helped. Here you build LoRA's
# layer, merge it, count it, save it with its head, and compute the interval and the paired
# test. Write your code where it says so, run the check under it, and hand in the whole
# notebook. The checks you see are not all: the same cells are graded with other inputs. Keep
# the names of the functions; add as many cells as you like.
#
# 20 points, about 65 minutes, numpy and torch only. An exercise gives all of its points
# or none, whatever happens to the others. In grading, a cell has 10 seconds and a call of
# your function 5, without a network. All cells run before anything is graded: do not give
# a function's name to something else later.

# %% nbgrader={"grade": false, "grade_id": "setup", "locked": true, "schema_version": 3, "solution": false, "task": false}
import os
from math import comb

import numpy as np
import torch

GRADING_SEED = int(os.environ.get("GRADING_SEED", "0"))  # grading uses another


def same(got, wanted) -> bool:
    """Whether shapes are equal, and numbers but for rounding."""
    got, wanted = np.asarray(got), np.asarray(wanted)
    return got.shape == wanted.shape and bool(np.allclose(got, wanted, atol=1e-5))


# %% [markdown]
# ## 1 · LoRA's layer
#
# **4 points · easy · 10 minutes.** A linear layer has weights `weight` (out, in). LoRA adds
# `down` (rank, in) and `up` (out, rank), and the scale `alpha / rank`.
# `lora_forward(inputs, weight, down, up, alpha)` returns what the adapted layer gives for
# `inputs` (rows, in): a tensor (rows, out).
#
# <details><summary>Hint 1</summary>The frozen part: <code>inputs @ weight.T</code>.</details>
# <details><summary>Hint 2</summary>First down to <code>rank</code> numbers, then up again.</details>
# <details><summary>Hint 3</summary>The rank is <code>down.shape[0]</code>.</details>


# %% nbgrader={"grade": false, "grade_id": "lora_forward", "locked": false, "schema_version": 3, "solution": true, "task": false}
def lora_forward(
    inputs: torch.Tensor,
    weight: torch.Tensor,
    down: torch.Tensor,
    up: torch.Tensor,
    alpha: float,
) -> torch.Tensor:
    """What the adapted layer gives (rows, out)."""
    ### BEGIN SOLUTION
    scale = alpha / down.shape[0]
    return inputs @ weight.T + scale * (inputs @ down.T @ up.T)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_lora_forward", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Check: lora_forward
draw = torch.Generator().manual_seed(1)
x, w = torch.randn(3, 6, generator=draw), torch.randn(4, 6, generator=draw)
a, b = torch.randn(2, 6, generator=draw), torch.randn(4, 2, generator=draw)
got, frozen, thin = lora_forward(x, w, a, b, 8.0), x @ w.T, x @ a.T @ b.T
assert got.shape == (3, 4), "a row of `out` numbers for every row of inputs"
assert torch.allclose(lora_forward(x, w, a, 0 * b, 8.0), frozen, atol=1e-5), (
    "with `up` 0, as training begins, the layer must do what it did"
)
assert not torch.allclose(got, frozen, atol=1e-4), "LoRA's part is missing"
assert not torch.allclose(got, frozen + thin, atol=1e-4), (
    "the scale alpha / rank is missing"
)
assert not torch.allclose(got, frozen + 8 * thin, atol=1e-4), (
    "alpha is divided by the rank"
)
assert torch.allclose(got, frozen + 4 * thin, atol=1e-4), (
    "W x + alpha / rank · up down x"
)
### BEGIN HIDDEN TESTS
draw = torch.Generator().manual_seed(GRADING_SEED)
for rank in (1, 3):
    x, w = torch.randn(5, 7, generator=draw), torch.randn(4, 7, generator=draw)
    a, b = torch.randn(rank, 7, generator=draw), torch.randn(4, rank, generator=draw)
    wanted = torch.nn.functional.linear(x, w + (b @ a) * 6 / rank)
    assert same(lora_forward(x, w, a, b, 6.0), wanted), "wrong for another rank"
### END HIDDEN TESTS

# %% [markdown]
# ## 2 · Merge it
#
# **3 points · easy · 5 minutes.** `merge(weight, down, up, alpha)` returns the weights (out,
# in) of a plain layer that does the same.
#
# <details><summary>Hint 1</summary>The product of the two thin matrices is as large as
# <code>weight</code>.</details>
# <details><summary>Hint 2</summary>In which order do they fit?</details>
# <details><summary>Hint 3</summary>The scale is the same as before.</details>


# %% nbgrader={"grade": false, "grade_id": "merge", "locked": false, "schema_version": 3, "solution": true, "task": false}
def merge(
    weight: torch.Tensor, down: torch.Tensor, up: torch.Tensor, alpha: float
) -> torch.Tensor:
    """One layer's weights (out, in)."""
    ### BEGIN SOLUTION
    return weight + alpha / down.shape[0] * (up @ down)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_merge", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Check: merge
w, a, b = torch.eye(3), torch.ones(2, 3), torch.full((3, 2), 0.5)
merged = merge(w, a, b, 4.0)
assert merged.shape == (3, 3), "the merged weights are as large as the frozen ones"
assert not torch.allclose(merged, w + 1), "the scale alpha / rank is missing"
assert not torch.allclose(merged, torch.full((3, 3), 2.0)), (
    "the frozen weights are missing"
)
assert torch.allclose(merged, w + 2), "weight + alpha / rank · up down"
### BEGIN HIDDEN TESTS
draw = torch.Generator().manual_seed(GRADING_SEED)
w, x = torch.randn(4, 6, generator=draw), torch.randn(5, 6, generator=draw)
a, b = torch.randn(3, 6, generator=draw), torch.randn(4, 3, generator=draw)
wanted = x @ w.T + 2.0 / 3 * (x @ a.T @ b.T)
merged = merge(w, a, b, 2.0)
assert merged.shape == (4, 6), "the merged weights are as large as the frozen ones"
assert same(x @ merged.T, wanted), "the merged layer does something else"
### END HIDDEN TESTS

# %% [markdown]
# ## 3 · How many weights are trained?
#
# **3 points · medium · 10 minutes.** `count_trained(shapes, rank, classes, width)` returns the
# number of weights that LoRA trains: two thin matrices for every adapted layer, whose (out,
# in) are in `shapes`, and the classification head, a linear layer with bias from `width` to
# `classes`.
#
# <details><summary>Hint 1</summary>(rank · in) and (out · rank).</details>
# <details><summary>Hint 2</summary>The frozen weights do not count.</details>
# <details><summary>Hint 3</summary>A bias has one number a class.</details>


# %% nbgrader={"grade": false, "grade_id": "count_trained", "locked": false, "schema_version": 3, "solution": true, "task": false}
def count_trained(
    shapes: list[tuple[int, int]], rank: int, classes: int, width: int
) -> int:
    """Weights that are trained, head included."""
    ### BEGIN SOLUTION
    return sum(rank * (out + into) for out, into in shapes) + (width + 1) * classes
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_count_trained", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Check: count_trained
got = count_trained([(8, 4)], 2, 3, 5)
assert got != 24, "the head is trained too"
assert got != 39, "the head's bias is missing"
assert got != 50, "the frozen weights are not trained"
assert got == 42, "2 · (8 + 4) of LoRA and (5 + 1) · 3 of the head"
assert count_trained([(8, 4), (8, 4)], 2, 3, 5) == 66, (
    "every adapted layer has its own two"
)
### BEGIN HIDDEN TESTS
random = np.random.default_rng(GRADING_SEED)
shapes = [tuple(map(int, random.integers(2, 40, size=2))) for _ in range(5)]
layers = [np.zeros((3, into)).size + np.zeros((out, 3)).size for out, into in shapes]
head = torch.nn.Linear(17, 4)
wanted = sum(layers) + sum(p.numel() for p in head.parameters())
assert count_trained(shapes, 3, 4, 17) == wanted, "wrong for other layers"
### END HIDDEN TESTS

# %% [markdown]
# ## 4 · Save the head with its adapter
#
# **3 points · medium · 10 minutes.** After training, a state dict holds frozen weights, LoRA's
# and the head's. Whoever saves LoRA alone loads a model whose head is random.
# `choose_saved(state, heads)` returns the dict of what must be saved: every entry whose name
# has a part (between dots) that begins with `lora_`, or a part that equals one of `heads`.
#
# <details><summary>Hint 1</summary><code>name.split(".")</code></details>
# <details><summary>Hint 2</summary>"classifier" is not "old_classifier": compare whole
# parts.</details>
# <details><summary>Hint 3</summary><code>any(… for part in …)</code></details>


# %% nbgrader={"grade": false, "grade_id": "choose_saved", "locked": false, "schema_version": 3, "solution": true, "task": false}
def choose_saved(
    state: dict[str, torch.Tensor], heads: list[str]
) -> dict[str, torch.Tensor]:
    """What must be saved of a trained state dict."""
    ### BEGIN SOLUTION
    return {
        name: tensor
        for name, tensor in state.items()
        if any(part.startswith("lora_") or part in heads for part in name.split("."))
    }
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_choose_saved", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Check: choose_saved
names = ["layer.0.q.weight", "layer.0.q.lora_A.default.weight", "old_classifier.weight"]
state = {n: torch.ones(1) for n in [*names, "classifier.weight", "classifier.bias"]}
saved = choose_saved(state, ["classifier"])
assert names[1] in saved, "LoRA's own matrices must be saved"
assert "classifier.weight" in saved, (
    "the head is lost: it would be random after loading"
)
assert "classifier.bias" in saved, "the head's bias is lost"
assert names[0] not in saved, (
    "frozen weights need not be saved: the base model has them"
)
assert names[2] not in saved, "old_classifier is not classifier: compare whole parts"
### BEGIN HIDDEN TESTS
number = int(np.random.default_rng(GRADING_SEED).integers(2, 9))
state = {f"a.{n}.lora_B.x.weight": torch.full((2,), float(n)) for n in range(number)}
frozen = {"a.0.v.weight": torch.zeros(2), "my_lora.weight": torch.zeros(2)}
frozen["score_old.weight"] = frozen["x.my_lora_gate.weight"] = torch.zeros(2)
head = {"m.score.weight": torch.ones(3), "m.pooler.bias": torch.ones(3)}
saved = choose_saved({**state, **frozen, **head}, ["score", "pooler"])
assert set(saved) == set(state) | set(head), "wrong for other names"
trained = {**state, **head}
assert all(torch.equal(saved[name], trained[name]) for name in trained), (
    "tensors changed"
)
### END HIDDEN TESTS

# %% [markdown]
# ## 5 · An interval
#
# **3 points · medium · 15 minutes.** `bootstrap(correct, draws)` returns `(low, high)`, the
# 95 % interval of accuracy. `correct` (questions) is 0 or 1; `draws` (resamples, questions)
# has the numbers of the questions in each resample, drawn with replacement. Take the accuracy
# of every resample, and their 2.5th and 97.5th percentile (as `np.percentile` computes it).
#
# <details><summary>Hint 1</summary><code>correct[draws]</code></details>
# <details><summary>Hint 2</summary>The mean is over the questions of a resample.</details>
# <details><summary>Hint 3</summary><code>np.percentile(…, [2.5, 97.5])</code></details>


# %% nbgrader={"grade": false, "grade_id": "bootstrap", "locked": false, "schema_version": 3, "solution": true, "task": false}
def bootstrap(correct: np.ndarray, draws: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of accuracy."""
    ### BEGIN SOLUTION
    low, high = np.percentile(np.asarray(correct)[draws].mean(1), [2.5, 97.5])
    return float(low), float(high)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_bootstrap", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Check: bootstrap
correct = np.array([1] * 20 + [0] * 20)
draws = np.array(
    [[0] * n + [39] * (40 - n) for n in range(41)]
)  # accuracy 0/40 to 40/40
low, high = bootstrap(correct, draws)
assert low < 0.5 < high, "the interval holds the accuracy that was measured"
assert abs(low - 1.975 / 41) > 1e-6, (
    "the mean is over the questions of a resample, not over resamples"
)
assert abs(low - 0.05) > 1e-6, "95 % leave 2.5 on each side, not 5"
assert low >= 0, "percentiles, not 1.96 errors"
assert same((low, high), (0.025, 0.975)), "the percentiles differ"
### BEGIN HIDDEN TESTS
random = np.random.default_rng(GRADING_SEED)
correct, draws = random.integers(0, 2, size=60), random.integers(0, 60, size=(500, 60))
means = [np.mean([correct[n] for n in row]) for row in draws]
wanted = np.quantile(means, [0.025, 0.975])
assert same(bootstrap(correct, draws), wanted), "wrong for other answers"
### END HIDDEN TESTS

# %% [markdown]
# ## 6 · A paired test
#
# **4 points · hard · 15 minutes.** Two models answered the same questions. Where both are
# right, or both wrong, nothing tells them apart. If they were equally good, each of the other
# questions would be a toss of a coin. `mcnemar(a, b)` returns the exact two-sided p-value:
# twice the probability that so few, or fewer, of those questions fall to the model with fewer,
# at most 1. `a` and `b` are arrays of 0 and 1. Without such questions p is 1.
#
# <details><summary>Hint 1</summary>Count the questions that only <code>a</code>, and only <code>b</code>, got
# right.</details>
# <details><summary>Hint 2</summary>k of n tosses: <code>comb(n, k) / 2**n</code>.</details>
# <details><summary>Hint 3</summary>Add up for 0 to k, k included.</details>


# %% nbgrader={"grade": false, "grade_id": "mcnemar", "locked": false, "schema_version": 3, "solution": true, "task": false}
def mcnemar(a: np.ndarray, b: np.ndarray) -> float:
    """The exact two-sided p-value of a paired comparison."""
    ### BEGIN SOLUTION
    a, b = np.asarray(a) == 1, np.asarray(b) == 1
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    n, k = only_a + only_b, min(only_a, only_b)
    return min(1.0, 2 * sum(comb(n, j) for j in range(k + 1)) / 2**n)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_mcnemar", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Check: mcnemar
a = np.array([1] * 8 + [1] * 50 + [0] * 2)
b = np.array([0] * 8 + [1] * 50 + [1] * 2)
p = mcnemar(a, b)
assert p > 0.001, "questions that both got right say nothing: leave them out"
assert abs(p - 56 / 1024) > 1e-9, "two-sided: twice the probability of one side"
assert abs(p - 90 / 1024) > 1e-9, "so few *or fewer*: add up from 0 to k"
assert abs(p - 22 / 1024) > 1e-9, "k itself is included: does your sum end too early?"
assert abs(p - 112 / 1024) < 1e-9, "2 · (1 + 10 + 45) / 2 ** 10"
assert abs(mcnemar(b, a) - p) < 1e-9, "the p-value is the same for b and a"
assert mcnemar(a, a) == 1, "without questions that differ p is 1"
assert mcnemar(np.array([1, 0]), np.array([0, 1])) == 1, "a probability is at most 1"
### BEGIN HIDDEN TESTS
random = np.random.default_rng(GRADING_SEED)
for _ in range(3):
    a, b = random.integers(0, 2, size=(2, 40))
    differ = a != b
    n, k = int(differ.sum()), int(min((a > b).sum(), (b > a).sum()))
    row = np.ones(1)
    for _ in range(n):
        row = (np.append(row, 0) + np.append(0, row)) / 2
    assert abs(mcnemar(a, b) - min(1, 2 * row[: k + 1].sum())) < 1e-9, (
        "wrong for others"
    )
### END HIDDEN TESTS
