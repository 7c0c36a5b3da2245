"""Names of train, validation and test in files, folders and data sets."""

import re

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "devel": "validation",
    "development": "validation",
    "test": "test",
    "testing": "test",
}


def find_split(name: str) -> str:
    """The split (train, validation or test) that a name states; "" if it states none, or two.

    >>> find_split("train-00000-of-00001"), find_split("SST-dev"), find_split("contest")
    ('train', 'validation', '')
    """
    words = re.split(r"[^a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
    splits = {SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES}
    return splits.pop() if len(splits) == 1 else ""
