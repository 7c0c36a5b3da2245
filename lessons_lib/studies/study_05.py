"""The study behind lesson 05: one decoder, two sets of 150 facts, many ways to make it answer.

Real terms of the ontology and invented ones differ in one thing: nobody can know the invented ones.
Settings were chosen on invented facts that are not among the 150. Three seeds on the invented
facts, one on the ontology and for `longer` (whose three rows are one run's).
"""

import functools
import itertools
import time
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
import torch
from peft import LoraConfig, PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lessons_lib import data, evaluation, retrieval
from lessons_lib.data.facts import Dialog, ask, read_dialogs
from lessons_lib.evaluation.likelihood import generate_answers, score_texts
from lessons_lib.hardware import choose_precision
from lessons_lib.models.decoder import load_decoder, render_chat
from lessons_lib.models.lora import add_lora
from lessons_lib.studies.invent import FACTS, PUBLISHED, invent_facts
from lessons_lib.studies.study import WORK, ArmRun, load_study_profile, teach
from lessons_lib.studies.study_02 import LORA, SETTINGS, load_groups
from lessons_lib.training.precision import compute_in

LESSON = "05_rag_vs_finetuning"
SEEDS = (0, 1, 2)
HEADLINE = ("invented.base.choice", "invented.retrieved.choice")
ASKED = (data.HELD_OUT, "A friend came across {} and asks what it is.")
# meetings of each fact; RAFT's rows are longer
TIMES = 8
LONGER = 24
RAFT_TIMES = 2
# passages, answers, texts, facts that change
READ = 3
WRITTEN = 60
TEXTS = 100
CHANGED = 15
Model = PreTrainedModel | PeftModel


@dataclass(frozen=True)
class Arm:
    """A way to answer: `reads` says which passages stand before a question ("" none, "search",
    "right", "random", "mate" a wrong choice's, "four" those of all choices); `phrasings` is how
    many the facts are trained in, 0 for no training, each fact so many `times`; `wordings` varies
    the facts' own sentences too; `raft` trains with passages that distract; `taught` names the
    facts trained on, if not those asked."""

    facts: str
    reads: str = ""
    phrasings: int = 0
    times: int = TIMES
    wordings: bool = False
    raft: bool = False
    taught: str = ""


WAYS = {
    "base": {},
    "retrieved": {"reads": "search"},
    "ceiling": {"reads": "right"},
    "floor": {"reads": "random"},
    "tuned": {"phrasings": 1},
    "paraphrased": {"phrasings": len(data.PHRASINGS)},
}
ARMS = {
    f"{facts}.{way}": Arm(facts, **how)
    for facts in ("invented", "ontology")
    for way, how in WAYS.items()
}
ARMS["invented.paraphrased"] = replace(ARMS["invented.paraphrased"], wordings=True)
ARMS["invented.raft"] = Arm("invented", "search", len(data.PHRASINGS), RAFT_TIMES, raft=True)
ARMS["invented.raft_elsewhere"] = replace(ARMS["invented.raft"], taught="ontology")
ARMS["invented.misled"] = Arm("invented", "mate")
ARMS["invented.four"] = Arm("invented", "four")
ARMS["invented.longer"] = Arm("invented", "", 1, LONGER)  # one seed
COMPARISONS = [
    ("retrieved", "base"),
    ("ceiling", "floor"),
    ("tuned", "base"),
    ("paraphrased", "tuned"),
    ("retrieved", "paraphrased"),
    ("paraphrased_retrieved", "retrieved"),
    ("raft", "retrieved"),
    ("raft_elsewhere", "retrieved"),
    ("longer", "tuned"),
]


@dataclass(frozen=True)
class Testbed:
    """Facts, and the questions about them: all in the first phrasing of `ASKED`, then all in the
    second.
    """

    facts: list[Dialog]
    questions: list[evaluation.ChoiceQuestion]


# --- the table ------------------------------------------------------------------------------------


