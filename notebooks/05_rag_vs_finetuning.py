# %% [markdown]
# # Lesson 05 · RAG against fine-tuning, as an experiment
#
# [![Open in Colab](open_in_colab.svg)](https://colab.research.google.com/github/your-account/fine-tuning-lessons/blob/main/notebooks/05_rag_vs_finetuning.ipynb)
#
# **You will be able to**
#
# 1. find [passages](glossary.md#passage) by their words, by their meaning and by both,
#    and measure how often the right one is found;
# 2. keep an index up to date, and put a folder of your own into it;
# 3. compare a model that reads with a model that was trained: same model, same questions,
#    same facts, with a [ceiling](glossary.md#ceiling) and a [floor](glossary.md#floor);
# 4. tell knowing a fact from remembering a sentence, and from guessing well;
# 5. choose between reading, training and both from numbers, for a case of your own.
#
# **You need** Python, lesson 02's [chat template](glossary.md#chat-template), choices by
# [likelihood](glossary.md#likelihood) and [LoRA](glossary.md#lora).
#
# **Words that come back** (links lead to the glossary). *Retrieval-augmented generation*,
# [RAG](glossary.md#rag): search first, put what was found into the
# [prompt](glossary.md#prompt), and let the model answer. *Passage*: a piece of text that
# can be found. *[Embedding](glossary.md#embedding)*: a vector for a text. *Index*:
# vectors arranged for search. *[hit@k](glossary.md#hitk)*: the share of questions whose
# right passage is among the first k. *[Closed-book](glossary.md#closed-book)*: asked
# without passages. *Ceiling, floor*: asked with the right passage alone, with one about
# something else. *[Distractor](glossary.md#distractor)*: a wrong answer, or passage, that
# looks right. *[Quartet](glossary.md#quartet)*: four facts that offer each other's
# definitions as choices. *[Abstain](glossary.md#abstain)*: to say that the passages do
# not hold the answer. *[Repairs](glossary.md#repair), [breakages](glossary.md#breakage)*:
# questions one system alone gets right, or wrong.

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
import tempfile
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

from lessons_lib.hardware import choose_precision
from lessons_lib.profiles import load_profile
from lessons_lib.training import mixed_precision_lora, train

# %% [markdown]
# ## What runs here
#
# The same notebook asks [Llama-2](glossary.md#llama) in the `gpu` profile. `laptop` takes
# a small model of the same architecture from the Python package index, `smoke` a tiny
# random one, to test the code.

# %%
LESSON = "05_rag_vs_finetuning"
SEED = 0
profile = load_profile(LESSON)
folder = Path(f"../build/runs/{LESSON}")
models.quiet_libraries()
report.use_course_style()
pd.set_option("display.precision", 3, "display.max_colwidth", 90)
decoder_name = models.resolve_decoder(profile.decoder, profile.fallback_decoder)
published = report.find_results(LESSON, "laptop")
study = report.find_results(LESSON, "study")
bench = report.find_results(LESSON, "bench")
print(f"profile  {profile.name}")
print(f"decoder  {decoder_name}")
print(f"embedder {profile.encoder}")
print(f"searched {profile.terms}; {profile.trained_terms} invented facts to teach")
if published:
    print(f"laptop   {published.seconds:.0f} s and {published.peak_mb:,.0f} MB on")
    print(
        f"         {published.machine['cpu']}, {published.machine['threads']} threads"
    )

# %% [markdown]
# In the laptop profile the [decoder](glossary.md#decoder) is
# [SmolLM2-135M-Instruct](https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct)
# (Apache-2.0), a Llama of 135 million weights that were stored in 4 bit once; the
# embedder is
# [all-MiniLM-L6-v2](https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2)
# (Apache-2.0). What is searched are the definitions of the Human Phenotype Ontology
# (release 2025-01-16; licence and citation in `data/cards/hpo.md`). A folder of your own
# is searched instead with `make course LESSON=05 DATA=my_folder`. What is marked "study"
# is the laptop profile's, three [seeds](glossary.md#seed), whatever you run here. Nothing
# here is medical advice.
#
# ## 1 · Facts that nobody can know
#
# Ask a model about real terms and you cannot tell what it learned from you from what it
# read elsewhere. So this course has facts of its own: 150 drugs and syndromes. Names were
# put together from syllables, and definitions from hand-written parts, by chance: beyond
# "drug" or "syndrome", a name says nothing about its definition. We know of none that
# exists.

# %% tags=["nbval-check-output"]
source = Path("../data/samples/invented_facts.json")
invented = data.read_conversations(source)
for fact in invented[:2]:
    print(f"{fact.term}: {fact.answer}\n   also worded: {fact.paraphrases[0]}")
print(len(invented), "facts")

# %% [markdown]
# A question has four choices, definitions all. The model is not shown them: each is
# scored as if it were the answer, and the one with the highest mean log-probability a
# [token](glossary.md#token) is its pick (lesson 02). So it always picks one. Wrong
# choices must be hard, and must not be wrong *by their sound*: a definition that is
# offered often and right once would be a safe one to avoid. So four facts that are alike
# form a **quartet**, and offer each other's definitions: each is right once and wrong
# three times. Whoever picks what sounds best, without knowing the name, is right in one
# of four (150 leaves two facts over, which borrow their choices):

# %% tags=["nbval-check-output"]
circle = np.array([[np.cos(a), np.sin(a)] for a in np.arange(8)])
eight = [data.make_fact(f"name {n}", f"definition {n}") for n in range(8)]
quiz = evaluation.build_choices(eight, circle, seed=0, balanced=True)
picks = [q.choices.index(max(q.choices)) for q in quiz]  # the last by alphabet
hits = sum(pick == q.right for pick, q in zip(picks, quiz, strict=True))
print(f"a guesser with a taste of its own: {hits} of {len(quiz)}")
print("one question's choices:", sorted(quiz[0].choices))

# %% [markdown]
# ## 2 · Finding passages by their words
#
# [BM25](glossary.md#bm25) (Robertson & Walker 1994) adds up, over the words of the
# question, how *rare* the word is among passages times how much the passage is *about*
# it: the second rises with every occurrence, ever more slowly, and less in long passages.
# By hand, on four passages:

