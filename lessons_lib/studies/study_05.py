"""The study behind lesson 05: one decoder, two sets of 150 facts, many ways to make it answer.

Real terms of the ontology and invented ones differ in one thing: nobody can know the invented ones.
Settings were chosen on invented facts that are not among the 150. Three seeds on the invented
facts, one on the ontology and for `longer` (whose three rows are one run's).
"""

import functools
import tempfile
import time
from collections.abc import Collection
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lessons_lib import data, evaluation, retrieval
from lessons_lib.data.facts import (
    Conversation,
    Fact,
    make_example,
    make_fact,
    read_conversations,
)
from lessons_lib.evaluation.likelihood import generate_answers, measure_text_losses
from lessons_lib.evaluation.records import Metric, Metrics
from lessons_lib.hardware import choose_precision
from lessons_lib.models.decoder import load_decoder, render_chat
from lessons_lib.studies.invent import FACTS, PUBLISHED, invent_facts
from lessons_lib.studies.study import WORK, ArmRun, fine_tune_facts, load_study_profile
from lessons_lib.studies.study_02 import load_groups
from lessons_lib.training.precision import mixed_precision_lora
from lessons_lib.training.recipe import FACTS as FACTS_RECIPE
from lessons_lib.training.recipe import train_decoder

LESSON = "05_rag_vs_finetuning"
SEEDS = (0, 1, 2)
HEADLINE = (("base", "choice", "invented"), ("retrieved", "choice", "invented"))
MODELS = ("encoder", "decoder")
DATA = ("terms",)
ASKED = (data.HELD_OUT, "A friend came across {} and asks what it is.")
UNQUANTIZED = replace(FACTS_RECIPE, quantize="none")
MAX_TOKENS = 1024
TIMES = 8  # how often each fact is met
LONGER = 24
RAFT_TIMES = 2  # its rows are longer
READ = 3  # passages before a question
WRITTEN = 60  # answers that the model generates
TEXTS = 100
CHANGED = 15  # facts that change
Model = PreTrainedModel | PeftModel


@dataclass(frozen=True, repr=False)
class Arm:
    """A way to answer.

    facts: "invented" or "ontology". reads: the passages before a question: "" none, "search" those
    found, "oracle" the one that answers, "random" one that does not, "distractor" that of a wrong
    choice, "choices" those of all four choices. phrasings: how many the facts are trained in; 0
    means no training. times: how often each fact is met. wordings: whether the facts' own sentences
    vary, too. raft: whether training rows have passages, some of which distract. taught: the facts
    trained on, if not those asked. unanswered: the share of such rows whose passages do not hold
    the answer. threshold: no decoder; a question is refused whose best passage scores too low in
    the search by "meaning" or by "words".
    """

    facts: str
    reads: str = ""
    phrasings: int = 0
    times: int = TIMES
    wordings: bool = False
    raft: bool = False
    taught: str = ""
    unanswered: float = 0.2
    threshold: str = ""

    def __repr__(self) -> str:
        """The arm without what is as it always was, so that a new field changes no old arm's
        text."""
        shown = []
        for one in fields(self):
            value = getattr(self, one.name)
            if one.name not in ("unanswered", "threshold") or value != one.default:
                shown.append(f"{one.name}={value!r}")
        return f"Arm({', '.join(shown)})"