def recompute(kept: dict[str, np.ndarray]) -> dict[str, evaluation.Metric]:
    """Every metric of the study, `<facts>.<system>.<metric>`, from what was picked and said.
    Intervals resample quartets of facts, with all their questions, and seeds; a difference has
    `repairs` and `breakages`, the shares of questions that its first or its second system alone has
    right."""
    systems: dict[str, dict[str, np.ndarray]] = {}
    for key, values in kept.items():
        name, facts, *arm = key.split(".")
        if arm:
            reads = "_retrieved" if name.startswith("read_") else ""
            systems.setdefault(f"{facts}.{arm[0]}{reads}", {})[name.removeprefix("read_")] = values
    marks = {
        system: mark_system(arrays, kept, system.split(".")[0])
        for system, arrays in systems.items()
    }
    metrics = {}
    for system, marked in marks.items():
        quartets = kept[f"quartet.{system.split('.')[0]}"]
        for name, values in marked.items():
            metrics[f"{system}.{name}"] = measure(
                values, group_rows(name, values.shape[1], quartets)
            )
        if "hit" in marked:
            found = marked["hit"][0]
            choice = marked["choice"]
            for name, columns in (("found", found), ("missed", ~found)):
                if columns.any():
                    metrics[f"{system}.choice_{name}"] = measure(
                        choice[:, columns], quartets[columns]
                    )
        if "general_loss" in marked and not system.endswith("base"):
            before = marks[f"{system.split('.')[0]}.base"]["general_loss"]
            change = (marked["general_loss"] - before) / before.mean()
            metrics[f"{system}.general_loss_change"] = evaluation.bootstrap_interval(change)
    for facts, (a, b) in itertools.product(("invented", "ontology"), COMPARISONS):
        if f"{facts}.{a}" in marks:
            pair = (marks[f"{facts}.{a}"]["choice"], marks[f"{facts}.{b}"]["choice"])
            metrics |= compare_systems(f"{facts}.{a}_minus_{b}", *pair, kept[f"quartet.{facts}"])
    return metrics


def compare_systems(
    name: str, a: np.ndarray, b: np.ndarray, by: np.ndarray
) -> dict[str, evaluation.Metric]:
    """The difference of two systems (seeds, questions) and its two parts."""
    return {
        f"{name}.choice": evaluation.compare_paired(a, b, by).difference,
        f"{name}.repairs": measure(a & ~b, by),
        f"{name}.breakages": measure(b & ~a, by),
    }


def measure(values: np.ndarray, groups: np.ndarray) -> evaluation.Metric:
    """A mean (seeds, rows) with its interval; Wilson's, over groups, where all rows are alike:
    resampling them would claim certainty."""
    if values.dtype == bool and values.mean() in (0, 1):
        alike = evaluation.wilson_interval(np.full(len(np.unique(groups)), values.flat[0]))
        return replace(alike, n=values.shape[1])
    return evaluation.bootstrap_interval(values, groups)


def group_rows(name: str, count: int, quartets: np.ndarray) -> np.ndarray:
    """What the rows of a metric are resampled by: the quartet of the fact they are about, a changed
    fact with both its questions, or a row by itself."""
    if name.startswith("changed"):
        return np.arange(count) % CHANGED
    if name.startswith("others"):
        return quartets[CHANGED : CHANGED + count]
    alone = name in ("choice_general", "general_loss", "abstained_unknown")
    return np.arange(count) if alone else quartets[:count]


def mark_system(
    arrays: dict[str, np.ndarray], kept: dict[str, np.ndarray], facts: str
) -> dict[str, np.ndarray]:
    """What every question counts (seeds, questions), by metric."""
    right = kept[f"right.{facts}"]
    expected = kept[f"expected.{facts}"]
    marks = {"choice": arrays["picked"] == right}
    for name in {"blind", "reworded"} & arrays.keys():
        marks[name] = arrays[name] == right[:PUBLISHED]
    if "hit" in arrays:
        marks["hit"] = arrays["hit"]
        marks["abstained_unknown"] = mark_abstention(arrays["said_unknown"])
    if "said" in arrays:
        marks["abstained"] = mark_abstention(arrays["said"])
        marks["exact"], marks["token_f1"] = mark_answers(arrays["said"], expected)
    if "general" in arrays:
        marks["choice_general"] = arrays["general"] == kept[f"right.{facts}_general"]
        marks["general_loss"] = arrays["losses"]
    for name in (name for name in arrays if name.startswith("changed_")):
        marks[f"{name}_new"] = arrays[name] == 0
        marks[f"{name}_old"] = arrays[name] == 1
    if "others_retrained" in arrays:
        asked = slice(CHANGED, CHANGED + WRITTEN)
        marks["others_before"] = marks["choice"][:, asked]
        marks["others_retrained"] = arrays["others_retrained"] == right[asked]
    return marks


def mark_abstention(said: np.ndarray) -> np.ndarray:
    """Whether answers (seeds, questions) begin by saying that the passages do not say."""
    words = evaluation.normalize_answer
    start = words(retrieval.ABSTAIN)
    return np.array([[words(text)[: len(start)] == start for text in row] for row in said])


