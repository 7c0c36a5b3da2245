"""Lesson 05's experiment: facts nobody can know, questions no taste can answer, a table that adds
up.
"""

import json
from collections import Counter

import numpy as np
import pytest

from lessons_lib import data, evaluation, report
from lessons_lib.data.facts import read_conversations
from lessons_lib.data.phrasings import HELD_OUT, PHRASINGS
from lessons_lib.retrieval import ABSTAIN, Passage, list_passages
from lessons_lib.studies import invent, study_05


@pytest.fixture(scope="module")
def facts():
    return read_conversations(invent.FACTS)


@pytest.fixture(scope="module")
def published():
    return report.read_results(study_05.LESSON, "study")


@pytest.fixture(scope="module")
def questions(facts):
    vectors = np.random.default_rng(0).normal(size=(len(facts), 8))
    return evaluation.build_choices(facts, vectors, seed=0, balanced=True)


def test_published_facts_are_what_the_generator_writes():
    """Failing means the facts of the course were edited: run `python -m
    lessons_lib.studies.invent`.
    """
    assert json.loads(invent.FACTS.read_text(encoding="utf-8")) == invent.invent_facts(
        invent.PUBLISHED
    )


def test_no_fact_is_invented_twice():
    """Failing means settings were chosen on facts that are asked, or one name has two
    definitions.
    """
    rows = invent.invent_facts(2 * invent.PUBLISHED)
    assert rows[: invent.PUBLISHED] == invent.invent_facts(invent.PUBLISHED)
    for field in ("term", "definition"):
        assert len({row[field].lower() for row in rows}) == len(rows)


def test_names_say_nothing_about_definitions():
    """Failing means a question can be answered from the name: a word of it stands in the
    definition.
    """
    for row in invent.invent_facts(invent.PUBLISHED):
        name = set(row["term"].lower().split()) - {"syndrome"}
        assert not name & set(" ".join([row["definition"], *row["wordings"]]).lower().split())


def test_wordings_say_the_same_in_other_words():
    """Failing means the reworded choices are the trained sentences after all."""
    for row in invent.invent_facts(invent.PUBLISHED):
        texts = [row["definition"], *row["wordings"]]
        assert len({text[:12] for text in texts}) == len(texts) == 4


def test_a_taste_for_answers_is_right_in_one_of_four(questions):
    """Failing means who knows nothing does better, or worse, than chance."""
    random = np.random.default_rng(1)
    asked = questions[:-2]  # the last two are left over
    taste = {choice: random.random() for question in questions for choice in question.choices}
    right = [q.choices.index(max(q.choices, key=taste.get)) == q.right for q in asked]
    assert abs(np.mean(right) - 0.25) < 0.02


def test_answers_are_right_once_and_wrong_three_times(questions):
    """Failing means an answer's mere frequency tells whether it is right."""
    wrong = Counter(c for q in questions for n, c in enumerate(q.choices) if n != q.right)
    assert sum(count != 3 for count in wrong.values()) <= 8  # the two left over borrow
    assert max(wrong.values()) <= 5


def test_no_closed_book_prompt_holds_its_answer(facts, questions):
    """Failing means the closed-book arms read the answer."""
    for fact, question in zip(facts, questions, strict=True):
        assert fact.answer.lower() not in question.question.lower()
        assert question.choices[question.right] == fact.answer


def test_questions_are_asked_in_phrasings_never_trained():
    """Failing means the exam repeats a training question."""
    assert HELD_OUT in study_05.ASKED
    assert not set(study_05.ASKED) & set(PHRASINGS)


def test_reworded_choices_were_never_trained(monkeypatch, facts):
    """Failing means rewording tests the memory of a sentence."""
    bed = study_05.Testbed(facts, [])
    monkeypatch.setattr(study_05, "load_testbed", lambda name: bed)
    arm = study_05.ARMS["invented.paraphrased"]
    trained = {row.answer for row in study_05.list_training_rows(arm, 0)}
    assert len(trained) == 3 * len(facts)
    assert not trained & {row["wordings"][-1] for row in invent.invent_facts(len(facts))}


def test_every_arm_meets_every_fact_equally_often(monkeypatch, facts):
    """Failing means the arms differ in how much they were trained."""
    monkeypatch.setattr(study_05, "load_testbed", lambda name: study_05.Testbed(facts, []))
    for arm in ("invented.tuned", "invented.paraphrased"):
        met = Counter(row.term for row in study_05.list_training_rows(study_05.ARMS[arm], 0))
        assert set(met.values()) == {study_05.TIMES}