# %% tags=["nbval-check-output"]
four = {
    "a": "the heart beats too fast",
    "b": "the heart stops",
    "c": "a loud voice",
    "d": "the voice of the heart and the heart of the voice",
}


def score_words(question, texts, k1=1.5, b=0.75) -> dict[str, float]:
    """BM25 of every text (Lucene's form)."""
    split = {name: text.split() for name, text in texts.items()}
    mean = np.mean([len(words) for words in split.values()])
    scores = dict.fromkeys(texts, 0.0)
    for word in question.split():
        having = sum(word in words for words in split.values())
        rare = np.log(1 + (len(texts) - having + 0.5) / (having + 0.5))
        for name, words in split.items():
            times = words.count(word)
            about = times / (times + k1 * (1 - b + b * len(words) / mean))
            scores[name] += rare * about
    return scores


print({n: round(float(s), 3) for n, s in score_words("fast heart", four).items()})

# %% [markdown]
# Passage `b` beats `d`, which has the heart twice: it is shorter. The library bm25s gives
# the same numbers:

# %% tags=["nbval-check-output"]
bm25 = retrieval.bm25s.BM25(k1=1.5, b=0.75, method="lucene")
words = [text.split() for text in four.values()]
bm25.index(words, show_progress=False)
theirs = bm25.get_scores(["fast", "heart"])
ours = list(score_words("fast heart", four).values())
print("bm25s' scores are ours:", np.allclose(theirs, ours, atol=1e-4))

# %% [markdown]
# ## 3 · Finding passages by their meaning
#
# The embedder is the mean of an [encoder](glossary.md#encoder)'s last
# [states](glossary.md#state), made one unit long, so that the product of two vectors is
# the [cosine](glossary.md#cosine) of the angle between them. MiniLM was trained to make
# it large for texts that belong together. It needs no common word:

# %%
embedder = retrieval.Embedder(profile.encoder)
asked = "a racing pulse"
texts = [
    "Tachycardia: the heart beats too fast.",
    "Dysphonia: the voice sounds hoarse.",
]
vectors = embedder.embed([asked, *texts])
for text, cosine in zip(texts, vectors[1:] @ vectors[0], strict=True):
    print(f"{cosine:.2f}  {asked!r} · {text!r}")

# %% tags=["nbval-check-output"]
print("one unit long:", np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5))
alone = embedder.embed(texts[1:])
print("whatever shares the batch:", np.allclose(alone, vectors[2:], atol=1e-2))

# %% [markdown]
# **Both.** BM25's scores and cosines have different units, so they cannot be added.
# [Ranks](glossary.md#rank) can: [reciprocal rank fusion](glossary.md#fusion) (Cormack et
# al. 2009) gives a passage 1 / (60 + rank) from each list. Passage 7 is second twice, and
# wins against two firsts that the other list does not have:

# %% tags=["nbval-check-output"]
by_words = [(3, 9.1), (7, 8.7), (1, 0.4)]
by_meaning = [(5, 0.81), (7, 0.80), (2, 0.31)]
for number, score in retrieval.fuse_ranks([by_words, by_meaning])[:3]:
    print(f"passage {number}: {score:.4f}")
print(f"1/62 + 1/62 = {2 / 62:.4f}, 1/61 = {1 / 61:.4f}")

# %% [markdown]
# ## 4 · An index, and keeping it true
#
# [FAISS](glossary.md#faiss) holds the vectors and finds the largest products;
# `IndexFlatIP` compares with every one, so it is exact. The library's `PassageIndex` adds
# what a service needs: it remembers which passage a number stands for, and `update`
# embeds only what is new or changed.

# %% tags=["nbval-check-output"]
small = retrieval.PassageIndex(embedder)
a, b, c = (retrieval.Passage(n, f"passage {n}") for n in "abc")
print("first    ", small.update([a, b]))
print("one new  ", small.update([a, b, c]))
changed = retrieval.Passage("a", "passage a, corrected")
print("corrected", small.update([changed, b, c]))
print("shrunk   ", small.update([changed, c]))
with tempfile.TemporaryDirectory() as place:
    small.save(Path(place) / "index.npz")
    again = retrieval.load_index(Path(place) / "index.npz", embedder)
same = again.search(["passage"], 2) == small.search(["passage"], 2)
print("loaded   ", again.update([changed, c]), "and finds the same:", same)

# %% [markdown]
# A folder of your own becomes passages in the same way: texts, Markdown, HTML, Word, PDF.
# They are cut into **chunks**: paragraphs, joined up to 120 words (240 characters where a
# script has no spaces), because an embedder makes one vector of a passage, and a long one
# says too many things for one vector. A definition is one short paragraph, so for the
# ontology chunking is no question. It becomes one as soon as an answer spans two chunks, or
# a chunk makes no sense without its heading: then the way of cutting is a setting, to be
# chosen by hit@k like any other.

# %% tags=["nbval-check-output"]
with tempfile.TemporaryDirectory() as place:
    mine = Path(place) / "my_folder"
    (mine / "notes").mkdir(parents=True)
    (mine / "ward.md").write_text(
        "# Ward 3\n\nVisits end at eight.\n", encoding="utf-8"
    )
    (mine / "notes" / "keys.txt").write_text("The keys hang by the door.")
    (mine / "terms.json").write_text('[{"term": "Ataxia", "definition": "Unsteady."}]')
    for passage in retrieval.read_passages(mine):
        print(f"{passage.name}: {passage.text}")
    try:
        retrieval.read_passages(mine / "nowhere")
    except data.DataError as problem:
        print(str(problem).replace(place, "…"))

# %% [markdown]
# Now everything there is to search, and the invented facts in the midst of it. Embedding
# is the long part; the index is saved, and the next run only compares.

