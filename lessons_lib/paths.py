"""Where things are in the repository. Standard library only, so that every tool can ask."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
NOTEBOOKS = REPOSITORY / "notebooks"
SAMPLES = REPOSITORY / "data" / "samples"  # written for this course
TINY_MODELS = REPOSITORY / "data" / "tiny"  # random weights, for tests
PUBLISHED = REPOSITORY / "data" / "results"  # what the course claims
BUILD = REPOSITORY / "build"  # what runs on this machine write
BUILT = BUILD / "results"
