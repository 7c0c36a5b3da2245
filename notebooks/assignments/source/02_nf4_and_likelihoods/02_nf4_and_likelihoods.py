# %% [markdown]
# # Assignment 02 · Four bits, loss masks, and picks by likelihood
#
# Lesson 02 trained a 4-bit model on medical terms. Here you build its parts: NF4, the labels
# that a loss is taken of, and the exam. Write your code where it says so, run the check under
# it, and hand in the whole notebook. The checks you see are not all: the same cells are graded
# with other inputs. Keep the names of the functions; add as many cells as you like.
#
# 19 points, about 60 minutes, numpy only. An exercise gives all of its points
# or none, whatever happens to the others. In grading, a cell has 10 seconds and a call of
# your function 5, without a network. All cells run before anything is graded: do not give
# a function's name to something else later.

# %% nbgrader={"grade": false, "grade_id": "setup", "locked": true, "schema_version": 3, "solution": false, "task": false}
import os

import numpy as np

GRADING_SEED = int(os.environ.get("GRADING_SEED", "0"))  # grading uses another
LEVELS = np.array(  # NF4's 16 values, as published with QLoRA (Dettmers et al. 2023)
    [-1, -0.6961928, -0.52507305, -0.39491749, -0.28444138, -0.18477343, -0.09105004, 0]
    + [0.0795803, 0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1]
)


def same(got, wanted) -> bool:
    """Whether shapes are equal, and numbers but for rounding."""
    got, wanted = np.asarray(got), np.asarray(wanted)
    return got.shape == wanted.shape and bool(np.allclose(got, wanted, atol=1e-5))


# %% [markdown]
# ## 1 · One block
#
# **3 points · easy · 10 minutes.** NF4 stores a block of weights as one scale, the largest
# absolute value, and for every weight the number of the nearest level (0 to 15) after dividing
# by the scale. `quantize_block(weights)` returns `(codes, scale)`: an array of integers like
# `weights`, and a float. A block of zeros has scale 0 and only codes of level 0.0 (code 7).
#
# <details><summary>Hint 1</summary>Divide first, then look for the nearest level.</details>
# <details><summary>Hint 2</summary><code>np.abs(weights[:, None] - LEVELS)</code> has all distances to
# all levels.</details>
# <details><summary>Hint 3</summary>The largest <em>absolute</em> value: -3 is larger than 2.</details>


# %% nbgrader={"grade": false, "grade_id": "quantize_block", "locked": false, "schema_version": 3, "solution": true, "task": false}
def quantize_block(weights: np.ndarray) -> tuple[np.ndarray, float]:
    """Codes (weights) from 0 to 15, and the scale."""
    ### BEGIN SOLUTION
    scale = float(np.abs(weights).max())
    scaled = weights / scale if scale > 0 else weights
    return np.abs(scaled[:, None] - LEVELS).argmin(1), scale
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_quantize_block", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Check: quantize_block
codes, scale = quantize_block(np.array([2.0, -4.0, 0.0, 0.1]))
assert scale != 2.0, "the scale is the largest absolute value: -4 is larger than 2"
assert scale == 4.0, "the scale is the largest absolute value of the block"
assert codes[1] == 0 and codes[2] == 7, "codes are numbers of levels: -1 is 0, 0.0 is 7"
assert codes[0] == 12, (
    "2 of 4 is nearest to 0.4407, level 12: did you take the nearest?"
)
codes, scale = quantize_block(np.zeros(3))
assert (codes.tolist(), scale) == ([7, 7, 7], 0), (
    "a block of zeros: did you divide by 0?"
)
### BEGIN HIDDEN TESTS
random = np.random.default_rng(GRADING_SEED)
for size in (1, 64):
    weights = random.normal(size=size) * 0.02
    codes, scale = quantize_block(weights)
    edges = (LEVELS[1:] + LEVELS[:-1]) / 2
    assert abs(scale - abs(weights).max()) < 1e-6, "wrong scale for another block"
    wanted = np.searchsorted(edges, weights / abs(weights).max())
    assert same(codes, wanted), "wrong codes"
### END HIDDEN TESTS

# %% [markdown]
# ## 2 · And back
#
# **2 points · easy · 5 minutes.** `dequantize_block(codes, scale)` returns the weights that
# codes and a scale stand for.
#
# <details><summary>Hint 1</summary><code>LEVELS[codes]</code></details>
# <details><summary>Hint 2</summary>You divided by the scale before.</details>
# <details><summary>Hint 3</summary>No loop is needed.</details>