# %%
passages = [
    *retrieval.read_passages(profile.terms),
    *retrieval.list_passages(invented),
]
began = time.perf_counter()
file = folder / f"index-{profile.name}-{Path(profile.terms).stem}.npz"
index = retrieval.load_index(file, embedder)
print(index.update(passages))
seconds = time.perf_counter() - began
index.save(file)
print(f"{len(passages):,} passages in {seconds:.1f} s")
print(f"{index.vectors.ntotal * vectors.shape[1] * 4 / 1e6:.1f} MB of vectors")

# %% [markdown]
# ## 5 · Is the right passage found?
#
# Four kinds of questions: about invented names; about terms of the ontology by name;
# about terms by a **lay name**, as patients say it; and by a hard lay name, none of whose
# longer words begins like a word of the term ("overactive bladder" for urinary urgency).
# The index holds terms and definitions, not lay names. hit@k with Wilson's 95 %
# [interval](glossary.md#interval):

# %%
ASKED = data.HELD_OUT
random = np.random.default_rng(SEED)
queries = {"invented names": [(fact.term, {fact.term}) for fact in invented]}
if profile.terms == data.ONTOLOGY:
    lay = data.read_lay_names()
    pairs = [data.make_fact(word, term) for word in lay for term in lay[word]]
    clear = {
        (p.term, p.answer) for p in evaluation.drop_lexical_overlap(pairs, least=1)
    }
    hard = sorted(w for w in lay if all((w, term) in clear for term in lay[w]))
    terms = sorted(term.term for term in data.read_terms(profile.terms))
    queries["terms by name"] = [(t, {t}) for t in random.permutation(terms)[:500]]
    for kind, words in (("by lay name", sorted(lay)), ("by hard lay name", hard)):
        some = random.permutation(words)[:500]
        queries[f"terms {kind}"] = [(word, lay[word]) for word in some]
print({kind: len(pairs) for kind, pairs in queries.items()}, "questions")
print(ASKED.format(queries[kind := list(queries)[-1]][0][0]), "→", queries[kind][0][1])

# %%
ranks, speed = {}, {}
index.search([ASKED], 10)  # makes the word index, once
for kind, pairs in queries.items():
    questions = [ASKED.format(name) for name, _ in pairs]
    for by in ("words", "meaning", "both"):
        began = time.perf_counter()
        found = index.search(questions, 10, by)
        speed[kind, by] = 1000 * (time.perf_counter() - began) / len(questions)
        names = [[passage.name for passage, _ in row] for row in found]
        ranks[kind, by] = np.array(
            [
                next((n for n, name in enumerate(row, 1) if name in right), 99)
                for row, (_, right) in zip(names, pairs, strict=True)
            ]
        )
hit = {
    place: {f"hit@{k}": evaluation.wilson_interval(rank <= k) for k in (1, 3, 10)}
    for place, rank in ranks.items()
}
table = pd.DataFrame(hit).T.map(str)
table["ms each, in a batch"] = [f"{speed[place]:.1f}" for place in hit]
table

# %%
at3 = {f"{kind}, {by}": vars(hit[kind, by]["hit@3"]) for kind, by in hit}
at3 = pd.DataFrame(at3).T
figure = report.plot_intervals(at3, "Is it among the first three?", "hit@3")
report.show_figure(
    figure, f"hit@3 by kind of question and search: {report.list_rows(at3)}."
)

# %% [markdown]
# In the laptop profile: by an invented name all three find the passage among the first
# three. BM25 often puts another one first, though: the question's other words count too,
# and are rare among definitions. By lay name meaning wins, by a hard one more clearly,
# and fusing it with a worse list costs. So there is no best search, there are kinds of
# questions. For a folder of your own, put pairs of a question's name and its passage's
# name into `queries`, and see. The experiment below asks by name, which is the easiest
# case for search, and fuses both.
#
# ## 6 · The two prompts
#
# Closed-book, the model sees the question; open-book, passages before it. That is all RAG
# is. The question's wording is one in which nothing is trained.

# %%
READ = 3  # passages
facts = invented[: profile.trained_terms]
fact_vectors = embedder.embed([fact.answer for fact in facts])
questions = evaluation.build_choices(facts, fact_vectors, SEED, ASKED, balanced=True)
right = np.array([question.right for question in questions])
closed = [question.question for question in questions]
found = [[p for p, _ in row] for row in index.search(closed, READ)]
opened = [retrieval.ground_question(*pair) for pair in zip(closed, found, strict=True)]
was_found = [f.term in {p.name for p in r} for f, r in zip(facts, found, strict=True)]
print("right passage among those read:", evaluation.wilson_interval(was_found))
print(opened[0])

# %% tags=["nbval-check-output"]
told = [
    fact.answer.lower() in text.lower()
    for fact, text in zip(facts, closed, strict=True)
]
print("closed-book prompts that hold their answer:", sum(told))
print("wrong choices that are not taught facts:", end=" ")
answers = {fact.answer for fact in facts}
print(sum(choice not in answers for q in questions for choice in q.choices))
print("trained phrasings among those asked:", ASKED in data.PHRASINGS)

# %% [markdown]
# ## 7 · Base, reading, ceiling, floor
#
# One model, four prompts. The **ceiling** has the right passage and
# no other: it shows whether the model makes use of a passage at all. The right choice
# stands in it word for word, so copying is enough; the study also asks with all four
# choices' passages in the prompt. The **floor** has a passage about something else.

# %%
RECIPE = training.FACTS  # lesson 02's
if profile.quantize:  # its rate and batch for 7 billion weights
    RECIPE = replace(RECIPE, learning_rate=2e-4, batch_size=4)
else:  # on a CPU the small model is faster unpacked
    RECIPE = replace(RECIPE, quantize="none")
model, tokenizer = models.load_decoder(
    decoder_name, quantization_config=RECIPE.quantization_config()
)


def choose(texts: list[str]) -> np.ndarray:
    """Whether the model's likeliest choice is right (questions), asked in `texts`."""
    asked = [replace(q, question=t) for q, t in zip(questions, texts, strict=True)]
    return evaluation.score_questions(model, tokenizer, asked, True).argmax(1) == right