ALL_PHRASINGS = len(data.PHRASINGS)
RAFT = Arm("invented", "search", ALL_PHRASINGS, RAFT_TIMES, raft=True)
ARMS = {
    "invented.base": Arm("invented"),
    "invented.retrieved": Arm("invented", "search"),
    "invented.ceiling": Arm("invented", "oracle"),
    "invented.floor": Arm("invented", "random"),
    "invented.tuned": Arm("invented", phrasings=1),
    "invented.paraphrased": Arm("invented", phrasings=ALL_PHRASINGS, wordings=True),
    "ontology.base": Arm("ontology"),
    "ontology.retrieved": Arm("ontology", "search"),
    "ontology.ceiling": Arm("ontology", "oracle"),
    "ontology.floor": Arm("ontology", "random"),
    "ontology.tuned": Arm("ontology", phrasings=1),
    "ontology.paraphrased": Arm("ontology", phrasings=ALL_PHRASINGS),
    "invented.raft": RAFT,
    "invented.raft_elsewhere": replace(RAFT, taught="ontology"),
    "invented.misled": Arm("invented", "distractor"),
    "invented.four": Arm("invented", "choices"),
    "invented.longer": Arm("invented", phrasings=1, times=LONGER),  # one seed
    # as raft_elsewhere, with every question met with its passage and as often without it
    "invented.raft_refusing": replace(
        RAFT, taught="ontology", times=2 * RAFT_TIMES, unanswered=0.5
    ),
    "invented.threshold_meaning": Arm("invented", threshold="meaning"),
    "invented.threshold_words": Arm("invented", threshold="words"),
}
COMPARISONS = [
    ("retrieved", "base"),
    ("ceiling", "floor"),
    ("tuned", "base"),
    ("paraphrased", "tuned"),
    ("retrieved", "paraphrased"),
    ("paraphrased_retrieved", "retrieved"),
    ("raft", "retrieved"),
    ("raft_elsewhere", "retrieved"),
    ("raft_refusing", "raft_elsewhere"),
    ("longer", "tuned"),
]


@dataclass(frozen=True)
class Testbed:
    """Facts, and the questions about them: all in the first phrasing of `ASKED`, then all in the
    second.
    """

    facts: list[Fact]
    questions: list[evaluation.ChoiceQuestion]


def name_arm(arm: str) -> tuple[str, str]:
    """The system and the facts of an arm."""
    facts, system = arm.split(".")
    return system, facts


# --- the table ------------------------------------------------------------------------------------


def recompute(kept: dict[str, np.ndarray]) -> Metrics:
    """Every metric of the study from what was picked and generated; its subset is the facts it is
    about. Intervals resample balanced groups of four facts, with all their questions, and seeds; a
    difference has `repairs` and `breakages`, the shares of questions that its first or its second
    system alone has right."""
    metrics = Metrics()
    for facts, arrays_by_system in collect_arrays(kept).items():
        groups = kept[f"quartet.{facts}"]
        scores = {
            system: score_system(arrays, kept, facts) for system, arrays in arrays_by_system.items()
        }
        for system, by_metric in scores.items():
            for name, values in by_metric.items():
                rows = group_rows(name, values.shape[1], groups)
                metrics.add(system, name, evaluation.measure_mean(values, rows), subset=facts)
            for name, metric in measure_by_hit(by_metric, groups).items():
                metrics.add(system, name, metric, subset=facts)
            if "general_loss" in by_metric and system != "base":
                before = scores["base"]["general_loss"]
                change = (by_metric["general_loss"] - before) / before.mean()
                metrics.add(
                    system,
                    "general_loss_change",
                    evaluation.bootstrap_interval(change),
                    subset=facts,
                )
        for system, rival in COMPARISONS:
            if system in scores:
                parts = compare_systems(scores[system]["choice"], scores[rival]["choice"], groups)
                for name, metric in parts.items():
                    metrics.add(system, name, metric, subset=facts, minus=rival)
    return metrics


def collect_arrays(kept: dict[str, np.ndarray]) -> dict[str, dict[str, dict[str, np.ndarray]]]:
    """What was kept of every system: facts → system → array's name → values. An arm that was asked
    a second time, reading, is a system of its own."""
    systems: dict[str, dict[str, dict[str, np.ndarray]]] = {}
    for key, values in kept.items():
        name, facts, *arm = key.split(".")
        if not arm:
            continue
        system = f"{arm[0]}_retrieved" if name.startswith("read_") else arm[0]
        arrays = systems.setdefault(facts, {}).setdefault(system, {})
        arrays[name.removeprefix("read_")] = values
    return systems


def measure_by_hit(by_metric: dict[str, np.ndarray], groups: np.ndarray) -> dict[str, Metric]:
    """Choices where the passages held the answer (`choice_found`), and where not."""
    if "hit" not in by_metric:
        return {}
    hit = by_metric["hit"][0]
    choice = by_metric["choice"]
    metrics = {}
    for name, columns in (("choice_found", hit), ("choice_missed", ~hit)):
        if columns.any():
            metrics[name] = evaluation.measure_mean(choice[:, columns], groups[columns])
    return metrics


