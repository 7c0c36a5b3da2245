"""Snippets rated by about 20 people each: films, newspaper articles, products (Hutto & Gilbert
2014).

Contract: rows come in the order of the source's file, whichever package carried it.
"""

import json

import numpy as np
import pandas as pd

from lessons_lib.assets import fetch_asset
from lessons_lib.data.files import clean_text
from lessons_lib.errors import DataError

SNIPPET_FILES = {"movie": "movieReview", "news": "nytEditorial", "product": "amazonReview"}
MIN_RATING = 0.5  # snippets rated nearer to 0 than this are neutral


def read_snippets(domain: str) -> pd.DataFrame:
    """Human-rated snippets with columns `text`, `rating` (mean of about 20 people, −4 to 4) and
    `document`.

    domain: "movie" (each snippet is its own document), "news" (sentences of articles) or "product"
    (sentences of reviews). Raises DataError for another domain.
    """
    if domain not in SNIPPET_FILES:
        remedy = f"one of {', '.join(SNIPPET_FILES)}."
        raise DataError(f"there are no {domain!r} snippets.", remedy=remedy)
    rows = _read_snippet_file(domain, "GroundTruth")
    # one source has a header line
    rows = [row for row in rows if len(row) == 3 and row[0] != "id"]
    frame = pd.DataFrame(rows, columns=["document", "rating", "text"]).astype({"rating": float})
    frame["document"] = frame["document"].str.split("_").str[0]
    frame["text"] = frame["text"].map(clean_text)
    return frame


def read_ratings(domain: str) -> np.ndarray:
    """The ratings (rows, 20) of each person, −4 to 4, in the order of `read_snippets`."""
    rows = [row for row in _read_snippet_file(domain, "anonDataRatings") if len(row) == 4]
    return np.array([json.loads(row[3]) for row in rows if row[0] != "id"])


def label_ratings(means: np.ndarray) -> np.ndarray:
    """The class numbers (rows), indices of THREE_CLASSES, of mean ratings (rows).

    Ratings nearer to 0 than MIN_RATING are neutral.
    """
    return np.where(np.abs(means) < MIN_RATING, 1, np.where(means > 0, 2, 0))


def _read_snippet_file(domain: str, kind: str) -> list[list[str]]:
    path = fetch_asset("snippets") / f"{SNIPPET_FILES[domain]}Snippets_{kind}.txt"
    return [line.split("\t") for line in path.read_text(encoding="utf-8-sig").splitlines()]
