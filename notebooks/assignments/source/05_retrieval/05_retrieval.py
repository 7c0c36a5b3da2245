# %% [markdown]
# # Assignment 05 · Find it, and compare fairly
#
# Lesson 05 compared reading with training. Here you build search by meaning and by words, fuse
# both, measure hit@k, build quartets, and find the flaw in a comparison. Write your code where
# it says so, run the check under it, and hand in the whole notebook. The checks you see are not
# all: the same cells are graded with other inputs. Keep the names of the functions; add as
# many cells as you like.
#
# 17 points, about 55 minutes, numpy only. An exercise gives all of its points
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
# ## 1 · Search by meaning
#
# **3 points · easy · 10 minutes.** `search(query, vectors, k)` returns the numbers of the `k`
# vectors with the largest cosine to `query`, the largest first, as a list. `query` has (width)
# numbers, `vectors` (passages, width); their lengths are not 1.
#
# <details><summary>Hint 1</summary>A cosine is a product of two vectors, divided by both
# lengths.</details>
# <details><summary>Hint 2</summary><code>np.linalg.norm(vectors, axis=1)</code></details>
# <details><summary>Hint 3</summary><code>np.argsort</code> begins with the smallest.</details>


# %% nbgrader={"grade": false, "grade_id": "search", "locked": false, "schema_version": 3, "solution": true, "task": false}
def search(query: np.ndarray, vectors: np.ndarray, k: int) -> list[int]:
    """The numbers of the k nearest vectors, nearest first."""
    ### BEGIN SOLUTION
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(query)
    return np.argsort(-(vectors @ query) / lengths, kind="stable")[:k].tolist()
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_search", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Check: search
vectors = np.array([[3.0, 4.0], [1.0, 0.1], [-5.0, 0.0], [0.0, 1.0]])
got = search(np.array([2.0, 0.0]), vectors, 2)
assert len(got) == 2, "return k numbers"
assert got[0] != 2, "the largest cosine first: is your order turned round?"
assert got != [0, 1], "long vectors win a mere product: divide by the lengths"
assert got == [1, 0], "the nearest is number 1, then number 0"
### BEGIN HIDDEN TESTS
random = np.random.default_rng(GRADING_SEED)
vectors, query = (
    random.normal(size=(40, 8)) * random.uniform(1, 9, (40, 1)),
    random.normal(size=8),
)
units = vectors / np.sqrt((vectors**2).sum(axis=1, keepdims=True))
order = sorted(range(40), key=lambda n: -float(units[n] @ query))
for k in (1, 7):
    assert search(query, vectors, k) == order[:k], "wrong for other vectors"
### END HIDDEN TESTS

# %% [markdown]
# ## 2 · hit@k
#
# **2 points · easy · 5 minutes.** `hit_at(found, right, k)` returns the share of questions for
# which at least one of the right passages is among the first `k` found. `found` is a list of
# lists of numbers, `right` a list of sets of numbers.
#
# <details><summary>Hint 1</summary>Only the first k count.</details>
# <details><summary>Hint 2</summary>A question counts once, however many are found.</details>
# <details><summary>Hint 3</summary><code>set &amp; set</code> is empty if they have nothing in
# common.</details>


# %% nbgrader={"grade": false, "grade_id": "hit_at", "locked": false, "schema_version": 3, "solution": true, "task": false}
def hit_at(found: list[list[int]], right: list[set[int]], k: int) -> float:
    """The share of questions with a right passage among the first k."""
    ### BEGIN SOLUTION
    hits = [
        bool(set(row[:k]) & wanted) for row, wanted in zip(found, right, strict=True)
    ]
    return sum(hits) / len(hits)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_hit_at", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Check: hit_at
found, right = [[1, 2, 3], [4, 5, 6], [7, 8, 9]], [{2, 3}, {5, 6}, {1}]
assert hit_at(found, right, 3) <= 1, "a question counts once, and a share is of all"
assert hit_at(found, right, 1) == 0, "only the first k count"
assert abs(hit_at(found, right, 2) - 2 / 3) < 1e-9, (
    "one of the right passages is enough"
)
assert abs(hit_at(found, right, 3) - 2 / 3) < 1e-9, (
    "a passage among the first 3 is missed"
)
### BEGIN HIDDEN TESTS
random = np.random.default_rng(GRADING_SEED)
found = [random.permutation(30)[:10].tolist() for _ in range(25)]
right = [set(random.integers(0, 30, size=2).tolist()) for _ in range(25)]
for k in (1, 4, 10):
    firsts = [
        min([row.index(n) for n in want if n in row], default=99)
        for row, want in zip(found, right)
    ]
    assert abs(hit_at(found, right, k) - np.mean(np.array(firsts) < k)) < 1e-9, (
        "wrong for other questions"
    )
### END HIDDEN TESTS

