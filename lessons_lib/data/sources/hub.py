"""Data sets of the Hugging Face Hub, and Financial PhraseBank, whose script no longer runs there.

Contract: splits have the Hub's names, labels the publisher's. Every failure is a DataError with a
remedy.
"""

import tempfile
import zipfile
from pathlib import Path

from datasets import load_dataset
from huggingface_hub import hf_hub_download

from lessons_lib.data.columnar import read_dataset
from lessons_lib.data.files import read_rows
from lessons_lib.data.rows import Rows
from lessons_lib.data.splits import SPLIT_NAMES
from lessons_lib.errors import DataError

# a name on the Hub; a script that `datasets` no longer runs
PHRASEBANK = "takala/financial_phrasebank"
PHRASEBANK_FILES = (
    "data/FinancialPhraseBank-v1.0.zip",
    "FinancialPhraseBank-v1.0/Sentences_50Agree.txt",
)


def read_hub(name: str) -> dict[str, Rows]:
    """The rows of each split of a data set, if SPLIT_NAMES knows it.

    Financial PhraseBank has one split, "". Raises DataError for an unknown name, a lost connection,
    and a data set without known splits.
    """
    try:
        if name == PHRASEBANK:
            return {"": _read_phrasebank(name)}
        parts = load_dataset(name)
        splits = {
            key: read_dataset(parts[key], f"{name}[{key}]") for key in parts if key in SPLIT_NAMES
        }
    except DataError:
        raise
    except Exception as error:
        # the library raises many types, for missing names as for lost connections
        raise DataError(
            f"{name} could not be loaded from the Hugging Face Hub ({type(error).__name__}: "
            f"{error}).",
            remedy="check the name and the network, or give a file of your own (LESSON=… "
            "DATA=reviews.csv).",
        ) from error
    if not splits:
        raise DataError(
            f"has none of the splits {', '.join(SPLIT_NAMES)}.",
            where=name,
            remedy="download it and give its files.",
        )
    return splits


def _read_phrasebank(name: str) -> Rows:
    archive, member = PHRASEBANK_FILES
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(hf_hub_download(name, archive, repo_type="dataset")) as files:
            path = Path(folder, "phrases.txt")
            path.write_text(files.read(member).decode("latin-1"), encoding="utf-8")
        rows = read_rows(path)
    places = [place.replace(str(path), name) for place in rows.places]
    return Rows(rows.objects, places, rows.notes)
