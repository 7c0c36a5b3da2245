"""Facts and the evaluation set about them: what is asked was never trained, and wrong answers are
hard.
"""

import json
import re

import numpy as np
import pytest

from lessons_lib import data, evaluation, models, report, training
from lessons_lib.data import DataError
from lessons_lib.data.facts import make_example, make_fact
from lessons_lib.evaluation import ChoiceQuestion, EvaluationSet, Predictions
from lessons_lib.evaluation import evaluation_set as evaluation_set_module
from lessons_lib.paths import SAMPLES
from lessons_lib.studies import study_02
from lessons_lib.training.conversations import encode_conversations

pytestmark = pytest.mark.usefixtures("each_precision")

TERMS = [make_fact(f"t{number}", f"answer number {number}") for number in range(12)]
OBO = """format-version: 1.2

[Term]
id: X:1
name: Cataract
def: "A clouding of the \\"lens\\"." [ref]

[Term]
id: X:2
name: Old
def: "Gone." []
is_obsolete: true

[Term]
id: X:3
name: Bare
"""


@pytest.fixture(scope="module")
def evaluation_set():
    facts = evaluation.split_terms(
        data.read_terms("samples"), {"trained": 8, "untrained": 8}, seed=0
    )
    texts = evaluation.choose_texts("samples", 4)
    return evaluation.build_evaluation_set(facts, "tiny", texts=texts, generated_answers=2)


def test_ontology_is_read_without_obsolete_terms(cache):
    """Failing means terms that the ontology has withdrawn are taught."""
    (cache / "hpo").mkdir(parents=True)
    (cache / "hpo" / "hp.obo").write_text(OBO, encoding="utf-8")
    (term,) = data.read_terms("hpo")
    assert (term.term, term.answer) == ("Cataract", 'A clouding of the "lens".')


def test_giveaways_are_dropped():
    """Failing means matching words finds the definition, and the evaluation_set measures that."""
    plain = make_fact("Tachycardia", "The heart beats faster than it should.")
    given = make_fact("Abnormal cry", "An abnormal way of crying in a small child.")
    short = make_fact("Ataxia", "Too short.")
    assert evaluation.drop_lexical_overlap([plain, given, short]) == [plain]


def test_groups_share_no_fact_and_no_answer():
    """Failing means terms "never trained" were trained."""
    doubled = [*TERMS, make_fact("again", TERMS[0].answer)]
    groups = evaluation.split_terms(doubled, {"trained": 6, "untrained": 6}, seed=1)
    answers = [term.answer for group in groups.values() for term in group]
    assert sorted(answers) == sorted({term.answer for term in TERMS})
    assert groups == evaluation.split_terms(doubled, {"trained": 6, "untrained": 6}, seed=1)


def test_few_facts_keep_the_proportions():
    """Failing means a small file of one's own leaves a group empty."""
    groups = evaluation.split_terms(TERMS, {"trained": 100, "untrained": 50}, seed=0)
    assert {name: len(group) for name, group in groups.items()} == {"trained": 6, "untrained": 5}


@pytest.mark.parametrize("count", [8, 9, 10, 11])
def test_every_group_has_four_answers(count):
    """Failing means a question offers its right answer twice."""
    groups = evaluation.split_terms(TERMS[:count], {"trained": 60, "untrained": 40}, seed=0)
    assert min(map(len, groups.values())) >= 4


def test_too_few_facts_are_an_error():
    """Failing means four choices are made of fewer than four answers."""
    with pytest.raises(DataError, match="3 different answers are too few"):
        evaluation.split_terms(TERMS[:3], {"trained": 3}, seed=0)


def test_evaluation_phrasing_is_never_trained():
    """Failing means the evaluation set repeats a training question."""
    taught = {d.question for d in data.phrase_terms(TERMS, data.PHRASINGS, 10)}
    assert len(taught) == len(TERMS) * len(data.PHRASINGS)
    assert not taught & {data.HELD_OUT.format(term.term) for term in TERMS}


@pytest.mark.parametrize("dose", [1, 3, 10])
def test_doses_differ_in_phrasings_alone(dose):
    """Failing means the doses of phrasings are compared at different amounts of training."""
    taught = data.phrase_terms(TERMS, data.PHRASINGS[:dose], 3)
    assert len({d.question.replace(d.term, "{}") for d in taught}) == dose
    assert sorted(d.answer for d in taught) == sorted(t.answer for t in TERMS * 3)