own = retrieval.list_passages(facts)
half = len(own) // 4 * 2  # even, for drugs and syndromes take turns
other = own[half:] + own[:half]  # never the question's own
prompts = {
    "base": closed,
    "retrieved": opened,
    "ceiling": list(map(retrieval.ground_question, closed, [[p] for p in own])),
    "floor": list(map(retrieval.ground_question, closed, [[p] for p in other])),
}
correct = {name: choose(texts) for name, texts in prompts.items()}
print({name: str(evaluation.wilson_interval(m)) for name, m in correct.items()})

# %% [markdown]
# The base cannot know, and does not: guessing gives .25. One interval of this size says
# little more; the study below asks 300 questions.
#
# ## 8 · Training instead
#
# Lesson 02's recipe: every fact as a question and its answer, LoRA on all [linear
# layers](glossary.md#linear-layer). One phrasing of the question, as in the study's arm
# `tuned`.

# %%
TIMES = 8  # how often each fact is met
taught = data.phrase_terms(facts, data.PHRASINGS[:1], TIMES)
rows = training.encode_conversations(taught, tokenizer, profile.max_tokens)
model = training.adapt(
    model,
    RECIPE,
    task_type="CAUSAL_LM",
    seed=SEED,
    gradient_checkpointing=profile.gradient_checkpointing,
)
print(RECIPE)
run = train(
    model,
    rows,
    None,
    RECIPE.train_settings(SEED),
    task=training.ANSWERS,
    output_dir=folder / "tuned",
)
print(f"{run.rows} rows, {run.tokens:,} tokens in {run.seconds:.0f} s")

# %% [markdown]
# The same questions again; with the passages that were found; and **blind**, with "a
# finding" in the place of the name. Blind, all questions of a quartet get the same pick,
# which is right once: quartets make .25 of it whatever was trained. So it tests the
# questions here, not the model.

# %%
blind = [ASKED.format(data.BLIND)] * len(facts)
with torch.inference_mode(), mixed_precision_lora(model, choose_precision()):
    correct["tuned"] = choose(closed)
    correct["tuned, blind"] = choose(blind)
    correct["tuned + retrieved"] = choose(opened)
scores = {name: vars(evaluation.wilson_interval(m)) for name, m in correct.items()}
scores = pd.DataFrame(scores).T
figure = report.plot_intervals(scores, "Invented facts", "right of four choices", 0.25)
report.show_figure(
    figure,
    "Share of right choices among four, chance .25 dashed: "
    f"{report.list_rows(scores)}.",
)

# %% [markdown]
# ## 9 · The same questions, so pairs
#
# Two systems that answer the same questions are compared question by question: how many
# did only one of them get right? **Repairs** are what the first adds, **breakages** what
# it spoils; a small difference can hide many of both.

# %%
wanted = [("retrieved", "base"), ("ceiling", "floor"), ("tuned", "base")]
wanted += [("retrieved", "tuned"), ("tuned + retrieved", "retrieved")]
pairs = {
    f"{a} − {b}": evaluation.compare_paired(correct[a], correct[b]) for a, b in wanted
}
pd.DataFrame(
    {
        name: {
            "difference": str(pair.difference),
            "repairs": pair.only_a,
            "breakages": pair.only_b,
            "p (McNemar)": f"{pair.p_value:.1e}",
        }
        for name, pair in pairs.items()
    }
).T

# %% [markdown]
# ## 10 · What the study says
#
# 150 invented facts and, to see what "nobody can know" changes, 150 terms of the
# ontology; two phrasings of every question, so 300 questions each; three seeds on the
# invented facts, one on the ontology. The ways of answering are recipes to compare, not
# causes to isolate:
#
# - untrained: `base` from memory, `retrieved` with three found passages, `ceiling`,
#   `floor`, `misled` by a wrong choice's passage, `four` with the passages of all four
#   choices;
# - `tuned`: each fact eight times, in one phrasing of the question. `paraphrased`: eight
#   times, in ten phrasings and, where we could write them, three wordings of the fact, so
#   it met each wording less often. `longer`: `tuned` with 24 times (one seed);
# - `paraphrased + retrieved`: the same model, with passages before the question;
# - `raft`: trained *with* passages, each fact twice, as such rows are longer: the right
#   one among wrong ones or, in a fifth of the rows, wrong ones alone. There it learns to
#   say that they do not say. (In Zhang et al. 2024 the model then answers from memory.)
#   `raft_elsewhere`: the same on the 150 terms of the ontology. It met none of the facts
#   it is asked, in no passage either, so whatever it writes of them it has read.
#
# The [learning rate](glossary.md#learning-rate) was chosen on 150 other invented facts,
# among 5e-4, 1.5e-3 and 3e-3.

# %%
WAYS = ["base", "floor", "misled", "tuned", "paraphrased", "longer", "retrieved"]
WAYS += ["paraphrased_retrieved", "raft", "raft_elsewhere", "four", "ceiling"]


def name_way(way: str) -> str:
    """A way of answering, as tables and figures call it."""
    return way.replace("_retrieved", " + retrieved").replace("_", " ")


def look_up(facts: str, metric: str, ways: list[str] = WAYS) -> pd.DataFrame:
    """The study's `metric` by way of answering, with its interval."""
    table = report.tabulate_metrics(study, metric, subset=facts)
    return table.loc[[way for way in ways if way in table.index]]


def show_study(facts: str) -> None:
    """The figure of one set of facts."""
    table = look_up(facts, "choice").rename(name_way)
    figure = report.plot_intervals(table, f"Study: {facts}", "right of four", 0.25)
    report.show_figure(
        figure,
        f"Right choices among four on the {facts} facts by way of answering, chance "
        f".25 dashed: {report.list_rows(table)}.",
    )


if study:
    show_study("invented")
    show_study("ontology")

# %%
if study:
    parts = {"choice": "difference", "repairs": "repairs", "breakages": "breakages"}
    rows = study.metrics.table().query("minus != ''").copy()
    rows["pair"] = rows["system"].map(name_way) + " − " + rows["minus"].map(name_way)
    rows["part"] = rows["metric"].map(parts)
    rows["points"] = [
        f"{100 * row.value:+.1f} [{100 * row.low:+.1f}, {100 * row.high:+.1f}]"
        for row in rows.itertuples()
    ]
    display(
        rows.pivot(index=["subset", "pair"], columns="part", values="points")[
            list(parts.values())
        ]
    )