# %% [markdown]
# ## 3 · Quartets
#
# **2 points · easy · 5 minutes.** Four facts offer each other's definitions as choices, so
# that every definition is right once and wrong three times. `quartet(answers)` takes the four
# definitions and returns four questions, one a fact, in order: pairs `(choices, right)` of a
# list of the four definitions and the place of the right one. The right places must be 0, 1,
# 2, 3, each once: a model with a taste for a place gains nothing.
#
# <details><summary>Hint 1</summary>If all four questions have the choices in the same order,
# where are the right ones?</details>
# <details><summary>Hint 2</summary>Then question 0 has its answer at place 0: what of question
# 1?</details>
# <details><summary>Hint 3</summary>Shorter than you think.</details>


# %% nbgrader={"grade": false, "grade_id": "quartet", "locked": false, "schema_version": 3, "solution": true, "task": false}
def quartet(answers: list[str]) -> list[tuple[list[str], int]]:
    """Four questions: choices, and the place of the right one."""
    ### BEGIN SOLUTION
    return [(list(answers), place) for place in range(4)]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_quartet", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Check: quartet
four = ["north", "east", "south", "west"]
made = quartet(four)
assert len(made) == 4, "one question a fact"
assert all(len(set(choices)) == 4 for choices, _ in made), "four different choices each"
assert [choices[right] for choices, right in made] == four, (
    "question n is about fact n: is the right place right?"
)
assert len({right for _, right in made}) > 1, (
    "always the same place: a taste for it would win"
)
assert sorted(right for _, right in made) == [0, 1, 2, 3], "every place is right once"
### BEGIN HIDDEN TESTS
names = [f"answer {n}" for n in np.random.default_rng(GRADING_SEED).permutation(99)[:4]]
made = quartet(names)
assert all(sorted(choices) == sorted(names) for choices, _ in made), "other choices"
assert [choices[right] for choices, right in made] == names, "wrong for other answers"
assert sorted(right for _, right in made) == [0, 1, 2, 3], "every place is right once"
### END HIDDEN TESTS

# %% [markdown]
# ## 4 · Fuse two lists
#
# **3 points · medium · 10 minutes.** Scores of different searches have different units, ranks
# have not. `fuse(lists, constant)` takes lists of numbers, best first, gives each number
# 1 / (constant + rank) from every list it stands in, ranks counted from 1, and returns all
# numbers, best first; of equals, the smaller number first.
#
# <details><summary>Hint 1</summary>A dict from number to its sum.</details>
# <details><summary>Hint 2</summary><code>enumerate(…, start=1)</code></details>
# <details><summary>Hint 3</summary>Sort by <code>(-sum, number)</code>.</details>


# %% nbgrader={"grade": false, "grade_id": "fuse", "locked": false, "schema_version": 3, "solution": true, "task": false}
def fuse(lists: list[list[int]], constant: int = 60) -> list[int]:
    """All numbers, best first by reciprocal rank fusion."""
    ### BEGIN SOLUTION
    sums: dict[int, float] = {}
    for ranked in lists:
        for rank, number in enumerate(ranked, start=1):
            sums[number] = sums.get(number, 0.0) + 1 / (constant + rank)
    return sorted(sums, key=lambda number: (-sums[number], number))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_fuse", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Check: fuse
got = fuse([[3, 7, 1], [5, 7, 2]])
assert sorted(got) == [1, 2, 3, 5, 7], "every number of every list, once"
assert got[-1] != 7, "best first: is your order turned round?"
assert got[0] == 7, "second in both beats first in one: do you add over lists?"
assert got[1:3] == [3, 5], "of equals, the smaller number first"
assert fuse([[1, 3], [4, 3], [5, 3]], 0)[0] == 3, "three times 1/2 is more than 1"
assert fuse([[4, 3], [1, 3]], 0) == [1, 3, 4], "with constant 0, first is 1, second 1/2"
### BEGIN HIDDEN TESTS
random = np.random.default_rng(GRADING_SEED)
for constant in (0, 60):
    lists = [random.permutation(12)[:8].tolist() for _ in range(3)]
    worth = {
        n: round(
            sum(1 / (constant + 1 + row.index(n)) for row in lists if n in row), 12
        )
        for n in range(12)
    }
    got = fuse(lists, constant)
    assert sorted(got) == [n for n in worth if worth[n]], (
        "a number is missing, or too many"
    )
    assert all(worth[x] >= worth[y] for x, y in zip(got, got[1:])), (
        "wrong for other lists"
    )
### END HIDDEN TESTS

# %% [markdown]
# ## 5 · How rare, and how much about it
#
# **4 points · medium · 15 minutes.** `bm25(query, texts, k1=1.5, b=0.75)` returns BM25's scores, a list
# with a number a text. Words are what stands between blanks. A word of the query that is in
# `having` of `count` texts is worth `ln(1 + (count - having + 0.5) / (having + 0.5))`; in a
# text it counts `times / (times + k1 · (1 - b + b · length / mean))` of that: `times` it
# occurs there, `length` words the text has, `mean` the mean length. Words of the query add
# up, one that stands there twice counts twice.
#
# <details><summary>Hint 1</summary>Split every text once.</details>
# <details><summary>Hint 2</summary><code>having</code> counts texts, not occurrences.</details>
# <details><summary>Hint 3</summary>Words, not letters: "art" is not in "heart".</details>