# %% nbgrader={"grade": false, "grade_id": "dequantize_block", "locked": false, "schema_version": 3, "solution": true, "task": false}
def dequantize_block(codes: np.ndarray, scale: float) -> np.ndarray:
    """The weights of a block (codes)."""
    ### BEGIN SOLUTION
    return LEVELS[codes] * scale
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_dequantize_block", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Check: dequantize_block
back = dequantize_block(np.array([0, 7, 15]), 4.0)
assert np.abs(back).max() != 1, "the scale is missing"
assert np.abs(back).max() != 0.25, "divided before, so what undoes it?"
assert same(back, [-4, 0, 4]), "level 0 is the smallest, 7 zero, 15 the largest"
### BEGIN HIDDEN TESTS
random = np.random.default_rng(GRADING_SEED)
codes, scale = random.integers(0, 16, size=64), float(random.uniform(0.01, 3))
wanted = np.take(LEVELS, codes) * scale
assert same(dequantize_block(codes, scale), wanted), "wrong for another block"
### END HIDDEN TESTS

# %% [markdown]
# ## 3 · Pick by likelihood
#
# **4 points · easy · 10 minutes.** In an exam every choice is scored as if it were the
# answer: `logprobs` is a list, for every choice, of the log-probabilities of its tokens, as an
# array. Choices differ in length. `pick(logprobs)` returns the number of the choice with the
# highest *mean* log-probability; of several, the first.
#
# <details><summary>Hint 1</summary>A sum gets smaller with every token.</details>
# <details><summary>Hint 2</summary>Log-probabilities are negative: highest is nearest to
# 0.</details>
# <details><summary>Hint 3</summary><code>np.argmax</code> takes the first of equals.</details>


# %% nbgrader={"grade": false, "grade_id": "pick", "locked": false, "schema_version": 3, "solution": true, "task": false}
def pick(logprobs: list[np.ndarray]) -> int:
    """The number of the likeliest choice, by mean a token."""
    ### BEGIN SOLUTION
    return int(np.argmax([tokens.mean() for tokens in logprobs]))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_pick", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Check: pick
short, long = np.array([-1.5]), np.array([-0.5, -0.5, -0.6, -0.7])
assert pick([np.array([-3.0]), np.array([-0.1])]) == 1, "the highest is nearest to 0"
assert pick([short, long]) == 1, "a sum favours short choices: take the mean a token"
early, late = np.array([-0.1, -3.0]), np.array([-0.9, -1.1])
assert pick([early, late]) == 1, "all tokens count, not the first alone"
assert pick([late, late.copy()]) == 0, "of equals, the first"
### BEGIN HIDDEN TESTS
random = np.random.default_rng(GRADING_SEED)
for _ in range(5):
    rows = [-random.exponential(size=int(random.integers(1, 9))) for _ in range(4)]
    means = [float(np.sum(row)) / len(row) for row in rows]
    assert pick(rows) == means.index(max(means)), "wrong for other choices"
### END HIDDEN TESTS

# %% [markdown]
# ## 4 · Bits a weight
#
# **3 points · medium · 10 minutes.** A scale of 32 bits for every block costs bits too. With
# *double quantisation* scales are stored in 8 bits, and every 256 scales share one more
# scale of 32 bits. `bits_per_weight(block, double)` returns the bits a weight takes.
#
# <details><summary>Hint 1</summary>Without double quantisation: 4 bits, and a share of the
# scale's 32.</details>
# <details><summary>Hint 2</summary>A block of 64 weights shares one scale.</details>
# <details><summary>Hint 3</summary>The second scale is shared by 256 blocks.</details>


# %% nbgrader={"grade": false, "grade_id": "bits_per_weight", "locked": false, "schema_version": 3, "solution": true, "task": false}
def bits_per_weight(block: int, double: bool) -> float:
    """Bits that one weight takes, scales included."""
    ### BEGIN SOLUTION
    if double:
        return 4 + 8 / block + 32 / (256 * block)
    return 4 + 32 / block
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_bits_per_weight", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Check: bits_per_weight
assert bits_per_weight(64, False) != 4, "scales are stored too"
assert bits_per_weight(64, False) != 36, "a scale is shared by the weights of its block"
assert bits_per_weight(64, False) == 4.5, "32 bits for 64 weights are half a bit each"
assert bits_per_weight(64, True) < 4.5, "double quantisation saves bits"
assert bits_per_weight(64, True) != 4.125, "the scales' own scale is stored too"
assert abs(bits_per_weight(64, True) - 4.126953125) < 1e-9, (
    "who shares the second scale?"
)
### BEGIN HIDDEN TESTS
for block in (32, 128, int(np.random.default_rng(GRADING_SEED).integers(200, 900))):
    weights = 256 * block
    single, double = 4 * weights + 256 * 32, 4 * weights + 256 * 8 + 32
    for bits, is_double in ((single, False), (double, True)):
        assert abs(bits_per_weight(block, is_double) - bits / weights) < 1e-9, (
            "wrong for another block size"
        )
### END HIDDEN TESTS