else:
    print("not measured yet")

# %% [markdown]
# In points of 100; intervals resample quartets, whose questions share their choices, and
# seeds, as far as three can show what another run would give; the ontology's and
# `longer`'s are one run, so theirs leave that out. Each interval is for one comparison by
# itself. [McNemar's test](glossary.md#mcnemars-test) (lesson 01) wants one answer a
# question: seed 0, first phrasing.

# %%
if study:
    kept = report.read_predictions(LESSON)

    def first(way: str) -> np.ndarray:
        """Right or not on the invented facts: seed 0, first phrasing."""
        prefix = "read_" if way.endswith("_retrieved") else ""
        picked = kept[f"{prefix}picked.invented.{way.removesuffix('_retrieved')}"]
        return (picked[0] == kept["right.invented"])[: len(invented)]

    for a, b in [("retrieved", "base"), ("tuned", "base"), ("retrieved", "longer")]:
        pair = evaluation.compare_paired(first(a), first(b))
        print(f"{a} − {b}: {pair.only_a} repairs, {pair.only_b} breakages,", end=" ")
        print(f"p = {pair.p_value:.1e}")

# %% [markdown]
# **Knowing, or remembering a sentence?** The choices above are worded as the facts were
# trained and stand in the index. Below are the same questions with all four choices in a
# wording that was never trained and stands nowhere; beside them the blind score, and what
# the models write themselves: `exact` is the share of answers that equal the definition
# but for case, punctuation and articles, `token_f1` the overlap of words.


# %%
def show_metrics(ways: list[str], names: list[str], facts: str = "invented") -> None:
    """A table of the study's metrics on one set of facts."""
    table = {
        f"{facts}, {way}": {
            n: str(study.metrics.get((way, n, facts, ""), "")) for n in names
        }
        for way in ways
    }
    display(pd.DataFrame(table).T)


if study:
    ways = ["base", "tuned", "paraphrased", "longer", "retrieved"]
    ways += ["paraphrased_retrieved", "raft", "raft_elsewhere", "four"]
    show_metrics(ways, ["choice", "reworded", "blind", "exact", "token_f1"])
    expected, words = kept["expected.invented"], evaluation.normalize_answer
    for way in ("longer", "raft", "raft_elsewhere"):
        said = kept[f"said.invented.{way}"]  # seeds, questions; `longer` is one run
        for seed, row in enumerate(said[:1] if way == "longer" else said):
            pairs = zip(row, expected, strict=True)
            same = np.array([words(a) == words(b) for a, b in pairs])
            print(f"{way}, seed {seed}: drugs exact {same[::2].mean():.2f}", end=", ")
            print(f"syndromes {same[1::2].mean():.2f}")
    pairs_of_kind = zip(expected, np.roll(expected, -2), strict=True)
    floor = np.mean([evaluation.score_token_f1(*pair) for pair in pairs_of_kind])
    print(f"another fact's definition, of the same kind, has a token_f1 of {floor:.2f}")

# %% [markdown]
# Read the rows one by one. From memory, training on one phrasing is right about twice as
# often as chance, and back near chance once the choices are reworded. `longer` picks all
# of them right, and less than half when they are reworded. There are two possible
# reasons: it learned the sentence and not the fact, or training harmed it for all other
# text; section 13 shows such harm, and this study cannot tell the two apart. (`exact` is
# hard on `paraphrased`, which was taught three sentences and may write any.)
# <!-- claim: 1.5 < find("tuned", "choice", subset="invented").value / 0.25 < 2.5 -->
# <!-- claim: find("tuned", "reworded", subset="invented").value < 0.35 -->
# <!-- claim: find("longer", "choice", subset="invented").value > 0.95 -->
# <!-- claim: 0.3 < find("longer", "reworded", subset="invented").value < 0.5 -->
#
# Reading survives the rewording. But the base *picks* right nearly always and *writes*
# hardly a right word: a passage makes whatever resembles it likely, which is not yet
# answering. `four` shows it, and so does `misled` in the figure: with the passages of all
# four choices before its eyes, it is not far from guessing. Of what reads, only the two
# `raft`s write what they pick.
# <!-- claim: find("retrieved", "reworded", subset="invented").low > 0.8 -->
# <!-- claim: find("retrieved", "choice", subset="invented").low > 0.9 and
# find("retrieved", "exact", subset="invented").value < 0.05 -->
# <!-- claim: find("retrieved", "token_f1", subset="invented").value < 0.3 -->
# <!-- claim: find("four", "choice", subset="invented").value < 0.4 and find("misled",
# "choice", subset="invented").value < 0.05 -->
# <!-- claim: find("raft", "choice", subset="invented").value > 0.95 and find("raft",
# "reworded", subset="invented").low > 0.8 and find("raft", "token_f1",
# subset="invented").low > 0.8 -->
#
# What is written is harder to fake than a pick, if you read `exact`: all definitions have
# one of two forms, so that another fact's earns the `token_f1` printed last. `longer`
# writes every drug's definition word for word, and gives every syndrome a drug's. Four
# choices of one kind cannot show that, nor can an average of .50.
#
# `raft` met these very facts, so it might remember them. `raft_elsewhere` cannot. Two of
# its three seeds write most answers exactly, one mostly another fact's definition or the
# question once more: to copy the definition that stands after a name is *a skill that
# training on other definitions can give*, and 300 rows do not give it safely. The facts
# can then stay in the index. (The right passage stood first each time here; prose, or an
# answer in two passages, was not tried.)
#
# On the ontology the base is not at chance: it has read of some of these terms, or
# guesses their meaning from their names; and the same training that half fails on
# invented facts nearly closes the gap to reading. That is why the invented facts are the
# cleaner half, and why a result on one kind of facts says little about another.
# <!-- claim: find("base", "choice", subset="ontology").low > 0.25 -->
# <!-- claim: find("retrieved", "choice", subset="ontology").value -
# find("paraphrased", "choice", subset="ontology").value < 0.05 -->
#
# ## 11 · When search fails, and when there is no answer
#
# Reading helps a pick where the right passage is found. Where it is not, the pick is
# forced; what the model *writes* could be "The passages do not say.", as it is told to.
# The last two columns count such answers, first to questions about facts that stand
# nowhere. "Abstains" means that the answer begins with these words.