# %% nbgrader={"grade": false, "grade_id": "bm25", "locked": false, "schema_version": 3, "solution": true, "task": false}
def bm25(query: str, texts: list[str], k1: float = 1.5, b: float = 0.75) -> list[float]:
    """BM25's score of every text."""
    ### BEGIN SOLUTION
    words = [text.split() for text in texts]
    mean = sum(map(len, words)) / len(words)
    scores = [0.0] * len(texts)
    for asked in query.split():
        having = sum(asked in text for text in words)
        rare = np.log(1 + (len(texts) - having + 0.5) / (having + 0.5))
        for number, text in enumerate(words):
            times = text.count(asked)
            scores[number] += (
                rare * times / (times + k1 * (1 - b + b * len(text) / mean))
            )
    return [float(score) for score in scores]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_bm25", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Check: bm25
texts = ["heart heart beat", "art of the voice", "a heart", "the voice"]
got = bm25("art", texts)
assert len(got) == 4, "a score for every text"
assert got[0] == 0, "words, not letters: 'art' is not a word of 'heart heart beat'"
both = bm25("heart", texts)
assert both[0] > 0 and both[1] == 0, "only texts with the word have a score"
assert abs(bm25("heart", texts, b=0.0)[2] - np.log(2) / 2.5) < 1e-9, (
    "two of four texts have it: did you count occurrences instead of texts?"
)
assert bm25("voice", texts)[3] > bm25("voice", texts)[1], (
    "a shorter text is more about the word: is the length left out?"
)
two = np.add(bm25("heart", texts), bm25("voice", texts))
assert np.allclose(bm25("heart voice", texts), two), "scores of words add up"
assert abs(both[0] - np.log(2) * 2 / (2 + 1.5 * (0.25 + 0.75 * 3 / 2.75))) < 1e-9, (
    "divide by times + k1 · (1 - b + b · length / mean)"
)
### BEGIN HIDDEN TESTS
random = np.random.default_rng(GRADING_SEED)
texts = [
    " ".join(random.choice(list("abcdefg"), size=random.integers(1, 9)))
    for _ in range(9)
]
mean = np.mean([len(text.split()) for text in texts])
for query in ("a", "b c", "c c", "z"):
    wanted = np.zeros(9)
    for word in query.split():
        times = np.array([text.split().count(word) for text in texts])
        rare = np.log(1 + (9 - (times > 0).sum() + 0.5) / ((times > 0).sum() + 0.5))
        sizes = np.array([len(text.split()) for text in texts])
        wanted += rare * times / (times + 1.2 * (1 - 0.6 + 0.6 * sizes / mean))
    assert same(bm25(query, texts, 1.2, 0.6), wanted), "wrong for other texts"
### END HIDDEN TESTS

# %% [markdown]
# ## 6 · The flaw
#
# **3 points · medium · 10 minutes.** A report says: "Reading is right on 64 of 100 questions,
# training on 60: no difference to speak of." The two answered the same questions, and the
# report did not look at them one by one. `compare(a, b)` takes arrays of 0 and 1 and returns a
# dict: `difference` (accuracy of `a` minus that of `b`), `repairs` (questions only `a` got
# right) and `breakages` (only `b`).
#
# <details><summary>Hint 1</summary>The difference is (repairs − breakages) /
# questions.</details>
# <details><summary>Hint 2</summary><code>(a == 1) &amp; (b == 0)</code></details>
# <details><summary>Hint 3</summary>Counts are whole numbers.</details>


# %% nbgrader={"grade": false, "grade_id": "compare", "locked": false, "schema_version": 3, "solution": true, "task": false}
def compare(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """Difference of accuracies, repairs and breakages."""
    ### BEGIN SOLUTION
    a, b = np.asarray(a), np.asarray(b)
    repairs, breakages = (
        int(((a == 1) & (b == 0)).sum()),
        int(((b == 1) & (a == 0)).sum()),
    )
    difference = (repairs - breakages) / len(a)
    return {"difference": difference, "repairs": repairs, "breakages": breakages}
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_compare", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Check: compare
a, b = np.array([1, 1, 1, 0, 0, 1]), np.array([1, 0, 0, 1, 0, 1])
got = compare(a, b)
assert set(got) == {"difference", "repairs", "breakages"}, (
    "three entries, by these names"
)
assert got["difference"] > 0, "a minus b, not b minus a"
assert got["repairs"] != 4, "questions that both got right are no repairs"
assert abs(got["difference"] - 1 / 6) < 1e-9, (
    "the difference is a share of all questions"
)
assert (got["repairs"], got["breakages"]) == (2, 1), "repairs are what only a got right"
### BEGIN HIDDEN TESTS
a, b = np.random.default_rng(GRADING_SEED).integers(0, 2, size=(2, 90))
got = compare(a, b)
assert got["repairs"] == sum(x > y for x, y in zip(a.tolist(), b.tolist())), (
    "wrong repairs"
)
assert got["breakages"] == sum(x < y for x, y in zip(a.tolist(), b.tolist())), (
    "breakages"
)
assert abs(got["difference"] - (a.mean() - b.mean())) < 1e-9, "wrong difference"
### END HIDDEN TESTS
