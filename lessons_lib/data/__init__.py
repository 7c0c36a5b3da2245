"""Texts, facts and documents: read, checked, cleaned and split, then made into batches."""

from lessons_lib.data.batches import FlatRows, flatten_rows, pad_batch, tokenize_reviews
from lessons_lib.data.facts import ASK_TERM, Dialog, ask, read_dialogs
from lessons_lib.data.files import SAMPLES, clean_text, decode_file
from lessons_lib.data.labels import CLASS_NAMES, LABELS, THREE_CLASSES
from lessons_lib.data.reviews import count_classes, load_reviews, take_rows
from lessons_lib.data.sources.hub import PHRASEBANK, PHRASEBANK_FILES
from lessons_lib.data.sources.snippets import MIN_RATING, label_ratings, read_ratings, read_snippets
from lessons_lib.errors import DataError

__all__ = [
    "ASK_TERM",
    "CLASS_NAMES",
    "LABELS",
    "MIN_RATING",
    "PHRASEBANK",
    "PHRASEBANK_FILES",
    "SAMPLES",
    "THREE_CLASSES",
    "DataError",
    "Dialog",
    "FlatRows",
    "ask",
    "clean_text",
    "count_classes",
    "decode_file",
    "flatten_rows",
    "label_ratings",
    "load_reviews",
    "pad_batch",
    "read_dialogs",
    "read_ratings",
    "read_snippets",
    "take_rows",
    "tokenize_reviews",
]