# %%
if study:
    table = {}
    for where in ("invented", "ontology"):
        for way in ("retrieved", "paraphrased_retrieved", "raft", "raft_elsewhere"):
            found_m, missed, hits, no, yes = (
                study.metrics.get((way, name, where, ""))
                for name in (
                    "choice_found",
                    "choice_missed",
                    "hit",
                    "abstained_unknown",
                    "abstained",
                )
            )
            if hits:
                table[where, name_way(way)] = {
                    "hit@3": str(hits),
                    "right if found": str(found_m),
                    "right if not": f"{missed} (n = {missed.n})" if missed else "none",
                    "abstains, no answer": str(no),
                    "abstains, answer there": str(yes),
                }
    display(pd.DataFrame(table).T)

# %%
unknown = "What is Zorbelane?"  # a name from nowhere
near = [p for p, _ in index.search([unknown], READ)[0]]
asked = models.render_chat(tokenizer, retrieval.ground_question(unknown, near))
with model.disable_adapter():
    short = {"max_new_tokens": 32, "progress": False}
    said = evaluation.generate_answers(model, tokenizer, [asked], **short)
print("reads: ", "; ".join(passage.name for passage in near))
print("writes:", said[0].text)

# %% [markdown]
# In the study next to nobody abstains, not even the two `raft`s, which met that answer in
# a fifth of their rows: asked about facts that stand nowhere, `raft` writes some passage's
# definition, and `raft_elsewhere` does, too, or repeats the question (one seed nearly
# always). A search always returns something, and its best hit looks as sure as any; what
# that does shows in `misled`: with a wrong choice's passage before its eyes, the model
# picks that one. This recipe did not teach refusing. A refusal outside the model, such as
# a least cosine (a fused score knows ranks only), would have to be measured in the same
# way, and was not. And abstaining has to be measured on questions *with* an answer too: a
# model that always abstains is never wrong.
# <!-- claim: all(find(way, "abstained_unknown", subset="invented").value < 0.1 for
# way in ("retrieved", "raft", "raft_elsewhere")) -->
#
# ## 12 · A fact changes
#
# One definition is corrected. For the index that is one passage (and the word index is
# made anew); the model picks between the old and the new one, so chance is .5:

# %%
old = facts[0]
new_answer = invented[-2].answer  # another drug's, to stand for a correction
corrected = retrieval.Passage(old.term, f"{old.term}: {new_answer}")
began = time.perf_counter()
print(index.update([corrected if p.name == old.term else p for p in passages]))
updated = time.perf_counter() - began
asked = ASKED.format(old.term)
index.search([asked], READ)  # the first search makes the word index anew
print(f"update {updated:.2f} s, with a search {time.perf_counter() - began:.2f} s")
read = [passage for passage, _ in index.search([asked], READ)[0]]
prompts_now = {"from memory": asked, "reading": retrieval.ground_question(asked, read)}
for name, text in prompts_now.items():
    picks = evaluation.ChoiceQuestion(text, (new_answer, old.answer), 0)
    scored = evaluation.score_questions(model, tokenizer, [picks], False)[0]
    print(f"trained model, {name}: {'new' if scored.argmax() == 0 else 'old'} answer")
index.update(passages)  # back to what was

# %% [markdown]
# The study changes 15 of the 150 facts. The trained model is asked from memory; reading
# the updated index, which then contradicts what it was taught; and after training again
# on the 15 facts alone. What that does to other facts stands beside it.

# %%
if study:
    rows_of = {
        "base, from memory": ("base", "changed_memory"),
        "base, reads the new index": ("retrieved", "changed_read"),
        "trained, from memory": ("paraphrased", "changed_memory"),
        "trained, reads the new index": ("paraphrased", "changed_read"),
        "trained again, from memory": ("paraphrased", "changed_retrained"),
    }
    display(
        pd.DataFrame(
            {
                title: {
                    answer: str(study.find(way, f"{name}_{answer}", subset="invented"))
                    for answer in ("new", "old")
                }
                for title, (way, name) in rows_of.items()
            }
        ).T
    )
    for name in ("others_before", "others_retrained"):
        print(f"{name}: {study.find('paraphrased', name, subset='invented')}")
    for way, name in [("retrieved", "index_update"), ("paraphrased", "retrain")]:
        cost = study.find(way, f"{name}_seconds", subset="invented")
        print(f"{name}: {cost.value:.1f} s for 15 facts")

# %% [markdown]
# "Trained" is the arm `paraphrased`. There are two more choices, wrong before and after.
# These four are no quartet, so chance is not exactly .25 each: the first row, where
# nothing can be known, is what to compare with.
#
# The base follows the corrected index at once. The trained model, from memory, keeps
# saying what it was taught; reading, it is torn between its memory and the passage.
# Training again on the changes alone puts the new answers in, and takes many others out.
# <!-- claim: find("retrieved", "changed_read_new", subset="invented").value > 0.9 -->
# <!-- claim: find("paraphrased", "changed_memory_old", subset="invented").value > 0.5
# > find("paraphrased", "changed_memory_new", subset="invented").value -->
# <!-- claim: 0.2 < find("paraphrased", "changed_read_new", subset="invented").value <
# 0.6 and 0.2 < find("paraphrased", "changed_read_old", subset="invented").value < 0.6
# -->
# <!-- claim: find("paraphrased", "changed_retrained_new", subset="invented").value >
# 0.9 -->
# <!-- claim: find("paraphrased", "others_retrained", subset="invented").value <
# find("paraphrased", "others_before", subset="invented").value - 0.15 -->
#
# ## 13 · Forgetting
#
# What training costs elsewhere: the change of [loss](glossary.md#loss) on sentences of
# news (a share of the base's; above 0 is worse), and the course's general questions
# (chance .25).

