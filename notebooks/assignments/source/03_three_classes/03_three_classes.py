# %% [markdown]
# # Assignment 03 · Three classes, judged and mended
#
# Lesson 03 made a decoder tell negative, neutral and positive apart. Here you score labels,
# take a prompt's lean out, compute what judges three classes, and find the model whose labels
# are rotated. Write your code where it says so, run the check under it, and hand in the whole
# notebook. The checks you see are not all: the same cells are graded with other inputs. Keep
# the names of the functions; add as many cells as you like.
#
# 19 points, about 65 minutes, numpy only. An exercise gives all of its points
# or none, whatever happens to the others. In grading, a cell has 10 seconds and a call of
# your function 5, without a network. All cells run before anything is graded: do not give
# a function's name to something else later.

# %% nbgrader={"grade": false, "grade_id": "setup", "locked": true, "schema_version": 3, "solution": false, "task": false}
import os

import numpy as np

GRADING_SEED = int(os.environ.get("GRADING_SEED", "0"))  # grading uses another


def same(got, wanted) -> bool:
    """Whether shapes are equal, and numbers but for rounding."""
    got, wanted = np.asarray(got), np.asarray(wanted)
    return got.shape == wanted.shape and bool(np.allclose(got, wanted, atol=1e-5))


# %% [markdown]
# ## 1 · Scores of labels
#
# **3 points · easy · 10 minutes.** `logits` (texts, vocabulary) are a decoder's logits for
# the token after each text, `labels` the token of every label. `score_labels(logits, labels)`
# returns log-probabilities (texts, labels) over the *whole* vocabulary. Logits can be large:
# do not overflow.
#
# <details><summary>Hint 1</summary>log-softmax: a logit minus the log of the sum of all
# exponentials.</details>
# <details><summary>Hint 2</summary>Take the largest logit of a row away first.</details>
# <details><summary>Hint 3</summary>Pick the labels' columns last.</details>


# %% nbgrader={"grade": false, "grade_id": "score_labels", "locked": false, "schema_version": 3, "solution": true, "task": false}
def score_labels(logits: np.ndarray, labels: list[int]) -> np.ndarray:
    """Log-probabilities of the labels' tokens (texts, labels)."""
    ### BEGIN SOLUTION
    safe = logits - logits.max(1, keepdims=True)
    return (safe - np.log(np.exp(safe).sum(1, keepdims=True)))[:, labels]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_score_labels", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Check: score_labels
logits = np.log([[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]])
got = score_labels(logits, [1, 3])
assert got.shape == (2, 2), "a row for every text, a column for every label"
assert not np.allclose(got, logits[:, [1, 3]] - np.log([[0.6], [0.4]])), (
    "over the whole vocabulary: did you normalise over the labels alone?"
)
assert not np.allclose(got, [[0.2, 0.4], [0.3, 0.1]]), "these are not logarithms"
assert same(got, np.log([[0.2, 0.4], [0.3, 0.1]])), "a log-softmax, then the labels"
assert np.allclose(score_labels(logits + 3, [1, 3]), got), (
    "adding 3 to all must change nothing: did you normalise?"
)
large = score_labels(np.array([[1000.0, 995.0], [0.0, 0.0]]), [0, 1])
assert np.isfinite(large).all(), (
    "exp(1000) overflows: take the row's largest away first"
)
wanted = [[-0.00671535, -5.00671535], [-0.69314718, -0.69314718]]
assert same(large, wanted), "large logits are to keep their differences"
### BEGIN HIDDEN TESTS
random = np.random.default_rng(GRADING_SEED)
logits = random.normal(size=(6, 9)) * 4
wanted = logits - np.log(np.exp(logits).sum(1))[:, None]
wanted = wanted[:, [7, 0, 3]]
assert same(score_labels(logits, [7, 0, 3]), wanted), "wrong for other logits"
### END HIDDEN TESTS

# %% [markdown]
# ## 2 · The confusion matrix
#
# **3 points · easy · 10 minutes.** `confusion(truth, picked, classes)` returns integers
# (classes, classes): at `[row, column]` how many texts of class `row` were called `column`.
#
# <details><summary>Hint 1</summary>Rows are the truth.</details>
# <details><summary>Hint 2</summary>A class may never be picked, and still has its
# column.</details>
# <details><summary>Hint 3</summary><code>np.add.at</code> adds where places repeat; <code>+=</code> does
# not.</details>


