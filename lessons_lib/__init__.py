"""Helpers for the five lessons: the plumbing a lesson has explained already, or never needs to.

Arrows run one way: notebooks → lessons_lib → libraries. What a learner must understand (the LoRA
configuration, the metric, the prompt) stays in the notebook.
"""

import logging

__version__ = "0.1.0"

# On import, bitsandbytes announces kernels that it would fetch from a hub and that no lesson needs.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