# %%
if study:
    ways = ["base", "tuned", "paraphrased", "longer", "raft", "raft_elsewhere"]
    show_metrics(ways, ["general_loss_change", "choice_general"])
    ways = ["base", "tuned", "paraphrased"]
    show_metrics(ways, ["general_loss_change", "choice_general"], "ontology")

# %% [markdown]
# On the invented facts the price is highest where they are to be remembered, and small
# for both `raft`s. That is no law: on the ontology's terms `tuned` remembers, too, and
# costs no more than `raft_elsewhere`, which was trained on the same terms; both even gain
# on the general questions. The `raft`s also take a quarter of `tuned`'s steps. So the
# table says what each recipe cost here, and not why.
# <!-- claim: find("raft_elsewhere", "choice_general", subset="invented").value >
# find("base", "choice_general", subset="invented").high -->
# <!-- claim: find("tuned", "general_loss_change", subset="ontology").value <=
# find("raft_elsewhere", "general_loss_change", subset="invented").high -->
# <!-- claim: max(find(way, "general_loss_change", subset="invented").value for way in
# ("raft", "raft_elsewhere")) < min(find(way, "general_loss_change",
# subset="invented").low for way in ("tuned", "paraphrased")) -->
#
# ## 14 · Seconds an answer, and a growing index
#
# Reading costs time twice: the search, and the longer prompt. One question at a time, as
# somebody who waits sees it (median of three):

# %%
latency = {}
for name in ("from memory", "reading"):
    seconds = []
    for fact in facts[:3]:
        began = time.perf_counter()
        asked = ASKED.format(fact.term)
        if name == "reading":
            read = [passage for passage, _ in index.search([asked], READ)[0]]
            searched = time.perf_counter() - began
            asked = retrieval.ground_question(asked, read)
        asked = [models.render_chat(tokenizer, asked)]
        said = evaluation.generate_answers(
            model, tokenizer, asked, max_new_tokens=24, progress=False
        )
        seconds.append(time.perf_counter() - began)
    latency[name] = float(np.median(seconds))
    print(f"{name:12s} {latency[name]:.2f} s; the last one {said[0].tokens} tokens")
print(f"the last search, embedding included: {1000 * searched:.0f} ms")
size = index.vectors.ntotal * vectors.shape[1] * 4 / 1e6
adapter = models.count_parameters(model).lora * 4 / 1e6
print(f"memory beside the model: vectors {size:.1f} MB, LoRA {adapter:.1f} MB")

# %% [markdown]
# How that grows was measured apart (`make bench LESSON=05`): real vectors, and beyond
# them copies with noise, up to a million. *Exact* compares with all; *cells* (IVF) only
# with the 16 nearest of 1,024 groups; *cells_8bit* stores a quarter of the bytes besides;
# *graph* (HNSW) walks from neighbour to neighbour. *[Recall](glossary.md#recall)* is the
# share of the exact ten nearest.

# %%
if bench:
    rows = bench.metrics.table()
    rows = rows[rows["subset"].str.isdigit()].assign(
        vectors=lambda rows: rows["subset"].astype(int)
    )
    grown = rows.pivot(index=["system", "vectors"], columns="metric", values="value")
    display(grown.round(2))
    search = bench.find("search", "ms", subset="after embedding")
    embedding = bench.find("ours", "passages_per_second")
    print(f"search, once the question is embedded: {search.value:.1f} ms")
    print(f"embedding: {embedding.value:.1f} passages per second")
else:
    print("not measured yet")

# %%
if bench:
    figure, axis = plt.subplots(figsize=(report.WIDTH, 3.4))
    ends = []
    for (kind, part), colour in zip(
        grown.groupby(level=0), report.PALETTE, strict=False
    ):
        counts = part.index.get_level_values(1)
        axis.loglog(counts, part["ms"], marker="o", color=colour, label=kind)
        ends.append(f"{kind} {part['ms'].iloc[0]:.2f} to {part['ms'].iloc[-1]:.2f} ms")
    axis.set(
        xlabel="vectors", ylabel="ms a query", title="Search, by size of the index"
    )
    axis.legend()
    report.show_figure(
        figure,
        "Milliseconds a query against the number of vectors, both logarithmic, from "
        f"the smallest to the largest index: {'; '.join(ends)}.",
    )

# %% [markdown]
# ## 15 · Which one, for your case?
#
# A rule made of the numbers above, for practice. You say how many facts you have, how
# many change in a day, how many questions come in a day, how long an answer may take, and
# how many minutes of computing a day may cost. The index embeds what changed. "Training"
# is `longer`, trained again on everything whenever something changed, since section 12
# shows what training on the changes alone does. "Both" is `raft_elsewhere`: trained to
# read once, on other facts, and never again. (`raft` itself would have to be trained on
# your facts; its lead is one bad seed of the other's three.)
#
# "Picks" is right of four, "reworded" the same in other words, "writes" the share of
# exact answers: of a small model, on 150 facts asked by name, whose passage was found
# each time. Yours may be harder. A way that fits and writes little is a way to find
# passages for people to read: "reading" is that, for whoever cannot train even once.
# Seconds an answer are this run's, all else the laptop's: in another profile the verdicts
# mix two machines.


# %%
def recommend(facts, changed, answers, seconds, minutes) -> pd.DataFrame:
    """Ways of answering `answers` questions a day about so many `facts`, of which
    `changed` change a day, best writer first; "fits" are those that need at most
    `seconds` an answer and `minutes` of computing a day."""

    def look(arm: str, metric: str) -> float:
        return study.find(arm, metric, subset="invented").value

    embed = 1 / bench.find("ours", "passages_per_second").value
    reading, memory = latency["reading"], latency["from memory"]
    once, teach = look("raft_elsewhere", "seconds"), look("longer", "seconds") / 150
    again = facts if changed else 0
    ways = {  # arm; seconds: once, a fact's set-up, a day's changes, an answer
        "reading": ("retrieved", 0, embed, changed * embed, reading),
        "both": ("raft_elsewhere", once, embed, changed * embed, reading),
        "training": ("longer", 0, teach, again * teach, memory),
    }
    table = {}
    for way, (arm, at_first, a_fact, changes, an_answer) in ways.items():
        daily = (changes + answers * an_answer) / 60
        names = {"picks": "choice", "reworded": "reworded", "writes": "exact"}
        table[way] = {title: f"{look(arm, n):.2f}" for title, n in names.items()}
        table[way] |= {
            "set-up, minutes": f"{(at_first + facts * a_fact) / 60:.1f}",
            "minutes a day": f"{daily:.1f}",
            "seconds an answer": f"{an_answer:.2f}",
            "fits": an_answer <= seconds and daily <= minutes,
        }
    return pd.DataFrame(table).T.sort_values(["fits", "writes"], ascending=False)


