"""Lessons as products: pairs that agree, cells that fit, figures that can be read, recipes that
match.
"""

import ast
import re

import nbformat
import pytest

from lessons_lib import training
from lessons_lib.course.pages import slugify
from lessons_lib.lessons import describe_cells, list_lessons, read_source
from lessons_lib.paths import NOTEBOOKS
from lessons_lib.studies import study_01, study_02, study_03, study_04, study_05

LESSONS = list_lessons()
each_lesson = pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(lesson):
    notebook = nbformat.read(lesson.with_suffix(".ipynb"), as_version=4)
    return [output for cell in code_cells(notebook) for output in cell.outputs]


@each_lesson
def test_pair_agrees(lesson):
    """Failing means students run other code than reviewers read: run `make notebooks`."""
    generated = nbformat.read(lesson.with_suffix(".ipynb"), as_version=4)
    assert describe_cells(generated) == describe_cells(read_source(lesson))


def test_pair_check_sees_a_changed_cell():
    """Failing means the pair check cannot fail."""
    source, changed = read_source(LESSONS[0]), read_source(LESSONS[0])
    code_cells(changed)[0].source += "\nx = 1"
    assert describe_cells(source) != describe_cells(changed)


@each_lesson
def test_cells_fit_on_a_screen(lesson):
    """Failing means a line of a cell runs out of the page."""
    for cell in code_cells(read_source(lesson)):
        for line in cell.source.splitlines():
            assert len(line) <= 88, line


@each_lesson
def test_enough_outputs_are_compared(lesson):
    """Failing means nbval runs the lesson but checks nothing."""
    tagged = [
        c
        for c in code_cells(read_source(lesson))
        if "nbval-check-output" in c.metadata.get("tags", [])
    ]
    assert len(tagged) >= 8


@each_lesson
def test_every_figure_has_alt_text(lesson):
    """Failing means a figure says nothing to those who cannot see it."""
    images = [o for o in outputs(lesson) if "image/png" in o.get("data", {})]
    assert images
    assert all(len(o.metadata["image/png"]["alt"].split()) >= 8 for o in images)


@each_lesson
def test_stored_outputs_are_clean(lesson):
    """Failing means the published page shows an error, a warning or a path of somebody's
    machine.
    """
    for output in outputs(lesson):
        assert output.output_type != "error"
        assert output.get("name") != "stderr", output.get("text")
        assert "/home/" not in str(output)
        assert "/site-packages/" not in str(output)


def assigned(lesson, names, scope):
    """What a lesson's top-level assignments to `names` evaluate to."""
    tree = ast.parse((NOTEBOOKS / f"{lesson}.py").read_text(encoding="utf-8"))
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in names:
            code = compile(ast.Expression(node.value), "cell", "eval")
            found.setdefault(node.targets[0].id, eval(code, {**vars(scope), **found}))
    return found


def test_notebook_and_study_use_the_same_recipes():
    """Failing means the study measures other recipes than the lesson teaches."""
    found = assigned(study_04.LESSON, ("CLASSIC", "TUNED"), study_04)
    assert found == {"CLASSIC": study_04.CLASSIC, "TUNED": study_04.TUNED}
    assert assigned(study_01.LESSON, ("BERT_LORA",), study_04) == {"BERT_LORA": study_04.TUNED}


def test_notebook_and_study_train_alike():
    """Failing means the study of lesson 02, 03 or 05 measures other settings than the lesson
    teaches.
    """
    assert assigned(study_02.LESSON, ("RECIPE",), training) == {"RECIPE": training.FACTS}
    names = ("LABEL", "HEAD", "QUESTION", "CONTENT_FREE")
    found = assigned(study_03.LESSON, names, study_03)
    assert tuple(found.pop("CONTENT_FREE")) == study_03.CONTENT_FREE
    assert found == {name: getattr(study_03, name) for name in names[:-1]}
    assert assigned(study_03.LESSON, ("BERT_LORA",), study_04) == {"BERT_LORA": study_04.TUNED}
    found = assigned(study_05.LESSON, ("TIMES", "READ", "ASKED"), study_05)
    assert (found.pop("ASKED"), found.pop("READ")) == (study_05.ASKED[0], study_05.READ)
    assert found == {"TIMES": study_05.LONGER}


def test_notebook_and_study_ask_the_same_question():
    """Failing means the study asks the decoder otherwise than the lesson shows."""
    found = assigned(study_01.LESSON, ("QUESTION", "SHOTS"), study_01)
    assert found == {"QUESTION": study_01.QUESTION, "SHOTS": study_01.SHOTS}


GLOSSARY = (NOTEBOOKS / "glossary.md").read_text(encoding="utf-8")
TERMS = re.findall(r"^## (.+)$", GLOSSARY, re.M)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]*)\)")
NO_PROSE = re.compile(r"^#+ .*$|`[^`]*`|\$[^$]*\$|<[^>]*>|https?://[^\s)]+", re.M)


def find_unlinked(prose, terms):
    """Terms whose first use in `prose` is no link to their entry, though the prose uses them."""
    blank = NO_PROSE.sub(lambda found: "-" * len(found[0]), prose)
    rest = LINK.sub(lambda link: "-" * len(link[0]), blank)
    unlinked = []
    for term in terms:
        words = r"[-\s]+".join(re.escape(word) for word in re.split(r"[-\s]", term))
        target = f"glossary.md#{slugify(term)}"
        found = [link.start() for link in LINK.finditer(blank) if link[1] == target]
        used = re.search(rf"(?<!\w){words}s?(?!\w)", rest, re.I)
        if used and not (found and found[0] < used.start()):
            unlinked.append(term)
    return unlinked


@each_lesson
def test_first_use_of_a_term_links_to_the_glossary(lesson):
    """Failing means a newcomer meets a word without the way to what it means."""
    cells = [cell.source for cell in read_source(lesson).cells if cell.cell_type == "markdown"]
    assert find_unlinked("\n\n".join(cells), TERMS) == []


def test_glossary_check_sees_what_is_missing():
    """Failing means the check above passes whatever a lesson says."""
    prose = (
        "# LoRA\n`loss` of a\ntoken, then [tokens](glossary.md#token); [NF4](glossary.md#nf4), NF4"
    )
    assert find_unlinked(prose, ["LoRA", "loss", "token", "NF4"]) == ["token"]


@each_lesson
def test_links_to_the_glossary_arrive(lesson):
    """Failing means a link leads to a word that the glossary does not have."""
    links = {
        link
        for link in LINK.findall(lesson.read_text(encoding="utf-8"))
        if link.startswith("glossary")
    }
    assert links
    assert links <= {f"glossary.md#{slugify(term)}" for term in TERMS}


def test_glossary_is_in_order_and_used():
    """Failing means a word cannot be found in the glossary, or is explained for no lesson."""
    assert sorted(TERMS, key=str.lower) == TERMS
    used = "".join(lesson.read_text(encoding="utf-8") for lesson in LESSONS)
    assert [term for term in TERMS if f"glossary.md#{slugify(term)})" not in used] == []