def test_distractors_are_wrong_and_abstaining_rows_have_no_answer(monkeypatch, facts):
    """Failing means RAFT is taught to abstain with the answer before its eyes, or to answer without
    it.
    """

    class Index:
        def search(self, questions, k):
            near = [Passage(fact.term, f"{fact.term}: {fact.answer}") for fact in facts[: k + 2]]
            return [[(passage, 1.0) for passage in near[:k]] for _ in questions]

    monkeypatch.setattr(study_05, "open_index", Index)
    rows = data.phrase_terms(facts[:20], PHRASINGS, 2)
    grounded = study_05.add_distractors(rows, seed=0)
    for row, before in zip(grounded, rows, strict=True):
        passages = row.question.split("\n\n")[0].split("\n")
        assert len(passages) == study_05.READ
        assert (f"{before.term}: {before.answer}" in row.question) == (row.answer != ABSTAIN)
    left_out = [
        before.term for row, before in zip(grounded, rows, strict=True) if row.answer == ABSTAIN
    ]
    assert len(left_out) == len(set(left_out)) == 8  # a fifth of each pass, and no fact twice


def test_raft_elsewhere_never_meets_the_facts_it_is_asked(monkeypatch, facts):
    """Failing means what looks like reading may be remembering."""
    asked, taught = facts[:20], facts[20:]
    beds = {"invented": study_05.Testbed(asked, []), "ontology": study_05.Testbed(taught, [])}

    class Index:
        def search(self, questions, k):
            return [
                [(passage, 1.0) for passage in list_passages(facts)[15 : 15 + k]] for _ in questions
            ]

    monkeypatch.setattr(study_05, "load_testbed", beds.__getitem__)
    monkeypatch.setattr(study_05, "open_index", Index)
    rows = study_05.list_training_rows(study_05.ARMS["invented.raft_elsewhere"], 0)
    assert len(rows) == study_05.RAFT_TIMES * len(taught)
    assert not any(
        fact.term in row.question or fact.answer == row.answer for row in rows for fact in asked
    )


@pytest.mark.parametrize(
    ("reads", "terms"), [("oracle", 0), ("distractor", 1), ("choices", None), ("random", None)]
)
def test_passages_are_those_the_arm_names(facts, reads, terms):
    """Failing means ceiling, floor or a control read something else than they say."""
    vectors = np.random.default_rng(0).normal(size=(len(facts), 8))
    asked = evaluation.build_choices(facts, vectors, seed=0, balanced=True)
    bed = study_05.Testbed(facts, asked)
    kinds = {fact.term: fact.term.endswith("syndrome") for fact in facts}
    for fact, question, read in zip(
        facts, asked, study_05.choose_passages(bed, reads), strict=True
    ):
        names, answers = {p.name for p in read}, {p.text.partition(": ")[2] for p in read}
        assert (fact.term in names) == (reads in ("oracle", "choices"))
        if reads == "choices":
            assert answers == set(question.choices)
        elif reads == "random":
            assert kinds[read[0].name] == kinds[fact.term]
            assert not answers & set(question.choices), "a wrong choice's passage is no floor"
        else:
            assert answers == {question.choices[(question.right + terms) % 4]}


def test_abstaining_is_recognised():
    """Failing means abstentions are counted as answers, or answers as abstentions."""
    said = np.array(
        [["The passages do not say.", "the passages do not say anything", "It is a drug."]]
    )
    assert study_05.score_abstention(said).tolist() == [[True, True, False]]


def test_threshold_is_chosen_on_other_questions():
    """Failing means a refusal was tuned on the very questions that it is then praised for."""
    arrays = {
        "known": np.array([[0.9, 0.6, 0.2]]),
        "unknown": np.array([[0.55, 0.1]]),
        "tuning_known": np.array([[0.8, 0.7, 0.6]]),
        "tuning_unknown": np.array([[0.5, 0.4]]),
    }
    scores = study_05.score_threshold(arrays)
    assert scores["abstained"].tolist() == [[False, False, True]]
    assert scores["abstained_unknown"].tolist() == [[True, True]]