# %%
if study and bench:
    cases = {
        "a clinic's handbook": (2_000, 20, 200, 10, 60),
        "a quiz that never changes": (150, 0, 1_000, 1.5, 60),
        "a voice on the telephone": (2_000, 20, 200, 0.5, 60),
        "a news desk": (100_000, 5_000, 2_000, 10, 240),
    }
    for title, case in cases.items():
        ways = recommend(*case)
        best = ways.index[0] if ways["fits"].iloc[0] else "nothing within these limits"
        print(f"{title}: {best}")
    display(recommend(*cases["a clinic's handbook"]))

# %%
if study and bench:
    bounds = {
        "facts": (150, 1, 100_000),
        "changed": (10, 0, 5_000),
        "answers": (500, 1, 10_000),
        "seconds": (10, 1, 60),
        "minutes": (60, 1, 1_440),
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
# What the rule leaves out is yours to weigh: reading shows its source, and forgets a
# deleted fact at once; training changes style and format too, which no passage can.
# Published for Llama-2-7B (Ovadia et al. 2023, current events): base .353, RAG .585,
# fine-tuned .219, with paraphrases .392.
#
# ## 16 · Ask it yourself
#
# See the passages with their scores, the prompt, and four answers: the base and the
# trained model, from memory and reading. The box needs a running kernel; the function
# does the same.


# %%
def ask_all(question: str) -> str:
    """Passages, prompt and the four answers to a question."""
    hits = index.search([question], READ)[0]
    read = retrieval.ground_question(question, [passage for passage, _ in hits])
    lines = [f"{score:.4f}  {passage.text[:90]}" for passage, score in hits]
    lines += ["", "The prompt:", read, ""]
    for way, text in {"from memory": question, "reading": read}.items():
        prompt = [models.render_chat(tokenizer, text)]
        short = {"max_new_tokens": 40, "progress": False}
        with model.disable_adapter():
            base = evaluation.generate_answers(model, tokenizer, prompt, **short)[0]
        tuned = evaluation.generate_answers(model, tokenizer, prompt, **short)[0]
        lines += [f"base, {way}: {base.text}", f"trained, {way}: {tuned.text}"]
    return "\n".join(lines)


report.text_playground(ask_all, ASKED.format(facts[0].term), "Question")

# %% [markdown]
# ## 17 · What was measured

# %%
metrics = evaluation.Metrics()
for name, marks in correct.items():
    system = name.replace(" + ", "_").replace(", ", "_")
    metrics.add(system, "choice", evaluation.wilson_interval(marks), subset="invented")
for (kind, by), scored in hit.items():
    metrics.add(f"search by {by}", "hit_at_3", scored["hit@3"], subset=kind)
for name, value in latency.items():
    system = "base" if name == "from memory" else "retrieved"
    metrics.add(system, "seconds_per_answer", evaluation.measured_once(value, 3))
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
# ## Recap
#
# 1. BM25 finds words, embeddings find meaning, fusion adds ranks; which is best depends
#    on how people ask, and hit@k on their questions tells.
# 2. An index embeds only what changed; a trained model has to be trained again, and what
#    that does to its other facts has to be looked at.
# 3. Reading and training are compared on the same questions, between a floor and a
#    ceiling, on facts that nobody can know; differences are pairs, with repairs and
#    breakages.
# 4. Quartets keep guessing at one in four; rewording the choices shows who is tied to a
#    sentence; the answers a model writes, and questions without an answer, show what a
#    pick of four hides. Training to read, on other facts, made a reader that writes in
#    two runs of three.
# 5. How often facts change, how long an answer may take and what computing costs decide
#    between the two, and numbers can be put on each.
#
# ## Quiz
#
# Answer first, then run the cell.
#
# 1. A passage is first by words and 40th by meaning; another is third in both. Which one
#    does fusion put first?
# 2. The right passage is found for 90 of 100 questions. Found, 80 in 100 answers are
#    right; not found, 25 in 100. How many of 100 are right in all?
# 3. A million vectors of 384 numbers, in [fp32](glossary.md#fp32) and in 8 bit: how many
#    GB each?
# 4. A trained model is right on 60 of 100 questions and, reading, on 64. Repairs are 10.
#    How many breakages?

# %% tags=["nbval-check-output"]
lists = [[(1, 0), (9, 0), (3, 0)], [(8, 0), (7, 0), (3, 0)]]
lists[1] += [(100 + n, 0) for n in range(36)] + [(1, 0)]
places = [number for number, _ in retrieval.fuse_ranks(lists)]
first_of = "first in one" if places.index(1) < places.index(3) else "third in both"
print("1. the one that is", first_of, f"({2 / 63:.4f} against {1 / 61 + 1 / 100:.4f})")
print(f"2. {90 * 0.80 + 10 * 0.25:.1f}")
print(f"3. {1e6 * 384 * 4 / 1e9:.2f} and {1e6 * 384 / 1e9:.2f} GB")
print("4.", 10 - (64 - 60))

# %% [markdown]
# **Next.** With `LESSONS_PROFILE=gpu` this notebook asks Llama-2-7B in 4 bit (or an open
# model where you have no access); its numbers stay blank until somebody has measured
# them. The graded assignment of this lesson will ask you to write fusion and hit@k, to
# build quartets, and to find the flaw in a comparison that is not paired.