def mark_answers(said: np.ndarray, expected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Exact matches of normalized answers (seeds, questions), and their F1."""
    words = evaluation.normalize_answer
    pairs = [list(zip(row, expected, strict=True)) for row in said]
    exact = [[words(text) == words(right) for text, right in row] for row in pairs]
    return np.array(exact), np.array(
        [[evaluation.score_token_f1(*pair) for pair in row] for row in pairs]
    )


# --- what is asked --------------------------------------------------------------------------------


@functools.cache
def load_embedder() -> retrieval.Embedder:
    """The laptop profile's encoder."""
    return retrieval.Embedder(load_study_profile(LESSON).encoder)


@functools.cache
def invent_spare() -> list[Dialog]:
    """Invented facts that are neither trained nor found, drugs and syndromes by turns as in the
    150.
    """
    rows = invent_facts(2 * PUBLISHED)[PUBLISHED:]
    return [ask("", row["definition"], row["term"]) for row in rows]


@functools.cache
def load_testbed(name: str) -> Testbed:
    """The facts "invented" or "ontology", with their questions."""
    facts = read_dialogs(FACTS) if name == "invented" else load_groups()["trained"][:PUBLISHED]
    vectors = load_embedder().embed([fact.answer for fact in facts])
    questions = []
    for seed, phrasing in enumerate(ASKED):
        questions += evaluation.build_choices(facts, vectors, seed, phrasing, quartets=True)
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
    """What is found for each question."""
    return [[passage for passage, _ in found] for found in open_index().search(questions, READ)]


def choose_passages(bed: Testbed, reads: str) -> list[list[retrieval.Passage]]:
    """What stands before each question of a testbed; nothing (an empty list) for ""."""
    if reads == "search":
        return search_passages([question.question for question in bed.questions])
    own = dict(
        zip((fact.answer for fact in bed.facts), retrieval.list_passages(bed.facts), strict=True)
    )
    offered = [[own[choice] for choice in question.choices] for question in bed.questions]
    if reads == "random":  # half the facts away and, among invented ones, of the same kind
        passages = list(own.values())
        away = len(own) // 4 * 2
        return [[passages[(number + away) % len(own)]] for number in range(len(bed.questions))]
    if reads in ("right", "mate"):
        step = int(reads == "mate")
        return [
            [four[(q.right + step) % 4]] for four, q in zip(offered, bed.questions, strict=True)
        ]
    return offered if reads == "four" else []


def ground(questions: list[str], passages: list[list[retrieval.Passage]]) -> list[str]:
    """The questions with their passages, or as they are where there are none."""
    return list(map(retrieval.ground_question, questions, passages)) if passages else questions


# --- arms -----------------------------------------------------------------------------------------


def run_arm(name: str, seed: int) -> ArmRun:
    """Carries one arm out. What draws nothing, or is run with one seed, is computed once."""
    arm = ARMS[name]
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
    arrays = sit(model, tokenizer, arm.facts, arm.reads)
    cost = {}
    if not arm.reads:
        arrays |= sit_general(model, tokenizer)
    if name == "invented.base":
        arrays["changed_memory"] = pick(model, tokenizer, ask_about_changes())
    if name == "invented.retrieved":
        asked, cost = ask_updated_index()
        arrays["changed_read"] = pick(model, tokenizer, asked)
    return ArmRun(arrays, describe_testbed(arm.facts), cost)


def train_arm(arm: Arm, seed: int) -> ArmRun:
    """Trains on the facts and sits the exams: from memory, and reading where passages belong to the
    arm.
    """
    model, tokenizer = load_decoder(load_study_profile(LESSON).decoder)
    model = add_lora(model, LoraConfig(**LORA), seed=seed)
    cost = teach(
        model, tokenizer, write_rows(arm, seed), {**SETTINGS, "seed": seed}, max_tokens=1024
    )
    both = arm.phrasings > 1 and arm.times == TIMES
    with torch.inference_mode(), compute_in(model, choose_precision()):
        arrays = sit(model, tokenizer, arm.facts, arm.reads) | sit_general(model, tokenizer)
        if both:
            read = sit(model, tokenizer, arm.facts, "search")
            arrays |= {f"read_{name}": values for name, values in read.items()}
    if both and arm.facts == "invented":
        changed, seconds = change_facts(model, tokenizer, seed)
        arrays = arrays | changed
        cost = cost | {"retrain_seconds": seconds}
    return ArmRun(arrays, describe_testbed(arm.facts), cost)


def write_rows(arm: Arm, seed: int) -> list[Dialog]:
    """The training examples of an arm."""
    facts = load_testbed(arm.taught or arm.facts).facts
    if arm.raft:
        asked = {fact.term for fact in load_testbed(arm.facts).facts} if arm.taught else set()
        rows = data.phrase_terms(facts, data.PHRASINGS, arm.times)
        return add_distractors(rows, seed, unseen=asked)
    rows = data.phrase_terms(facts, data.PHRASINGS[: arm.phrasings], arm.times)
    if not arm.wordings:
        return rows
    said = [[row["definition"], *row["wordings"][:-1]] for row in invent_facts(PUBLISHED)]
    return [
        ask(
            row.question,
            said[number % PUBLISHED][(number + number // PUBLISHED) % len(said[0])],
            row.term,
        )
        for number, row in enumerate(rows)
    ]


def add_distractors(rows: list[Dialog], seed: int, unseen: Collection[str] = ()) -> list[Dialog]:
    """The rows with passages before the question: the right one among those a search takes for it
    or, in a random fifth of the rows, those alone, with the answer that they do not say (after
    Zhang et al. 2024, whose model then answers from memory). No fact is left out twice; `unseen`
    terms distract nowhere."""
    random = np.random.default_rng(seed)
    found = open_index().search([r.question for r in rows], 3 * READ)
    terms = random.permutation(list(dict.fromkeys(row.term for row in rows)))
    times = len(rows) // len(terms)
    share = len(terms) // 5
    left_out = {(t, term) for t in range(times) for term in terms[t * share : (t + 1) * share]}
    grounded = []
    for number, (row, hits) in enumerate(zip(rows, found, strict=True)):
        wrong = [passage for passage, _ in hits if passage.name not in {row.term, *unseen}][:READ]
        right = retrieval.list_passages([row])[0]
        missing = (number // len(terms), row.term) in left_out
        passages = wrong if missing else [right, *wrong[: READ - 1]]
        passages = [passages[place] for place in random.permutation(READ)]
        grounded.append(
            ask(
                retrieval.ground_question(row.question, passages),
                retrieval.ABSTAIN if missing else row.answer,
            )
        )
    return grounded


# --- exams ----------------------------------------------------------------------------------------


def pick(
    model: Model, tokenizer: PreTrainedTokenizerBase, questions: list[evaluation.ChoiceQuestion]
) -> np.ndarray:
    """The number of the likeliest choice (questions)."""
    return evaluation.score_questions(model, tokenizer, questions, False).argmax(1).astype(np.int8)


def sit(
    model: Model, tokenizer: PreTrainedTokenizerBase, facts: str, reads: str
) -> dict[str, np.ndarray]:
    """What a model picks and says: `picked` (questions); with passages, whether they hold the
    answer (`hit`) and what is `said_unknown` of facts that stand nowhere; without, what it picks
    `blind`, not told the term; and what it `said` itself."""
    bed = load_testbed(facts)
    passages = choose_passages(bed, reads)
    asked = ground([question.question for question in bed.questions], passages)
    grounded = [replace(q, question=text) for q, text in zip(bed.questions, asked, strict=True)]
    arrays = {"picked": pick(model, tokenizer, grounded)}
    if reads == "search":
        terms = [fact.term for fact in bed.facts] * len(ASKED)
        hits = [
            term in {p.name for p in found} for term, found in zip(terms, passages, strict=True)
        ]
        unknown = [data.HELD_OUT.format(fact.term) for fact in invent_spare()[:WRITTEN]]
        unknown = ground(unknown, search_passages(unknown))
        arrays |= {"hit": np.array(hits), "said_unknown": say(model, tokenizer, unknown)}
    elif not reads:
        blind = [
            replace(q, question=data.HELD_OUT.format(data.BLIND))
            for q in bed.questions[: len(bed.facts)]
        ]
        arrays["blind"] = pick(model, tokenizer, blind)
    if facts == "invented" and reads in ("", "search", "four"):
        arrays["reworded"] = pick(model, tokenizer, reword_choices(grounded[: len(bed.facts)]))
    if reads in ("", "search"):
        arrays["said"] = say(model, tokenizer, asked[:WRITTEN])
    return arrays


def reword_choices(questions: list[evaluation.ChoiceQuestion]) -> list[evaluation.ChoiceQuestion]:
    """Questions about invented facts, answers worded as nothing that is trained or can be found."""
    worded = {row["definition"]: row["wordings"][-1] for row in invent_facts(PUBLISHED)}
    return [replace(q, choices=tuple(worded[choice] for choice in q.choices)) for q in questions]


def say(model: Model, tokenizer: PreTrainedTokenizerBase, questions: list[str]) -> np.ndarray:
    """The model's own answers (questions), as texts."""
    prompts = [render_chat(tokenizer, question) for question in questions]
    answers = generate_answers(model, tokenizer, prompts, max_new_tokens=48, progress=False)
    return np.array([answer.text for answer in answers])


@functools.cache
def load_general() -> evaluation.Exam:
    """Lesson 02's general questions and texts."""
    return evaluation.build_exam(
        {}, "", texts=evaluation.choose_texts("snippets:news", TEXTS), written=0
    )


def sit_general(model: Model, tokenizer: PreTrainedTokenizerBase) -> dict[str, np.ndarray]:
    """What training might make a model forget: `general` picks and `losses` of texts."""
    exam = load_general()
    losses = score_texts(model, tokenizer, exam.texts, progress=False)
    return {"general": pick(model, tokenizer, exam.general), "losses": losses}


def describe_testbed(facts: str) -> dict[str, np.ndarray]:
    """What answers are held against, and which questions share their choices: the same for all
    arms.
    """
    bed = load_testbed(facts)
    place = {fact.answer: number for number, fact in enumerate(bed.facts)}
    quartets = [min(place[choice] for choice in question.choices) for question in bed.questions]
    return {
        f"quartet.{facts}": np.array(quartets, np.int16),
        f"right.{facts}": np.array([q.right for q in bed.questions], np.int8),
        f"expected.{facts}": np.array([fact.answer for fact in bed.facts[:WRITTEN]]),
        f"right.{facts}_general": np.array([q.right for q in load_general().general], np.int8),
    }


# --- facts that change ----------------------------------------------------------------------------


def change_answers() -> list[Dialog]:
    """The first `CHANGED` invented facts with other answers, of the same kind."""
    pairs = zip(load_testbed("invented").facts[:CHANGED], invent_spare()[WRITTEN:], strict=False)
    return [ask(old.question, new.answer, old.term) for old, new in pairs]


def ask_about_changes() -> list[evaluation.ChoiceQuestion]:
    """The questions about changed facts: choice 0 is the new answer, 1 the old one."""
    bed = load_testbed("invented")
    new = change_answers()
    questions = []
    for number, question in enumerate(bed.questions):
        if number % PUBLISHED < CHANGED:
            wrong = [
                choice for place, choice in enumerate(question.choices) if place != question.right
            ]
            choices = (new[number % PUBLISHED].answer, question.choices[question.right], *wrong[:2])
            questions.append(evaluation.ChoiceQuestion(question.question, choices, 0))
    return questions


@functools.cache  # all seeds ask the same
def ask_updated_index() -> tuple[list[evaluation.ChoiceQuestion], dict[str, float]]:
    """These questions with what is found once the index has the changed facts; the seconds it
    took.
    """
    index = open_index()
    questions = ask_about_changes()
    before = list(index.passages.values())
    new = {passage.name: passage for passage in retrieval.list_passages(change_answers())}
    began = time.perf_counter()
    index.update([new.get(passage.name, passage) for passage in before])
    index.search(["a first question"], READ)  # makes the word index anew
    seconds = time.perf_counter() - began
    asked = [question.question for question in questions]
    asked = ground(asked, search_passages(asked))
    index.update(before)
    grounded = [replace(q, question=text) for q, text in zip(questions, asked, strict=True)]
    return grounded, {"index_update_seconds": seconds}


def change_facts(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, seed: int
) -> tuple[dict[str, np.ndarray], float]:
    """What a trained model picks once facts have changed: from memory, reading the updated index,
    and trained again on them; what it then picks for others (`others_retrained`); seconds of that
    training."""
    updated, _ = ask_updated_index()
    memory = pick(model, tokenizer, ask_about_changes())
    read = pick(model, tokenizer, updated)
    taught = data.phrase_terms(change_answers(), data.PHRASINGS, TIMES)
    cost = teach(model, tokenizer, taught, {**SETTINGS, "seed": seed}, max_tokens=1024)
    others = load_testbed("invented").questions[CHANGED : CHANGED + WRITTEN]
    retrained = pick(model, tokenizer, ask_about_changes())
    arrays = {"memory": memory, "read": read, "retrained": retrained}
    arrays = {f"changed_{name}": values for name, values in arrays.items()}
    return arrays | {"others_retrained": pick(model, tokenizer, others)}, cost["seconds"]
