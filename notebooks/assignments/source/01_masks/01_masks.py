# %% [markdown]
# # Assignment 01 · Masks, and who can see what
#
# Lesson 01 showed that a decoder and an encoder compute the same attention through different
# masks. Here you build both. Write your code where it says so, run the check under it, and
# hand in the whole notebook. The checks you see are not all: the same cells are graded with
# other inputs. Keep the names of the functions; add as many cells as you like.
#
# 18 points, about 55 minutes, numpy and torch only. An exercise gives all of its points
# or none, whatever happens to the others. In grading, a cell has 10 seconds and a call of
# your function 5, without a network. All cells run before anything is graded: do not give
# a function's name to something else later.

# %% nbgrader={"grade": false, "grade_id": "setup", "locked": true, "schema_version": 3, "solution": false, "task": false}
import os

import numpy as np
import torch

GRADING_SEED = int(os.environ.get("GRADING_SEED", "0"))  # grading uses another


def same(got, wanted) -> bool:
    """Whether shapes are equal, and numbers but for rounding."""
    got, wanted = np.asarray(got), np.asarray(wanted)
    return got.shape == wanted.shape and bool(np.allclose(got, wanted, atol=1e-5))


# %% [markdown]
# ## 1 · The causal mask
#
# **2 points · easy · 5 minutes.** `causal_mask(length)` returns an array of booleans
# (length, length): `True` at `[row, column]` where position `row` may look at position
# `column`, that is, at itself and at whatever stands before it.
#
# <details><summary>Hint 1</summary>Draw it for length 3: which row has one True only?</details>
# <details><summary>Hint 2</summary>numpy can keep one triangle of a matrix.</details>
# <details><summary>Hint 3</summary>Compare the numbers of rows and of columns.</details>


# %% nbgrader={"grade": false, "grade_id": "causal_mask", "locked": false, "schema_version": 3, "solution": true, "task": false}
def causal_mask(length: int) -> np.ndarray:
    """True where a position may look (length, length)."""
    ### BEGIN SOLUTION
    return np.tril(np.ones((length, length), dtype=bool))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_causal_mask", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Check: causal_mask
seen = causal_mask(4)
assert seen.shape == (4, 4), "the mask needs one row and one column a position"
assert seen.dtype == bool, "the mask holds True and False: which dtype did you give it?"
assert not seen[0, 1:].any(), "position 0 looks ahead: did you keep the other triangle?"
assert seen.diagonal().all(), "a position may look at itself: is the diagonal left out?"
assert seen[3].all(), "the last position may look at everything before it"
### BEGIN HIDDEN TESTS
size = int(np.random.default_rng(GRADING_SEED).integers(5, 12))
wanted = np.arange(size)[:, None] >= np.arange(size)[None]
assert np.array_equal(causal_mask(size), wanted), "the mask is wrong for another length"
assert causal_mask(1).tolist() == [[True]], "one position alone may look at itself"
### END HIDDEN TESTS

# %% [markdown]
# ## 2 · The padding mask
#
# **2 points · easy · 5 minutes.** Rows of a batch have different lengths and are filled up
# with padding on the right. `padding_mask(lengths, width)` returns an array of booleans
# (rows, width):
# `True` for tokens, `False` for padding.
#
# <details><summary>Hint 1</summary>Position 2 is a token in rows of which lengths?</details>
# <details><summary>Hint 2</summary>Compare <code>np.arange(width)</code> with every length.</details>
# <details><summary>Hint 3</summary><code>lengths[:, None]</code> makes a column of the lengths.</details>


# %% nbgrader={"grade": false, "grade_id": "padding_mask", "locked": false, "schema_version": 3, "solution": true, "task": false}
def padding_mask(lengths: np.ndarray, width: int) -> np.ndarray:
    """True for tokens, False for padding (rows, width)."""
    ### BEGIN SOLUTION
    return np.arange(width)[None] < np.asarray(lengths)[:, None]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_padding_mask", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Check: padding_mask
tokens = padding_mask(np.array([1, 3]), 4)
assert tokens.shape == (2, 4), "the mask needs a row for every text and `width` columns"
assert tokens[1].sum() != 4, "one too many: positions are counted from 0"
assert not tokens[0, 3], (
    "padding is on the right, and False: is yours the other way round?"
)
assert tokens.tolist() == [[True] + 3 * [False], 3 * [True] + [False]], (
    "a token is missing"
)
### BEGIN HIDDEN TESTS
random = np.random.default_rng(GRADING_SEED)
some, wide = random.integers(1, 9, size=6), int(random.integers(9, 14))
tokens = padding_mask(some, wide)
assert tokens.shape == (6, wide), (
    "the mask is as wide as `width`, not as the longest row"
)
assert (tokens.sum(1) == some).all(), "the mask is wrong for other lengths"
assert (np.diff(tokens.astype(int), axis=1) <= 0).all(), (
    "tokens come first, then padding"
)
### END HIDDEN TESTS