def compare_systems(a: np.ndarray, b: np.ndarray, groups: np.ndarray) -> dict[str, Metric]:
    """The difference of two systems (seeds, questions) and its two parts."""
    return {
        "choice": evaluation.compare_paired(a, b, groups).difference,
        "repairs": evaluation.measure_mean(a & ~b, groups),
        "breakages": evaluation.measure_mean(b & ~a, groups),
    }


def group_rows(name: str, count: int, groups: np.ndarray) -> np.ndarray:
    """What the rows of a metric are resampled by: the balanced group of the fact they are about, a
    changed fact with both its questions, or a row by itself."""
    if name.startswith("changed"):
        return np.arange(count) % CHANGED
    if name.startswith("others"):
        return groups[CHANGED : CHANGED + count]
    if name in ("choice_general", "general_loss", "abstained_unknown"):
        return np.arange(count)
    return groups[:count]


def score_system(
    arrays: dict[str, np.ndarray], kept: dict[str, np.ndarray], facts: str
) -> dict[str, np.ndarray]:
    """What every question counts (seeds, questions), by metric."""
    if "known" in arrays:
        return score_threshold(arrays)
    right = kept[f"right.{facts}"]
    scores = {"choice": arrays["picked"] == right}
    for name in ("blind", "reworded"):
        if name in arrays:
            scores[name] = arrays[name] == right[:PUBLISHED]
    if "reworded" in arrays:
        # the same questions as the reworded ones: those in the first phrasing
        scores["choice_first"] = scores["choice"][:, :PUBLISHED]
    for name in ("four", "misled"):
        if f"{name}_picked" in arrays:
            scores[f"choice_{name}"] = arrays[f"{name}_picked"] == right
    if "hit" in arrays:
        scores["hit"] = arrays["hit"]
        scores["abstained_unknown"] = score_abstention(arrays["said_unknown"])
    if "said" in arrays:
        scores["abstained"] = score_abstention(arrays["said"])
        scores["exact"], scores["token_f1"] = score_answers(
            arrays["said"], kept[f"expected.{facts}"]
        )
    if "said_shuffled" in arrays:
        scores["exact_shuffled"], _ = score_answers(
            arrays["said_shuffled"], kept[f"expected.{facts}"]
        )
    if "general" in arrays:
        scores["choice_general"] = arrays["general"] == kept[f"right.{facts}_general"]
        scores["general_loss"] = arrays["losses"]
    for name, values in arrays.items():
        if name.startswith("changed_"):
            scores[f"{name}_new"] = values == 0
            scores[f"{name}_old"] = values == 1
    if "others_retrained" in arrays:
        asked = slice(CHANGED, CHANGED + WRITTEN)
        scores["others_before"] = scores["choice"][:, asked]
        scores["others_retrained"] = arrays["others_retrained"] == right[asked]
    return scores


def score_abstention(answers: np.ndarray) -> np.ndarray:
    """Whether answers (seeds, questions) begin by saying that the passages do not say."""
    words = evaluation.normalize_answer
    start = words(retrieval.ABSTAIN)
    abstained = [[words(text)[: len(start)] == start for text in row] for row in answers]
    return np.array(abstained)