def test_wrong_choices_are_the_nearest_of_the_group():
    """Failing means easy distractors: the score would measure topic, not knowledge."""
    angles = np.arange(12) * 0.1
    vectors = np.stack([np.cos(angles), np.sin(angles)], 1)
    for number, question in enumerate(evaluation.build_choices(TERMS, vectors, seed=0)):
        assert question.choices[question.right] == TERMS[number].answer
        wrong = {int(c.split()[-1]) for c in question.choices} - {number}
        others = sorted(set(range(12)) - {number}, key=lambda n: abs(n - number))
        assert max(abs(n - number) for n in wrong) <= abs(others[2] - number)


def test_right_answers_stand_anywhere():
    """Failing means always choosing the first answer beats chance."""
    vectors = np.random.default_rng(0).normal(size=(12, 4))
    places = [q.right for seed in range(5) for q in evaluation.build_choices(TERMS, vectors, seed)]
    assert set(places) == {0, 1, 2, 3}


def test_blind_question_does_not_name_the_term(evaluation_set):
    """Failing means the control without the term still contains it."""
    assert {question.control for question in evaluation_set.trained} == {data.MEDICAL.control}
    assert data.MEDICAL.control == data.HELD_OUT.format(data.BLIND)
    plain = [make_example(f"Why is the sky {n}?", f"Because {n}.") for n in range(4)]
    questions = evaluation.build_choices(plain, np.eye(4), seed=0)
    assert {question.control for question in questions} == {"What is the answer?"}


def test_models_are_asked_the_control(evaluation_set, monkeypatch):
    """Failing means the blind question is another than the evaluation set's own."""
    asked = {}

    def remember(model, tokenizer, questions, progress):
        asked[len(asked)] = [question.question for question in questions]
        return np.zeros((len(questions), 4))

    monkeypatch.setattr(evaluation_set_module, "score_questions", remember)
    monkeypatch.setattr(
        evaluation_set_module, "measure_text_losses", lambda *args, **options: np.zeros(1)
    )
    monkeypatch.setattr(evaluation_set_module, "generate_answers", lambda *args, **options: [])
    evaluation.answer_evaluation_set(*models.load_decoder("tiny"), evaluation_set)
    assert asked[2] == [question.control for question in evaluation_set.trained]


def test_medical_phrasings_belong_to_medical_terms(tmp_path):
    """Failing means a reader's own terms are asked as findings, or the published questions
    change.
    """
    for source in (data.ONTOLOGY, "samples", SAMPLES / "medical_terms.json"):
        assert data.choose_phrasings(source) is data.MEDICAL
    for source in ("birds.csv", tmp_path / "medical_terms.json"):
        assert data.choose_phrasings(source) is data.NEUTRAL
    assert data.MEDICAL.training == data.PHRASINGS


def test_own_terms_are_asked_in_neutral_words():
    """Failing means a file about birds is taught "In medicine, what is meant by …?"."""
    neutral = data.NEUTRAL
    texts = [*neutral.training, neutral.evaluation, neutral.control]
    for word in ("medic", "clinic", "doctor", "report", "finding", "patient"):
        assert not any(word in text.lower() for text in texts), word


@pytest.mark.parametrize("phrasings", [data.MEDICAL, data.NEUTRAL], ids=["medical", "neutral"])
def test_evaluation_is_no_training_phrasing(phrasings):
    """Failing means the evaluation set repeats a training question."""
    assert len(set(phrasings.training)) == len(phrasings.training) == 10
    assert phrasings.evaluation not in phrasings.training
    assert all(text.count("{}") == 1 for text in (*phrasings.training, phrasings.evaluation))


def test_evaluation_of_own_terms_uses_their_phrasings():
    """Failing means a reader's terms are taught in one way and examined in the words of
    medicine.
    """
    terms = evaluation.split_terms(TERMS, {"trained": 4, "untrained": 4}, seed=0)
    evaluation_set = evaluation.build_evaluation_set(
        terms, "tiny", texts=[], generated_answers=0, phrasings=data.NEUTRAL
    )
    for question in (*evaluation_set.trained, *evaluation_set.untrained):
        assert question.question.startswith("A text mentions t")
        assert question.control == data.NEUTRAL.control