# %% [markdown]
# ## 3 · Edit a word
#
# **3 points · easy · 5 minutes.** One token of a text is exchanged. `changed(kind, edited,
# length)` returns the list of the positions whose last states can change, in order: for
# `kind` "decoder" or "encoder". A ValueError for any other kind.
#
# <details><summary>Hint 1</summary>Which positions of a decoder can see the edited
# one?</details>
# <details><summary>Hint 2</summary>Itself included.</details>
# <details><summary>Hint 3</summary>An encoder has no position that cannot.</details>


# %% nbgrader={"grade": false, "grade_id": "changed", "locked": false, "schema_version": 3, "solution": true, "task": false}
def changed(kind: str, edited: int, length: int) -> list[int]:
    """Positions whose last states can change."""
    ### BEGIN SOLUTION
    if kind not in ("decoder", "encoder"):
        raise ValueError(f"no such kind: {kind}")
    first = edited if kind == "decoder" else 0
    return list(range(first, length))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_changed", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Check: changed
assert changed("encoder", 2, 4) == [0, 1, 2, 3], "in an encoder everybody sees the edit"
assert 0 not in changed("decoder", 2, 4), "a decoder's earlier positions cannot see it"
assert 2 in changed("decoder", 2, 4), "the edited position itself changes"
assert changed("decoder", 2, 4) == [2, 3], "every later position of a decoder sees it"
try:
    changed("parrot", 0, 1)
except ValueError:
    pass
else:
    raise AssertionError("an unknown kind needs a ValueError")
### BEGIN HIDDEN TESTS
length = int(np.random.default_rng(GRADING_SEED).integers(4, 12))
for edited in range(length):
    assert changed("decoder", edited, length) == [*range(edited, length)], (
        "wrong length"
    )
    assert changed("encoder", edited, length) == [*range(length)], "wrong length"
### END HIDDEN TESTS

# %% [markdown]
# ## 4 · Both masks at once
#
# **3 points · medium · 10 minutes.** A decoder's batch needs both.
# `combine_masks(lengths, width, causal)` returns an array of booleans (rows, width, width): `True` where a
# position may look. Nobody looks at padding; with `causal` nobody looks ahead either. What
# padding itself looks at does not matter to the model, but a row without any `True` makes the
# softmax divide by zero: so every padding position must be allowed to look at position 0;
# it may look at other tokens, but never at padding. Every text has at least one token.
#
# <details><summary>Hint 1</summary>Padding is a matter of columns: which may be looked
# at?</details>
# <details><summary>Hint 2</summary><code>mask[:, None, :]</code> has one more axis, which numpy repeats
# as needed.</details>
# <details><summary>Hint 3</summary>Position 0 is a token in every row, and no position is
# before it: what do your masks already say of column 0?</details>


# %% nbgrader={"grade": false, "grade_id": "combine_masks", "locked": false, "schema_version": 3, "solution": true, "task": false}
def combine_masks(lengths: np.ndarray, width: int, causal: bool) -> np.ndarray:
    """True where a position may look (rows, width, width)."""
    ### BEGIN SOLUTION
    places = np.arange(width)
    columns = (places[None] < np.asarray(lengths)[:, None])[:, None, :]
    allowed = (
        places[:, None] >= places[None] if causal else np.ones((width, width), bool)
    )
    return columns & allowed[None]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_combine_masks", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Check: combine_masks
encoder = combine_masks(np.array([2, 3]), 3, causal=False)
assert encoder.shape == (2, 3, 3), "the mask needs a matrix for every row of the batch"
assert not encoder[0, :, 2].any(), (
    "somebody looks at padding: did you mask rows, not columns?"
)
assert encoder[1].all(), "without `causal`, tokens look at all tokens, ahead as well"
both = combine_masks(np.array([2, 3]), 3, causal=True)
assert not both[1, 0, 1], "position 0 looks ahead, though the mask is to be causal"
assert both.any(-1).all(), "a position sees nothing: its softmax would divide by zero"
### BEGIN HIDDEN TESTS
random = np.random.default_rng(GRADING_SEED)
some = random.integers(1, 8, size=5)
for causal in (True, False):
    mask = combine_masks(some, 8, causal)
    assert mask.shape == (5, 8, 8), "wrong shape for other lengths"
    for row, length in enumerate(some):
        inside = np.ones((length, length), bool)
        inside = np.tril(inside) if causal else inside
        assert (mask[row, :length, :length] == inside).all(), "wrong for other lengths"
        assert not mask[row, :, length:].any(), "somebody looks at padding"
        assert mask[row].any(-1).all(), "a position sees nothing"
### END HIDDEN TESTS

# %% [markdown]
# ## 5 · Attention
#
# **4 points · medium · 15 minutes.** `attention(queries, keys, values, mask)` returns scaled
# dot-product attention: scores of every query with every key, divided by the square root of
# the head size, masked, through a softmax over the keys, times the values. All are tensors:
# queries, keys and values (positions, head size), mask (positions, positions) of booleans. Write
# the steps out: torch's own attention would pass, and show you nothing.
#
# <details><summary>Hint 1</summary>What must a score be before the softmax, so that it is 0
# after it?</details>
# <details><summary>Hint 2</summary><code>masked_fill</code> with minus infinity, before the
# softmax.</details>
# <details><summary>Hint 3</summary>Weights in a row add up to 1: over which axis is the
# softmax?</details>