def score_threshold(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Which questions a threshold on the best passage's score refuses (1, questions): those whose
    answer is in the index, and those whose answer is nowhere.

    The threshold is the one that parts other questions best, known ones (terms of the ontology)
    from unknown ones: the largest sum of both shares of right decisions.
    """
    known = arrays["tuning_known"].ravel()
    unknown = arrays["tuning_unknown"].ravel()
    candidates = np.unique(np.concatenate([known, unknown]))
    right = [(known >= least).mean() + (unknown < least).mean() for least in candidates]
    least = candidates[int(np.argmax(right))]
    return {
        "abstained": arrays["known"] < least,
        "abstained_unknown": arrays["unknown"] < least,
    }


def score_answers(answers: np.ndarray, expected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Exact matches of normalized answers (seeds, questions), and their F1."""
    words = evaluation.normalize_answer
    exact = []
    f1 = []
    for row in answers:
        pairs = list(zip(row, expected, strict=True))
        exact.append([words(text) == words(right) for text, right in pairs])
        f1.append([evaluation.score_token_f1(text, right) for text, right in pairs])
    return np.array(exact), np.array(f1)


# --- what is asked --------------------------------------------------------------------------------


@functools.cache
def load_embedder() -> retrieval.Embedder:
    """The laptop profile's encoder."""
    return retrieval.Embedder(load_study_profile(LESSON).encoder)


@functools.cache
def invent_spare() -> list[Fact]:
    """Invented facts that are neither trained nor found, drugs and syndromes by turns as in the
    150.
    """
    rows = invent_facts(2 * PUBLISHED)[PUBLISHED:]
    return [make_fact(row["term"], row["definition"]) for row in rows]


@functools.cache
def load_testbed(name: str) -> Testbed:
    """The facts "invented" or "ontology", with their questions."""
    facts = (
        read_conversations(FACTS) if name == "invented" else load_groups()["trained"][:PUBLISHED]
    )
    vectors = load_embedder().embed([fact.answer for fact in facts])
    questions = []
    for seed, phrasing in enumerate(ASKED):
        questions += evaluation.build_choices(facts, vectors, seed, phrasing, balanced=True)
    return Testbed(facts, questions)


@functools.cache
def open_index() -> retrieval.PassageIndex:
    """Every definition of the ontology and every invented fact, embedded once for all arms."""
    facts = [*load_testbed("invented").facts, *data.read_terms(data.ONTOLOGY)]
    file = WORK / LESSON / "index.npz"
    index = retrieval.load_index(file, load_embedder())
    if index.update(retrieval.list_passages(facts))["embedded"]:
        index.save(file)
    return index


def search_passages(questions: list[str]) -> list[list[retrieval.Passage]]:
    """The passages found for each question."""
    passages = []
    for hits in open_index().search(questions, READ):
        passages.append([passage for passage, _ in hits])
    return passages


def choose_passages(bed: Testbed, reads: str) -> list[list[retrieval.Passage]]:
    """What stands before each question of a testbed; nothing (an empty list) for ""."""
    if not reads:
        return []
    if reads == "search":
        return search_passages([question.question for question in bed.questions])
    passages = retrieval.list_passages(bed.facts)
    if reads == "random":
        return [[passages[fact]] for fact in find_unrelated_facts(bed)]
    chosen = []
    for question in bed.questions:
        if reads == "oracle":
            facts = [question.facts[question.right]]
        elif reads == "distractor":
            facts = [question.facts[(question.right + 1) % len(question.facts)]]
        else:
            facts = question.facts
        chosen.append([passages[fact] for fact in facts])
    return chosen


def find_unrelated_facts(bed: Testbed) -> list[int]:
    """For every question the number of a fact that is none of its choices."""
    unrelated = []
    for start in range(0, len(bed.questions), len(bed.facts)):  # a phrasing's questions
        unrelated += evaluation.find_unrelated(bed.questions[start : start + len(bed.facts)])
    return unrelated


def ground(questions: list[str], passages: list[list[retrieval.Passage]]) -> list[str]:
    """The questions with their passages, or as they are where there are none."""
    if not passages:
        return questions
    return [
        retrieval.ground_question(question, read)
        for question, read in zip(questions, passages, strict=True)
    ]


def ground_choices(
    questions: list[evaluation.ChoiceQuestion], passages: list[list[retrieval.Passage]]
) -> list[evaluation.ChoiceQuestion]:
    """The same for questions with choices."""
    prompts = ground([question.question for question in questions], passages)
    return [
        replace(question, question=prompt)
        for question, prompt in zip(questions, prompts, strict=True)
    ]


# --- arms -----------------------------------------------------------------------------------------


def run_arm(name: str, seed: int) -> ArmRun:
    """Carries one arm out. What draws nothing, or is run with one seed, is computed once."""
    arm = ARMS[name]
    if arm.threshold:
        return measure_best_scores(arm.threshold)
    once = not arm.phrasings or arm.facts == "ontology" or arm.times == LONGER
    return run_once(name) if once else train_arm(arm, seed)


@functools.cache
def run_once(name: str) -> ArmRun:
    """An arm that all seeds share."""
    return train_arm(ARMS[name], 0) if ARMS[name].phrasings else ask_untrained(name)


def ask_untrained(name: str) -> ArmRun:
    """What the model answers without training."""
    arm = ARMS[name]
    model, tokenizer = load_decoder(load_study_profile(LESSON).decoder)
    arrays = answer_questions(model, tokenizer, arm.facts, arm.reads)
    cost = {}
    if not arm.reads:
        arrays |= answer_general(model, tokenizer)
    if name == "invented.base":
        arrays["changed_memory"] = pick(model, tokenizer, ask_about_changes())
    if name == "invented.retrieved":
        asked, cost = ask_updated_index()
        arrays["changed_read"] = pick(model, tokenizer, asked)
    return ArmRun(arrays, describe_testbed(arm.facts), cost)


def train_arm(arm: Arm, seed: int) -> ArmRun:
    """Trains on the facts and asks: from memory, and reading where passages belong to the arm."""
    decoder = load_study_profile(LESSON).decoder
    rows = list_training_rows(arm, seed)
    tuned, cost = fine_tune_facts(UNQUANTIZED, decoder, rows, max_tokens=MAX_TOKENS, seed=seed)
    model = tuned.model
    tokenizer = tuned.tokenizer
    both = arm.phrasings > 1 and arm.times == TIMES
    with torch.inference_mode(), mixed_precision_lora(model, choose_precision()):
        arrays = answer_questions(model, tokenizer, arm.facts, arm.reads)
        arrays |= answer_general(model, tokenizer)
        if arm.raft:
            arrays |= test_reading(model, tokenizer, arm.facts)
        if both:
            read = answer_questions(model, tokenizer, arm.facts, "search")
            arrays |= {f"read_{name}": values for name, values in read.items()}
    if both and arm.facts == "invented":
        changed, seconds = change_facts(model, tokenizer, seed)
        arrays = arrays | changed
        cost = cost | {"retrain_seconds": seconds}
    return ArmRun(arrays, describe_testbed(arm.facts), cost)


def list_training_rows(arm: Arm, seed: int) -> list[Conversation]:
    """The training examples of an arm."""
    facts = load_testbed(arm.taught or arm.facts).facts
    if arm.raft:
        asked = {fact.term for fact in load_testbed(arm.facts).facts} if arm.taught else set()
        rows = data.phrase_terms(facts, data.PHRASINGS, arm.times)
        return add_distractors(rows, seed, unseen=asked, unanswered=arm.unanswered)
    rows = data.phrase_terms(facts, data.PHRASINGS[: arm.phrasings], arm.times)
    if not arm.wordings:
        return rows
    reworded = []
    for number, row in enumerate(rows):
        wordings = [row.answer, *row.paraphrases[:-1]]  # the last is kept for the evaluation
        wording = wordings[(number + number // PUBLISHED) % len(wordings)]
        reworded.append(row.with_messages(row.question, wording))
    return reworded


def add_distractors(
    rows: list[Fact], seed: int, unseen: Collection[str] = (), unanswered: float = 0.2
) -> list[Conversation]:
    """The rows with passages before the question: the oracle passage among those a search takes for
    it or, in a random share `unanswered` of the rows, those alone, with the answer that they do not
    say (after Zhang et al. 2024, whose model then answers from memory). Facts are left out by
    turns; `unseen` terms distract nowhere."""
    random = np.random.default_rng(seed)
    found = open_index().search([row.question for row in rows], 3 * READ)
    terms = random.permutation(list(dict.fromkeys(row.term for row in rows)))
    times = len(rows) // len(terms)
    share = int(len(terms) * unanswered)
    left_out = set()
    for time_met in range(times):
        for place in range(time_met * share, (time_met + 1) * share):
            left_out.add((time_met, terms[place % len(terms)]))
    grounded = []
    for number, (row, hits) in enumerate(zip(rows, found, strict=True)):
        distractors = [passage for passage, _ in hits if passage.name not in {row.term, *unseen}][
            :READ
        ]
        oracle = retrieval.list_passages([row])[0]
        abstains = (number // len(terms), row.term) in left_out
        passages = distractors if abstains else [oracle, *distractors[: READ - 1]]
        passages = [passages[place] for place in random.permutation(READ)]
        question = retrieval.ground_question(row.question, passages)
        grounded.append(make_example(question, retrieval.ABSTAIN if abstains else row.answer))
    return grounded


# --- answers --------------------------------------------------------------------------------------


def pick(
    model: Model, tokenizer: PreTrainedTokenizerBase, questions: list[evaluation.ChoiceQuestion]
) -> np.ndarray:
    """The number of the likeliest choice (questions)."""
    return evaluation.score_questions(model, tokenizer, questions, False).argmax(1).astype(np.int8)


def answer_questions(
    model: Model, tokenizer: PreTrainedTokenizerBase, facts: str, reads: str
) -> dict[str, np.ndarray]:
    """What a model picks and generates: `picked` (questions); with passages, whether they hold the
    answer (`hit`) and what is `said_unknown` of facts that stand nowhere; without, what it picks
    `blind`, not told the term; and what it `said` itself."""
    bed = load_testbed(facts)
    passages = choose_passages(bed, reads)
    grounded = ground_choices(bed.questions, passages)
    arrays = {"picked": pick(model, tokenizer, grounded)}
    if reads == "search":
        terms = [fact.term for fact in bed.facts] * len(ASKED)
        hits = [
            any(passage.name == term for passage in read)
            for term, read in zip(terms, passages, strict=True)
        ]
        unknown = [data.HELD_OUT.format(fact.term) for fact in invent_spare()[:WRITTEN]]
        unknown = ground(unknown, search_passages(unknown))
        arrays["hit"] = np.array(hits)
        arrays["said_unknown"] = generate(model, tokenizer, unknown)
    elif not reads:
        control = data.HELD_OUT.format(data.BLIND)
        blind = [replace(q, question=control) for q in bed.questions[: len(bed.facts)]]
        arrays["blind"] = pick(model, tokenizer, blind)
    if facts == "invented" and reads in ("", "search", "choices"):
        reworded = reword_choices(grounded[: len(bed.facts)], bed.facts)
        arrays["reworded"] = pick(model, tokenizer, reworded)
    if reads in ("", "search"):
        prompts = [question.question for question in grounded[:WRITTEN]]
        arrays["said"] = generate(model, tokenizer, prompts)
    return arrays


def test_reading(
    model: Model, tokenizer: PreTrainedTokenizerBase, facts: str
) -> dict[str, np.ndarray]:
    """Whether a trained reader goes by the name: what it picks with the passages of all choices
    (`four_picked`) and with a wrong choice's (`misled_picked`), and what it says when the passages
    that were found stand in another order (`said_shuffled`)."""
    bed = load_testbed(facts)
    arrays = {}
    for name, reads in (("four_picked", "choices"), ("misled_picked", "distractor")):
        grounded = ground_choices(bed.questions, choose_passages(bed, reads))
        arrays[name] = pick(model, tokenizer, grounded)
    random = np.random.default_rng(0)
    questions = [question.question for question in bed.questions[:WRITTEN]]
    found = search_passages(questions)
    shuffled = [[read[place] for place in random.permutation(len(read))] for read in found]
    arrays["said_shuffled"] = generate(model, tokenizer, ground(questions, shuffled))
    return arrays


def reword_choices(
    questions: list[evaluation.ChoiceQuestion], facts: list[Fact]
) -> list[evaluation.ChoiceQuestion]:
    """Questions about invented facts, answers worded as nothing that is trained or can be found."""
    return [
        replace(question, choices=tuple(facts[fact].paraphrases[-1] for fact in question.facts))
        for question in questions
    ]


def generate(model: Model, tokenizer: PreTrainedTokenizerBase, questions: list[str]) -> np.ndarray:
    """The model's own answers (questions), as texts."""
    prompts = [render_chat(tokenizer, question) for question in questions]
    answers = generate_answers(model, tokenizer, prompts, max_new_tokens=48, progress=False)
    return np.array([answer.text for answer in answers])


@functools.cache
def load_general() -> evaluation.EvaluationSet:
    """Lesson 02's general questions and texts."""
    return evaluation.build_evaluation_set(
        {}, "", texts=evaluation.choose_texts("snippets:news", TEXTS), generated_answers=0
    )


def answer_general(model: Model, tokenizer: PreTrainedTokenizerBase) -> dict[str, np.ndarray]:
    """What training might make a model forget: `general` picks and `losses` of texts."""
    evaluation_set = load_general()
    losses = measure_text_losses(model, tokenizer, evaluation_set.texts, progress=False)
    return {"general": pick(model, tokenizer, evaluation_set.general), "losses": losses}


def describe_testbed(facts: str) -> dict[str, np.ndarray]:
    """What answers are held against, and which questions share their choices: the same for all
    arms.
    """
    bed = load_testbed(facts)
    groups = [min(question.facts) for question in bed.questions]
    return {
        f"quartet.{facts}": np.array(groups, np.int16),
        f"right.{facts}": np.array([q.right for q in bed.questions], np.int8),
        f"expected.{facts}": np.array([fact.answer for fact in bed.facts[:WRITTEN]]),
        f"right.{facts}_general": np.array([q.right for q in load_general().general], np.int8),
    }


@functools.cache  # nothing is drawn
def measure_best_scores(by: str) -> ArmRun:
    """The score of the best passage for every question of four kinds (questions): `known`, the
    invented facts, and `unknown`, names that are nowhere; and, to choose a threshold by, terms of
    the ontology and other names that are nowhere."""
    spare = invent_spare()
    facts = {
        "known": load_testbed("invented").facts,
        "unknown": spare[:WRITTEN],
        "tuning_known": load_testbed("ontology").facts,
        "tuning_unknown": spare[WRITTEN + CHANGED :],
    }
    scores = {}
    for name, asked in facts.items():
        hits = open_index().search([ASKED[0].format(fact.term) for fact in asked], 1, by)
        scores[name] = np.array([row[0][1] if row else 0.0 for row in hits], np.float32)
    return ArmRun(scores, describe_testbed("invented"))


# --- facts that change ----------------------------------------------------------------------------


def change_answers() -> list[Fact]:
    """The first `CHANGED` invented facts with other answers, of the same kind."""
    facts = load_testbed("invented").facts[:CHANGED]
    spare = invent_spare()[WRITTEN : WRITTEN + CHANGED]
    return [make_fact(old.term, new.answer) for old, new in zip(facts, spare, strict=True)]


def ask_about_changes() -> list[evaluation.ChoiceQuestion]:
    """The questions about changed facts: choice 0 is the new answer, 1 the old one."""
    bed = load_testbed("invented")
    new = change_answers()
    questions = []
    for number, question in enumerate(bed.questions):
        if number % PUBLISHED < CHANGED:
            old = question.choices[question.right]
            wrong = [choice for choice in question.choices if choice != old]
            choices = (new[number % PUBLISHED].answer, old, *wrong[:2])
            questions.append(evaluation.ChoiceQuestion(question.question, choices, 0))
    return questions


@functools.cache  # all seeds ask the same
def ask_updated_index() -> tuple[list[evaluation.ChoiceQuestion], dict[str, float]]:
    """The questions about changed facts, with the passages found once the index has been updated;
    and the seconds that the update took.
    """
    index = open_index()
    questions = ask_about_changes()
    before = list(index.passages.values())
    new = {passage.name: passage for passage in retrieval.list_passages(change_answers())}
    began = time.perf_counter()
    index.update([new.get(passage.name, passage) for passage in before])
    index.search(["a first question"], READ)  # makes the word index anew
    seconds = time.perf_counter() - began
    found = search_passages([question.question for question in questions])
    index.update(before)
    grounded = ground_choices(questions, found)
    return grounded, {"index_update_seconds": seconds}


def change_facts(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, seed: int
) -> tuple[dict[str, np.ndarray], float]:
    """What a trained model picks once facts have changed: from memory, reading the updated index,
    and trained again on them; what it then picks for others (`others_retrained`); seconds of that
    training."""
    updated, _ = ask_updated_index()
    arrays = {
        "changed_memory": pick(model, tokenizer, ask_about_changes()),
        "changed_read": pick(model, tokenizer, updated),
    }
    rows = data.phrase_terms(change_answers(), data.PHRASINGS, TIMES)
    with tempfile.TemporaryDirectory() as folder:
        retrained = train_decoder(
            UNQUANTIZED,
            model,
            tokenizer,
            rows,
            max_tokens=MAX_TOKENS,
            seed=seed,
            output_dir=folder,
            progress=False,
        )
    others = load_testbed("invented").questions[CHANGED : CHANGED + WRITTEN]
    arrays["changed_retrained"] = pick(model, tokenizer, ask_about_changes())
    arrays["others_retrained"] = pick(model, tokenizer, others)
    return arrays, retrained.result.seconds