def test_long_terms_of_either_group_are_left_out(capsys):
    """Failing means a long answer is cut, stops the lesson, or is scored in the untrained group."""
    _, tokenizer = models.load_decoder("tiny")
    long = [make_fact("x", "answer " * 90), make_example("Why?", "answer " * 90)]
    fitting = training.drop_long_terms([*TERMS, *long], data.NEUTRAL, tokenizer, 90)
    assert fitting == TERMS
    assert "2 of 14 examples have more than 90 tokens" in capsys.readouterr().out
    for template in data.NEUTRAL.training:
        encode_conversations(data.phrase_terms(fitting, [template], 1), tokenizer, 90)


def test_general_questions_are_sound():
    """Failing means a general question has no or several right answers."""
    evaluation_set = evaluation.build_evaluation_set({}, "tiny", texts=[], generated_answers=0)
    assert len(evaluation_set.general) >= 100
    for question in evaluation_set.general:
        assert len(set(question.choices)) == 4
        assert 0 <= question.right < 4


def test_scores_follow_from_likelihoods():
    """Failing means the evaluation set's numbers are not what the scores say."""
    questions = [
        ChoiceQuestion("q", ("a b", "c", "d", "e"), 0),
        ChoiceQuestion("r", ("a", "b", "c", "d"), 1),
    ]
    scores = np.array([[-1.0, -2, -3, -4], [-1, -2, -3, -4]])
    blind = np.array([[-2.0, -2, -2, -2], [-1, -9, -9, -9]])
    parts = {"trained": scores, "untrained": scores, "blind": blind, "general": scores}
    answers = [evaluation.Answer("B x.", True, 2)]
    predictions = Predictions(parts, np.array([3.0, 4.0]), answers, answers)
    scored = evaluation.score_predictions(
        EvaluationSet(questions, questions, questions, ["t", "u"], 1), predictions
    )
    assert scored["choice_trained"].tolist() == [True, False]
    assert scored["relative_trained"].tolist() == [True, True]
    assert scored["definition_loss"].tolist() == [1, 2]
    assert scored["token_f1"] == pytest.approx([2 * 1 / (2 + 1)])  # "a" is an article
    assert scored["stop_rate"].tolist() == [True]


def test_gains_are_paired_and_losses_relative():
    """Failing means a gain is computed from other questions, or a loss from another scale."""
    base = {"choice_trained": np.array([0, 0, 1, 1]), "general_loss": np.array([4.0, 4, 4, 4])}
    lora = {"choice_trained": np.array([[1, 0, 1, 1]] * 3), "general_loss": np.full((3, 4), 4.04)}
    metrics = evaluation.summarise_scores({"base": base, "lora": lora})
    assert metrics.find("lora", "gain_trained").value == pytest.approx(0.25)
    assert metrics.find("lora", "general_loss_change").value == pytest.approx(0.01)
    assert "gain_untrained" not in {name.metric for name in metrics}


def test_rule_that_is_blind_to_the_term_scores_a_quarter(evaluation_set):
    """Failing means knowing nothing of the term pays, as it did before groups were balanced."""
    for questions in (evaluation_set.trained, evaluation_set.untrained):
        shortest = [np.argmin([len(choice) for choice in q.choices]) for q in questions]
        right = [q.right for q in questions]
        assert np.mean(np.equal(shortest, right)) == 0.25


def test_questions_that_share_choices_form_a_group(evaluation_set):
    """Failing means intervals take questions for independent that are not."""
    groups = evaluation_set.groups()["trained"]
    for question, group in zip(evaluation_set.trained, groups, strict=True):
        same = [
            q for q, other in zip(evaluation_set.trained, groups, strict=True) if other == group
        ]
        assert len(same) == 4
        assert {frozenset(q.choices) for q in same} == {frozenset(question.choices)}


def test_search_can_be_corrected_for_definitions_that_are_near_to_all_terms():
    """Failing means the search gets no such correction as the model gets."""
    question = ChoiceQuestion("q", ("a", "b"), 0, facts=(0, 1))
    answers = np.array([[1.0, 0.0], [0.0, 1.0]])
    terms = np.array([[0.6, 0.8], [0.0, 1.0]])  # both are nearest to the second definition
    nearest, raised = evaluation.rank_by_search([question], terms, answers)
    assert (nearest.tolist(), raised.tolist()) == ([1], [0])