# %% nbgrader={"grade": false, "grade_id": "attention", "locked": false, "schema_version": 3, "solution": true, "task": false}
def attention(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """What every position gathers (positions, head size)."""
    ### BEGIN SOLUTION
    scores = queries @ keys.T / queries.shape[1] ** 0.5
    scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(dim=1) @ values
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_attention", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Check: attention
q, k = torch.zeros(2, 4), torch.zeros(2, 4)
q[0, 0], k[1, 0] = 2.0, float(np.log(3))
v, every = torch.tensor([[1.0] * 4, [5.0] * 4]), torch.ones(2, 2).bool()
got = attention(q, k, v, every)
assert got.shape == (2, 4), "every position gathers a vector as long as a value"
assert torch.isfinite(got).all(), "somebody may look nowhere: is the mask inverted?"
assert abs(float(got[0, 0]) - 4.6) > 1e-3, (
    "the scores are too large: did you divide by the square root of the head size?"
)
assert abs(float(got[1, 0]) - 1.75) > 1e-3, (
    "the weights of a position do not add up to 1: over which axis is your softmax?"
)
assert torch.allclose(got[:, 0], torch.tensor([4.0, 3.0]), atol=1e-4), (
    "the head size is 4 here: divide by its square root, not by itself"
)
first = float(attention(q, k, v, torch.ones(2, 2).tril().bool())[0, 0])
assert abs(first - 0.25) > 1e-3, (
    "the weights add up to less than 1: did you mask after the softmax?"
)
assert abs(first - 4) > 1e-3, "the mask changes nothing"
assert abs(first - 3) > 1e-3, (
    "a masked score is minus infinity before the softmax, not 0"
)
assert abs(first - 1) < 1e-4, (
    "position 0 may look at itself alone, and gathers its own value: is the mask inverted?"
)
### BEGIN HIDDEN TESTS
draw = torch.Generator().manual_seed(GRADING_SEED)
for size in (4, 9):
    q, k, v = (torch.randn(7, size, generator=draw) for _ in range(3))
    mask = (torch.rand(7, 7, generator=draw) > 0.5) | torch.eye(7).bool()
    own = torch.nn.functional.scaled_dot_product_attention(
        q[None], k[None], v[None], attn_mask=mask[None]
    )[0]
    assert same(attention(q, k, v, mask), own), "wrong for another head size, or mask"
### END HIDDEN TESTS

# %% [markdown]
# ## 6 · After several layers
#
# **4 points · hard · 15 minutes.** In one layer a position sees what its mask allows. In the
# next it sees what those positions saw. `reach(mask, layers)` returns an array of
# booleans (positions, positions): `True` at `[row, column]` where the token at `column` can have changed the state
# of `row` after that many layers. (A layer adds to a state and never erases it, so a position
# always keeps what it saw.)
#
# <details><summary>Hint 1</summary>With one layer: the mask, and every position
# itself.</details>
# <details><summary>Hint 2</summary>A matrix product of masks counts the ways from <code>row</code> over a
# third position to <code>column</code>.</details>
# <details><summary>Hint 3</summary>Multiply once for every layer, and compare with 0.</details>


# %% nbgrader={"grade": false, "grade_id": "reach", "locked": false, "schema_version": 3, "solution": true, "task": false}
def reach(mask: np.ndarray, layers: int) -> np.ndarray:
    """Whether a token can have changed a state (positions, positions)."""
    ### BEGIN SOLUTION
    step = mask.astype(int) + np.eye(len(mask), dtype=int)
    seen = np.eye(len(mask), dtype=int)
    for _ in range(layers):
        seen = (step @ seen > 0).astype(int)
    return seen > 0
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_reach", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Check: reach
window = np.array([[abs(a - b) <= 1 for b in range(6)] for a in range(6)])  # neighbours
one, two = reach(window, 1), reach(window, 2)
assert one.dtype == bool, "the answer is whether, not in how many ways"
assert same(reach(window, 0), np.eye(6, dtype=bool)), (
    "without a layer a position knows its own token: is one layer too many applied?"
)
assert same(one, window), "one layer sees what its mask allows"
assert two[0, 2], (
    "two layers see two steps far: does the second layer start from the first?"
)
assert not two[0, 3], "two layers do not see three steps far"
assert reach(np.zeros((3, 3), bool), 2).diagonal().all(), (
    "a state keeps its own token, whatever the mask says"
)
### BEGIN HIDDEN TESTS
random = np.random.default_rng(GRADING_SEED)
for layers in (1, 2, 3):
    mask = random.random((7, 7)) < 0.25
    ways = np.linalg.matrix_power(mask.astype(float) + np.eye(7), layers)
    assert same(reach(mask, layers), ways > 0), "wrong for another mask"
chain = np.eye(5, k=-1, dtype=bool)
assert same(reach(chain, 4), np.tri(5)), (
    "looking has a direction: do rows look at columns?"
)
### END HIDDEN TESTS