def test_half_of_the_refusing_rows_have_no_answer(monkeypatch, facts):
    """Failing means the arm that learns to refuse meets some questions only with their answer, and
    may refuse by name."""

    class Index:
        def search(self, questions, k):
            hits = [(passage, 1.0) for passage in list_passages(facts)[20 : 20 + k]]
            return [hits for _ in questions]

    monkeypatch.setattr(study_05, "open_index", Index)
    rows = data.phrase_terms(facts[:20], PHRASINGS, 4)
    grounded = study_05.add_distractors(rows, seed=0, unanswered=0.5)
    refused = Counter(
        row.term for row, after in zip(rows, grounded, strict=True) if after.answer == ABSTAIN
    )
    assert set(refused.values()) == {2}
    assert len(refused) == 20


def test_answers_are_marked_exactly_and_by_words():
    """Failing means a right answer counts as wrong for its full stop, or a wrong one as right."""
    exact, f1 = study_05.score_answers(
        np.array([["a drug!", "drug now"]]), np.array(["The drug", "drug"])
    )
    assert exact.tolist() == [[True, False]]
    assert f1.tolist() == [[1.0, pytest.approx(2 / 3)]]


def test_questions_that_share_choices_are_resampled_together():
    """Failing means intervals are too narrow: one quartet's eight questions count as eight
    facts.
    """
    kept = report.read_predictions(study_05.LESSON)
    for facts_name in ("invented", "ontology"):
        quartets = kept[f"quartet.{facts_name}"]
        assert (quartets[: study_05.PUBLISHED] == quartets[study_05.PUBLISHED :]).all()
        sizes = Counter(quartets.tolist()).values()
        assert sum(size != 8 for size in sizes) <= 2  # two of 150 are left over
    assert len(set(study_05.group_rows("choice_general", 104, quartets))) == 104
    assert len(set(study_05.group_rows("changed_memory_new", 30, quartets))) == 15


def test_all_right_is_not_called_certain():
    """Failing means an arm without a mistake gets an interval of no width."""
    metric = evaluation.measure_mean(np.ones((3, 40), dtype=bool), np.arange(40) // 4)
    assert metric.value == metric.high == 1
    assert metric.low < 0.75
    assert metric.n == 40


def test_changed_answers_change_the_table(published):
    """Failing means the recomputation above cannot fail."""
    kept = report.read_predictions(study_05.LESSON)
    kept["picked.invented.retrieved"] = (kept["picked.invented.retrieved"] + 1) % 4
    changed = study_05.recompute(kept).find("retrieved", "choice", subset="invented")
    assert changed != published.find("retrieved", "choice", subset="invented")


def test_lesson_05_keeps_what_it_promises(published):
    """Failing means the study no longer shows what the lesson says of it."""
    base = published.find("base", "choice", subset="invented")
    assert base.low <= 0.25 <= base.high
    gained = published.find("ceiling", "choice", subset="invented", minus="floor")
    assert gained.value >= 0.20
    for system in ("base", "tuned", "paraphrased", "longer"):
        blind = published.find(system, "blind", subset="invented")
        assert blind.low <= 0.25 <= blind.high, system
    for arm, description in study_05.ARMS.items():
        if description.threshold:
            continue  # it chooses nothing
        system, facts = study_05.name_arm(arm)
        assert published.find(system, "choice", subset=facts).n == 2 * study_05.PUBLISHED, arm


def test_prose_on_written_answers_follows_from_what_was_written():
    """Failing means the lesson says of the seeds and kinds of facts what the kept answers do
    not.
    """
    kept = report.read_predictions(study_05.LESSON)
    longer, elsewhere = (
        study_05.score_answers(kept[f"said.invented.{way}"], kept["expected.invented"])[0]
        for way in ("longer", "raft_elsewhere")
    )
    assert longer[:, ::2].all() and not longer[:, 1::2].any()
    worst, middle, best = sorted(elsewhere.mean(1))
    assert worst < 0.4 and middle > 0.7 and best > 0.9
    repeated = [
        sum("letter from the clinic" in text for text in row)
        for row in kept["said_unknown.invented.raft_elsewhere"]
    ]
    assert max(repeated) > 40 and sorted(repeated)[1] < 10  # one seed nearly always


def test_prose_on_memory_and_reading_follows_from_the_kept_picks():
    """Failing means lesson 05 explains why a trained model reads worse by what did not happen."""
    kept = report.read_predictions(study_05.LESSON)
    right = kept["right.invented"]
    memory = kept["picked.invented.paraphrased"]
    reading = kept["read_picked.invented.paraphrased"]
    untrained = (kept["picked.invented.retrieved"] == right).mean()
    remembered = memory == right
    assert (reading == right)[remembered].mean() < untrained
    wrong = (reading != right) & ~remembered
    assert (reading == memory)[wrong].mean() > 0.5