# %% nbgrader={"grade": false, "grade_id": "confusion", "locked": false, "schema_version": 3, "solution": true, "task": false}
def confusion(truth: np.ndarray, picked: np.ndarray, classes: int) -> np.ndarray:
    """How often each class was called what (classes, classes)."""
    ### BEGIN SOLUTION
    table = np.zeros((classes, classes), dtype=int)
    np.add.at(table, (np.asarray(truth), np.asarray(picked)), 1)
    return table
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_confusion", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Check: confusion
truth, picked = np.array([0, 0, 0, 1, 2]), np.array([0, 1, 1, 1, 0])
got = confusion(truth, picked, 3)
assert got.shape == (3, 3), "a class that is never picked has its row and column too"
assert got.sum() == 5, "some texts are not counted: does += count repeated places?"
assert got[0, 1] == 2, (
    "rows are the truth, columns what was picked: is yours transposed?"
)
assert got.tolist() == [[1, 2, 0], [0, 1, 0], [1, 0, 0]], "a text is in the wrong place"
### BEGIN HIDDEN TESTS
random = np.random.default_rng(GRADING_SEED)
truth, picked = random.integers(0, 4, size=(2, 60))
for row in range(5):
    for column in range(5):
        count = int(((truth == row) & (picked == column)).sum())
        assert confusion(truth, picked, 5)[row, column] == count, (
            "wrong for other texts"
        )
### END HIDDEN TESTS

# %% [markdown]
# ## 3 · Take the lean out
#
# **3 points · medium · 10 minutes.** A prompt leans to one label whatever the text says. Ask
# it about texts without content: what it then says is the lean. `remove_lean(scores, empty)`
# takes log-probabilities of texts (texts, labels) and of texts without content (some, labels),
# subtracts the *logarithm of the mean probability* of every label in `empty`, and returns the
# number of the highest corrected score a text (texts).
#
# <details><summary>Hint 1</summary>Probabilities first, then their mean, then the
# logarithm.</details>
# <details><summary>Hint 2</summary>The mean is over texts, one number a label.</details>
# <details><summary>Hint 3</summary>Subtracting logarithms divides probabilities.</details>


# %% nbgrader={"grade": false, "grade_id": "remove_lean", "locked": false, "schema_version": 3, "solution": true, "task": false}
def remove_lean(scores: np.ndarray, empty: np.ndarray) -> np.ndarray:
    """The picked label of every text (texts), without the prompt's lean."""
    ### BEGIN SOLUTION
    return (scores - np.log(np.exp(empty).mean(0))).argmax(1)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_remove_lean", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Check: remove_lean
scores = np.log([[0.6, 0.3, 0.1], [0.7, 0.1, 0.2]])
empty = np.log([[0.7, 0.2, 0.1]])
got = remove_lean(scores, empty)
assert got.shape == (2,), "one label a text"
assert got.tolist() != [0, 0], (
    "nothing was taken out: the prompt says label 0 by itself"
)
assert got.tolist() == [1, 2], "what the texts without content say is subtracted"
two = np.log([[0.98, 0.01, 0.01], [0.3, 0.35, 0.35]])
close = np.log([[0.8, 0.15, 0.05]])
assert remove_lean(close, two).tolist() == [0], (
    "a mean of logarithms is no logarithm of a mean: average probabilities"
)
### BEGIN HIDDEN TESTS
random = np.random.default_rng(GRADING_SEED)
scores, empty = (np.log(random.dirichlet([1, 1, 1], size=n)) for n in (30, 4))
wanted = (np.exp(scores) / np.exp(empty).mean(axis=0)).argmax(axis=1)
assert same(remove_lean(scores, empty), wanted), "wrong for other scores"
### END HIDDEN TESTS

# %% [markdown]
# ## 4 · Macro F1
#
# **4 points · medium · 15 minutes.** `macro_f1(table)` returns the mean over classes of F1,
# from a confusion matrix as above. A class that was never picked and never right has F1 0, as
# usual.
#
# <details><summary>Hint 1</summary>Precision divides by a column's sum, recall by a
# row's.</details>
# <details><summary>Hint 2</summary>F1 = 2 · right / (row's sum + column's sum).</details>
# <details><summary>Hint 3</summary>A class that occurs neither in truth nor in picks divides
# 0 by 0.</details>


# %% nbgrader={"grade": false, "grade_id": "macro_f1", "locked": false, "schema_version": 3, "solution": true, "task": false}
def macro_f1(table: np.ndarray) -> float:
    """The mean of the classes' F1."""
    ### BEGIN SOLUTION
    both = table.sum(0) + table.sum(1)
    return float(np.mean(2 * np.diag(table) / np.maximum(both, 1)))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_macro_f1", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Check: macro_f1
table = np.array([[8, 2, 0], [1, 1, 0], [4, 4, 0]])
f1 = [16 / 23, 2 / 9, 0]
got = macro_f1(table)
assert np.isfinite(got), "a class that was never picked has F1 0: did you divide by 0?"
assert abs(got - 9 / 20) > 1e-6, "that is accuracy (or micro F1): average over classes"
assert abs(got - np.mean([0.8, 0.5, 0])) > 1e-6, "that is recall alone"
assert abs(got - np.mean([8 / 13, 1 / 7, 0])) > 1e-6, "that is precision alone"
assert abs(got - np.average(f1, weights=[10, 2, 8])) > 1e-6, (
    "every class counts the same"
)
assert abs(got - np.mean(f1[:2])) > 1e-6, "the class that was never right counts, as 0"
assert abs(got - np.mean(f1)) < 1e-6, "F1 is 2 · right / (row's sum + column's sum)"
### BEGIN HIDDEN TESTS
table = np.random.default_rng(GRADING_SEED).integers(1, 30, size=(4, 4))
precision, recall = np.diag(table) / table.sum(0), np.diag(table) / table.sum(1)
wanted = np.mean(2 * precision * recall / (precision + recall))
assert abs(macro_f1(table) - wanted) < 1e-6, "wrong for another matrix"
absent = macro_f1(np.array([[3, 0, 0], [0, 3, 0], [0, 0, 0]]))
assert abs(absent - 2 / 3) < 1e-6, "a class that occurs nowhere has F1 0"
### END HIDDEN TESTS