# %% [markdown]
# ## 5 · What the loss is taken of
#
# **4 points · medium · 15 minutes.** A training row is a prompt and an answer, one after the
# other. The model shall learn to answer, not to ask: labels are -100 where no loss is taken.
# `build_row(prompt, answer, limit)` returns `(ids, labels)`, two lists of equal length. If
# the row is longer than `limit`, the *prompt* is cut, at its start, so that the answer stays
# whole; an answer that alone is longer than `limit` is a ValueError. `answer` ends with its
# end-of-text token already: add none.
#
# <details><summary>Hint 1</summary>Labels are not shifted: the model does that
# itself.</details>
# <details><summary>Hint 2</summary>How many tokens of the prompt may stay?</details>
# <details><summary>Hint 3</summary><code>prompt[-0:]</code> is the whole prompt, not none of
# it.</details>


# %% nbgrader={"grade": false, "grade_id": "build_row", "locked": false, "schema_version": 3, "solution": true, "task": false}
def build_row(
    prompt: list[int], answer: list[int], limit: int
) -> tuple[list[int], list[int]]:
    """Token ids and labels of a training row."""
    ### BEGIN SOLUTION
    if len(answer) > limit:
        raise ValueError(f"an answer of {len(answer)} tokens does not fit into {limit}")
    kept = prompt[max(0, len(prompt) + len(answer) - limit) :]
    return kept + answer, [-100] * len(kept) + answer
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_build_row", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Check: build_row
ids, labels = build_row([5, 6, 7], [8, 9], 10)
assert len(ids) == len(labels), "a label for every token"
assert ids == [5, 6, 7, 8, 9], "the row is the prompt, then the answer"
assert labels != ids, "the model would learn to ask as well: mask the prompt with -100"
assert labels != [-100, -100, 8, 9, -100], "do not shift: the model does that itself"
assert labels == [-100, -100, -100, 8, 9], "labels are -100 in the prompt, else the ids"
ids, labels = build_row([5, 6, 7], [8, 9], 4)
assert 9 in ids, "the answer was cut: cut the prompt instead"
assert ids == [6, 7, 8, 9], (
    "cut the prompt at its start: its end is nearest to the answer"
)
assert labels == [-100, -100, 8, 9], "labels are cut with their tokens"
assert tuple(build_row([5, 6], [8, 9], 2)) == ([8, 9], [8, 9]), (
    "no room for a prompt: [-0:] is all"
)
try:
    build_row([5], [8, 9], 1)
except ValueError:
    pass
else:
    raise AssertionError("an answer that does not fit needs a ValueError")
### BEGIN HIDDEN TESTS
random = np.random.default_rng(GRADING_SEED)
for limit in (8, 9, 12, 30):
    asked, said = (
        random.integers(1, 99, size=9).tolist(),
        random.integers(1, 99, 8).tolist(),
    )
    ids, labels = build_row(asked, said, limit)
    assert len(ids) == len(labels) == min(limit, 17), "wrong length for another limit"
    assert ids == (asked + said)[-limit:], "wrong tokens for another limit"
    assert labels[-8:] == said and set(labels[:-8]) <= {-100}, "wrong labels"
### END HIDDEN TESTS

# %% [markdown]
# ## 6 · Better than guessing?
#
# **3 points · medium · 10 minutes.** `chance_interval(questions, choices)` returns `(low,
# high)`: the range of shares of right answers that a guesser stays in with about 95 %, by the
# normal approximation: chance plus or minus 1.96 standard errors, within 0 and 1.
#
# <details><summary>Hint 1</summary>Chance is one divided by the choices.</details>
# <details><summary>Hint 2</summary>The standard error of a share p of n is
# √(p (1 − p) / n).</details>
# <details><summary>Hint 3</summary><code>max</code> and <code>min</code> keep it within 0 and 1.</details>


# %% nbgrader={"grade": false, "grade_id": "chance_interval", "locked": false, "schema_version": 3, "solution": true, "task": false}
def chance_interval(questions: int, choices: int) -> tuple[float, float]:
    """Where a guesser's share of right answers lies, 95 %."""
    ### BEGIN SOLUTION
    chance = 1 / choices
    half = 1.96 * (chance * (1 - chance) / questions) ** 0.5
    return max(0.0, chance - half), min(1.0, chance + half)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_chance_interval", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Check: chance_interval
low, high = chance_interval(100, 4)
assert high - low < 1, "a share's error falls with questions: did you divide by them?"
assert abs((low + high) / 2 - 0.25) < 1e-6, (
    "a guesser among four is right in one of four"
)
assert high - low > 0.01, "a standard error is a square root: is yours missing?"
assert abs(high - low - 0.16974) < 1e-4, "95 % are 1.96 standard errors to each side"
assert chance_interval(2, 4)[0] >= 0, "a share is never below 0"
assert chance_interval(1, 2)[1] <= 1, "a share is never above 1"
assert same(chance_interval(2, 4), (0, 0.850125)), (
    "what is cut at 0 leaves the other end"
)
### BEGIN HIDDEN TESTS
for questions in (20, int(np.random.default_rng(GRADING_SEED).integers(50, 500))):
    p = 1 / 5
    error = np.sqrt(p * (1 - p) / questions) * 1.96
    wanted = (p - error, p + error)
    assert same(chance_interval(questions, 5), wanted), "wrong for other numbers"
### END HIDDEN TESTS