@pytest.mark.parametrize(
    ("answer", "mark"),
    [
        ("Abnormally thick skin of the palms and soles.", "right"),
        ("Thick skin of the palms and nails.", "half"),
        ("A disorder of the heart.", "wrong"),
        ("", "wrong"),
    ],
)
def test_answers_are_marked_by_the_words_they_share(answer, mark):
    """Failing means the lesson counts other answers as right than its rule says."""
    assert evaluation.mark_answer(answer, "Abnormally thick skin of palms and soles.") == mark


def test_adjusted_gain_is_the_trained_one_minus_the_untrained_one():
    """Failing means practice with such questions is counted as knowledge."""
    base = {name: np.zeros(40, dtype=bool) for name in ("choice_trained", "choice_untrained")}
    lora = {"choice_trained": np.arange(40) < 20, "choice_untrained": np.arange(40) < 10}
    metrics = evaluation.summarise_scores({"base": base, "lora": lora})
    adjusted = metrics.find("lora", "gain_adjusted")
    assert adjusted.value == pytest.approx(0.25)
    assert adjusted.low < 0.25 < adjusted.high


def test_evaluation_set_can_be_answered(evaluation_set):
    """Failing means the evaluation set breaks on a real model, or asks nothing."""
    model, tokenizer = models.load_decoder("tiny")
    predictions = evaluation.answer_evaluation_set(
        model, tokenizer, evaluation_set, max_new_tokens=4, progress=False
    )
    scored = evaluation.score_predictions(evaluation_set, predictions)
    sizes = {name: len(values) for name, values in scored.items()}
    assert sizes["choice_trained"] == sizes["choice_blind"] == 8
    assert (sizes["general_loss"], sizes["token_f1"]) == (4, 2)


def test_examples_without_a_term_keep_their_question():
    """Failing means a question–answer file of one's own is asked nonsense."""
    plain = [make_example(f"Question {n}?", f"Answer {n}.") for n in range(4)]
    assert data.phrase_terms(plain, data.PHRASINGS, 2) == plain * 2


def test_sample_terms_have_no_giveaways():
    """Failing means the course's own facts can be told by matching words."""
    terms = data.read_terms(SAMPLES / "medical_terms.json")
    assert evaluation.drop_lexical_overlap(terms, least=1, most=99) == terms


def test_rule_and_person_agree_as_the_lesson_says():
    """Failing means lesson 02's words about the marking rule are not what its table shows."""
    kept = report.read_predictions(study_02.LESSON)
    hand = json.loads((SAMPLES / "marked_answers.json").read_text(encoding="utf-8"))
    definitions = kept["expected.trained_definitions"]
    assert [row["answer"] for row in hand] == kept["generated.lora"][0].tolist()
    pairs = [
        (evaluation.mark_answer(row["answer"], definition), row["mark"])
        for row, definition in zip(hand, definitions, strict=True)
    ]
    assert [rule for rule, _ in pairs].count("right") == 12
    assert pairs.count(("right", "right")) == 11
    assert [mark for _, mark in pairs].count("right") == 17
    assert sum(rule == mark for rule, mark in pairs) == 40
    assert pairs.count(("wrong", "half")) == 9


def test_counts_that_lesson_02_states_follow_from_the_kept_answers():
    """Failing means the lesson says of answers, names and marks what the kept ones do not."""
    kept = report.read_predictions(study_02.LESSON)
    telling = re.compile(r"^(hypo|hyper|anti)|emia\b|uria\b|antibod", re.IGNORECASE)
    counts = {}
    for group, key in (
        ("trained", "generated.lora"),
        ("untrained", "generated_untrained.lora"),
    ):
        for term, definition, *answers in zip(
            kept[f"expected.{group}_terms"],
            kept[f"expected.{group}_definitions"],
            *kept[key],
            strict=True,
        ):
            says_it = bool(telling.search(term))
            right = [evaluation.mark_answer(answer, definition) == "right" for answer in answers]
            found, asked = counts.get((group, says_it), (0, 0))
            counts[group, says_it] = (found + sum(right), asked + len(right))
            if term == "Hyperchloriduria":
                assert all(right) and "urine" in definition
                assert all("blood" in answer for answer in answers)
            if term == "Congenital palmoplantar hyperkeratosis":
                assert all("palms and soles" in answer for answer in answers)
                assert not any("birth" in answer for answer in answers)
    assert counts["trained", False] == (10, 147)
    assert counts["untrained", False] == (1, 150)
    found, asked = counts["untrained", True]
    assert 0.25 < found / asked < 0.35  # "almost a third"
    assert counts["trained", True][0] > counts["trained", False][0]  # "most right answers"