# %% [markdown]
# ## 5 · Weights for rare classes
#
# **3 points · medium · 10 minutes.** `class_weights(labels, classes)` returns a weight for
# every class (classes), so that the weights of all rows together are the same for every class
# that occurs, and their mean over *rows* is 1. A class that does not occur gets 0.
#
# <details><summary>Hint 1</summary>A class with half as many rows needs twice the
# weight.</details>
# <details><summary>Hint 2</summary><code>np.bincount(labels, minlength=classes)</code></details>
# <details><summary>Hint 3</summary>rows / (classes that occur · count)</details>


# %% nbgrader={"grade": false, "grade_id": "class_weights", "locked": false, "schema_version": 3, "solution": true, "task": false}
def class_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    """A weight for every class (classes)."""
    ### BEGIN SOLUTION
    counts = np.bincount(labels, minlength=classes)
    weights = len(labels) / ((counts > 0).sum() * np.maximum(counts, 1))
    return np.where(counts > 0, weights, 0.0)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_class_weights", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Check: class_weights
labels = np.array([0, 0, 0, 0, 0, 0, 1, 1, 2])
got = class_weights(labels, 3)
assert got.shape == (3,), "one weight a class"
assert got[2] > got[0], "rare classes weigh more"
assert np.allclose(got[0] * 6, got[2] * 1), (
    "all rows of a class weigh the same together"
)
assert abs(got[labels].mean() - 1) < 1e-9, "over rows the weights have mean 1"
got = class_weights(np.array([0, 2]), 3)
assert np.isfinite(got).all() and got[1] == 0, "a class without rows gets 0"
assert got[0] == 1, "count the classes that occur, not all"
### BEGIN HIDDEN TESTS
labels = np.random.default_rng(GRADING_SEED).choice(
    [0, 1, 3], size=80, p=[0.6, 0.3, 0.1]
)
got = class_weights(labels, 5)
assert np.shape(got) == (5,), "one weight a class"
shares = [float(got[labels[labels == c]].sum()) for c in np.unique(labels)]
assert np.allclose(shares, 80 / len(shares)), "wrong for other labels"
assert got[2] == got[4] == 0, "a class without rows gets 0"
### END HIDDEN TESTS

# %% [markdown]
# ## 6 · The rotated model
#
# **3 points · hard · 10 minutes.** Somebody stored labels in another order: all that is class
# 0 is called 1, 1 is called 2, and 2 is called 0 (or the other way round). Such a model has an
# accuracy near 0 and knows everything. `find_rotation(table)` returns how far its picks are
# rotated, from 0 to classes − 1: the shift `s` for which, over all classes together, most
# texts of a class `c` were called `(c + s) % classes`; of several, the smallest.
#
# <details><summary>Hint 1</summary>For shift 0, the right ones are on the
# diagonal.</details>
# <details><summary>Hint 2</summary><code>np.roll</code> the columns back by every shift.</details>
# <details><summary>Hint 3</summary><code>np.trace</code> adds a diagonal.</details>


# %% nbgrader={"grade": false, "grade_id": "find_rotation", "locked": false, "schema_version": 3, "solution": true, "task": false}
def find_rotation(table: np.ndarray) -> int:
    """How far the picked labels are rotated."""
    ### BEGIN SOLUTION
    agreed = [np.trace(np.roll(table, -shift, axis=1)) for shift in range(len(table))]
    return int(np.argmax(agreed))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_find_rotation", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Check: find_rotation
assert find_rotation(np.diag([5, 6, 7])) == 0, (
    "a model with the right labels has shift 0"
)
turned = np.array([[1, 8, 1], [0, 1, 9], [7, 2, 1]])  # 0 is called 1, 1 is called 2
assert find_rotation(turned) != 2, "the other way: class 0 is called 1 here"
assert find_rotation(turned) == 1, "class 0 is called 1, 1 is called 2, 2 is called 0"
uneven = np.array([[30, 0, 9], [9, 2, 0], [0, 9, 1]])
assert find_rotation(uneven) == 0, "count texts of all classes, not classes that agree"
### BEGIN HIDDEN TESTS
random = np.random.default_rng(GRADING_SEED)
for shift in random.permutation(4):
    truth = random.integers(0, 4, size=200)
    picked = np.where(random.random(200) < 0.8, (truth + shift) % 4, truth)
    table = np.zeros((4, 4), int)
    np.add.at(table, (truth, picked), 1)
    assert find_rotation(table) == shift, "wrong for another model"
### END HIDDEN TESTS
