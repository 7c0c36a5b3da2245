"""What a model knows: predictions, likelihoods, multiple choice, metrics and their intervals."""

from lessons_lib.evaluation.evaluation_set import (
    EvaluationSet,
    Predictions,
    answer_evaluation_set,
    build_evaluation_set,
    choose_texts,
    score_predictions,
    summarise_scores,
)
from lessons_lib.evaluation.inference import Embedder, classify_texts, embed, predict
from lessons_lib.evaluation.intervals import (
    PairedComparison,
    bootstrap_interval,
    bootstrap_macro_f1,
    compare_paired,
    seed_range,
    tabulate_pairs,
    wilson_interval,
)
from lessons_lib.evaluation.likelihood import (
    Answer,
    generate_answers,
    measure_text_losses,
    score_choices,
)
from lessons_lib.evaluation.metrics import (
    ClassificationMetrics,
    calibrate,
    normalize_answer,
    score_classifier,
    score_token_f1,
    tabulate_confusion,
)
from lessons_lib.evaluation.multiple_choice import (
    ChoiceQuestion,
    build_choices,
    drop_lexical_overlap,
    embed_answers,
    score_questions,
    split_terms,
)
from lessons_lib.evaluation.records import (
    Metric,
    MetricError,
    MetricName,
    Metrics,
    measured_once,
)

__all__ = [
    "Answer",
    "ChoiceQuestion",
    "ClassificationMetrics",
    "Embedder",
    "EvaluationSet",
    "Metric",
    "MetricError",
    "MetricName",
    "Metrics",
    "PairedComparison",
    "Predictions",
    "answer_evaluation_set",
    "bootstrap_interval",
    "bootstrap_macro_f1",
    "build_choices",
    "build_evaluation_set",
    "calibrate",
    "choose_texts",
    "classify_texts",
    "compare_paired",
    "drop_lexical_overlap",
    "embed",
    "embed_answers",
    "generate_answers",
    "measure_text_losses",
    "measured_once",
    "normalize_answer",
    "predict",
    "score_choices",
    "score_classifier",
    "score_predictions",
    "score_questions",
    "score_token_f1",
    "seed_range",
    "split_terms",
    "summarise_scores",
    "tabulate_confusion",
    "tabulate_pairs",
    "wilson_interval",
]
