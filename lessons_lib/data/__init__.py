"""Texts, facts and documents: read, checked, cleaned and split."""

from lessons_lib.data.facts import (
    Conversation,
    Fact,
    make_example,
    make_fact,
    read_conversations,
)
from lessons_lib.data.files import clean_text, decode_file
from lessons_lib.data.labels import CLASS_NAMES, THREE_CLASSES
from lessons_lib.data.phrasings import (
    BLIND,
    HELD_OUT,
    MEDICAL,
    NEUTRAL,
    PHRASINGS,
    Phrasings,
    choose_phrasings,
    phrase_terms,
)
from lessons_lib.data.reviews import count_classes, load_reviews, take_rows
from lessons_lib.data.sources.hub import PHRASEBANK, PHRASEBANK_FILES
from lessons_lib.data.sources.snippets import label_ratings, read_ratings, read_snippets
from lessons_lib.data.sources.terms import ONTOLOGY, read_lay_names, read_terms
from lessons_lib.errors import DataError
from lessons_lib.paths import SAMPLES

__all__ = [
    "BLIND",
    "CLASS_NAMES",
    "HELD_OUT",
    "MEDICAL",
    "NEUTRAL",
    "ONTOLOGY",
    "PHRASEBANK",
    "PHRASEBANK_FILES",
    "PHRASINGS",
    "SAMPLES",
    "THREE_CLASSES",
    "Conversation",
    "DataError",
    "Fact",
    "Phrasings",
    "choose_phrasings",
    "clean_text",
    "count_classes",
    "decode_file",
    "label_ratings",
    "load_reviews",
    "make_example",
    "make_fact",
    "phrase_terms",
    "read_conversations",
    "read_lay_names",
    "read_ratings",
    "read_snippets",
    "read_terms",
    "take_rows",
]
