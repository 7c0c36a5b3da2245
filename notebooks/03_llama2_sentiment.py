# %% [markdown]
# # Lesson 03 · A Llama for three-class sentiment
#
# [![Open in Colab](open_in_colab.svg)](https://colab.research.google.com/github/your-account/fine-tuning-lessons/blob/main/notebooks/03_llama2_sentiment.ipynb)
#
# **You will be able to**
#
# 1. make a [decoder](glossary.md#decoder) classify in three ways: ask it, train the
#    [label](glossary.md#label) as its answer, put a [classification
#    head](glossary.md#classification-head) on it;
# 2. see a prompted model's bias towards a label, and take it out;
# 3. judge three classes: accuracy, [macro-F1](glossary.md#macro-f1),
#    [precision](glossary.md#precision) and [recall](glossary.md#recall) of each class,
#    curves, [confusion](glossary.md#confusion-matrix),
#    [calibration](glossary.md#calibration), and the [ceiling](glossary.md#ceiling) that
#    human disagreement sets;
# 4. find out what weighting classes does, and how far a model carries to other texts;
# 5. guard the order of labels, save, [merge](glossary.md#merge), and classify a file with
#    one script.
#
# **You need** Python, lesson 01's idea of a decoder, lesson 02's [chat
# template](glossary.md#chat-template) and [masks](glossary.md#mask), and lesson 04's
# [LoRA](glossary.md#lora).
#
# **Words that come back** (links lead to the glossary).
# *[Completion](glossary.md#completion)*: what a decoder writes after a
# [prompt](glossary.md#prompt). *[Likelihood](glossary.md#likelihood)*: the probability it
# gives to a text. *Head*: the small new layer that turns a [state](glossary.md#state)
# into class scores. *Precision* of a class: how many of the rows called so are so;
# *recall*: how many of the rows that are so are called so; *[F1](glossary.md#f1)*: their
# harmonic mean; *macro-F1*: F1 averaged over classes, whatever their size.
# *[Lean](glossary.md#lean)*, or prior: what a model answers before it has read the text.
# *[Epoch](glossary.md#epoch)*: one pass over the training rows.

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
import json
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

from lessons_lib import data, evaluation, models, report, training

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from datasets import Dataset, DatasetDict
from IPython.display import display
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import classification_report
from sklearn.utils.class_weight import compute_class_weight
from transformers import BitsAndBytesConfig, TrainerCallback

from lessons_lib.hardware import choose_precision
from lessons_lib.profiles import load_profile
from lessons_lib.training import (
    ATTENTION,
    FEED_FORWARD,
    Recipe,
    mixed_precision_lora,
    fine_tune_classifier,
    train,
)

# %% [markdown]
# ## What runs here
#
# The title's [Llama-2](glossary.md#llama) belongs to the `gpu` profile, with Financial
# PhraseBank (Malo et al. 2014). `laptop` takes a small model of the same architecture,
# and sentences of news editorials, from the Python package index; `smoke` a tiny random
# model, to test the code.

# %%
LESSON = "03_llama2_sentiment"
SEED = 0
profile = load_profile(LESSON)
folder = Path(f"../build/runs/{LESSON}")
models.quiet_libraries()
report.use_course_style()
pd.set_option("display.precision", 3, "display.max_colwidth", 90)
decoder_name = models.resolve_decoder(profile.decoder, profile.fallback_decoder)
published = report.find_results(LESSON, "laptop")
study = report.find_results(LESSON, "study")
print(f"profile  {profile.name}")
print(f"decoder  {decoder_name}")
print(f"encoder  {profile.encoder}")
print(f"texts    {profile.dataset}, {profile.train_rows or 'all'} for training")
print(f"numbers  {choose_precision().dtype}: {choose_precision().reason}")
if published:
    print(f"laptop   {published.seconds:.0f} s and {published.peak_mb:,.0f} MB on")
    print(
        f"         {published.machine['cpu']}, {published.machine['threads']} threads"
    )

# %% [markdown]
# In the laptop profile the decoder is
# [SmolLM2-135M-Instruct](https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct)
# (Apache-2.0), a Llama of 135 million weights that were stored in 4 bit once, and the
# [encoder](glossary.md#encoder) beside it
# [all-MiniLM-L6-v2](https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2)
# (Apache-2.0). The sentences were rated by 20 people each (Hutto & Gilbert 2014, MIT
# licence). They are not Financial PhraseBank: do not compare with numbers published for
# that. A file of your own takes their place with `make course LESSON=03 DATA=mine.txt`: a
# table with a text and a label column, or lines `sentence@label`, as Financial PhraseBank
# has them. What is marked "study" below is the laptop profile's, whatever you run here.
#
# ## 1 · Three classes, cut by article
#
# A mean rating at or beyond ±0.5 makes a sentence negative or positive; what lies between
# is neutral. Sentences of one article share words and mood, so **whole articles** go to
# train, [validation](glossary.md#validation) or test: else the test would ask about
# articles already met. (Where a file names no documents, as Financial PhraseBank does
# not, sentences are split at random, and every trained model looks a little better than
# it is.)

# %%
splits = data.load_reviews(
    profile.dataset,
    train_rows=profile.train_rows,
    validation_rows=profile.validation_rows,
    test_rows=profile.test_rows,
    seed=SEED,
    neutral=True,
)
names = splits["train"].features["label"].names
labels = {part: np.array(rows["label"]) for part, rows in splits.items()}
data.count_classes(splits)

# %%
for number, name in enumerate(names):
    for text in [r["text"] for r in splits["train"] if r["label"] == number][:3]:
        print(
            textwrap.fill(
                text[:300], 84, initial_indent=f"{name:9s}", subsequent_indent=" " * 9
            )
        )

# %% tags=["nbval-check-output"]
texts = {name: {text.lower() for text in part["text"]} for name, part in splits.items()}
two_sides = [("train", "validation"), ("train", "test"), ("validation", "test")]
print("texts on two sides:", sum(len(texts[a] & texts[b]) for a, b in two_sides))
articles = {name: set(part["document"]) for name, part in splits.items()}
print(
    "articles on two sides:", sum(len(articles[a] & articles[b]) for a, b in two_sides)
)
print("classes, in the order of their numbers:", names)

# %% [markdown]
# The classes are not equally common, so accuracy flatters whoever leans to the large one;
# macro-F1, which counts every class alike, stands beside it from now on.
#
# ## 2 · How far do people agree?
#
# Labels that people disagree about are noisy, and noise bounds what any model can score.
# Each sentence has 20 ratings; we split the raters into two halves, let each half label
# the sentence, and count how often the halves agree. Four ratings, two a half:

# %% tags=["nbval-check-output"]
ratings = np.array([[2, 1, 1, 3], [0, 0, 1, 1], [0, -1, 0, -2]])
halves = data.label_ratings(ratings.reshape(3, 2, 2).mean(2))
for row, said in zip(ratings, halves, strict=True):
    print(row, "→ halves say", " and ".join(data.THREE_CLASSES[n] for n in said))
print(f"halves agree: {(halves[:, 0] == halves[:, 1]).mean():.2f}")

# %% [markdown]
# Ten raters a half are fewer than the 20 behind a label. So the second count draws panels
# of 20 from a sentence's own raters, with replacement, and asks how often such a panel
# gives the sentence's label: an estimate of what a model would score that knew
# everybody's mean opinion.

# %%
rated = profile.dataset == "snippets:news"
if rated:
    ratings = data.read_ratings("news")
    random = np.random.default_rng(SEED)
    halves = random.permuted(ratings, axis=1).reshape(len(ratings), 2, -1).mean(2)
    halves = data.label_ratings(halves)
    panels = random.integers(20, size=ratings.shape)
    panels = np.take_along_axis(ratings, panels, axis=1).mean(1)
    kept = data.label_ratings(panels) == data.label_ratings(ratings.mean(1))
    halves_agree = evaluation.wilson_interval(halves[:, 0] == halves[:, 1])
    print(f"halves agree on {halves_agree} of {len(ratings):,} sentences")
    print(f"a panel drawn anew gives the label of {evaluation.wilson_interval(kept)}")
    edges = pd.cut(ratings.mean(1), [-5, -2, -1, -0.7, -0.3, 0.3, 0.7, 1, 2, 4])
    groups = pd.DataFrame(
        {
            str(edge): vars(evaluation.wilson_interval(kept[edges == edge]))
            for edge in edges.categories
        }
    ).T
    title = "A new panel gives the same label"
    figure = report.plot_intervals(groups, title, "share, by mean rating", kept.mean())
    report.show_figure(figure, f"{title}, by mean rating: {report.list_rows(groups)}.")
else:
    print("These sentences come without their raters' scores.")

# %% [markdown]
# Look at the two bins around ±0.5: how much better than a coin toss is a label there? No
# training will make it surer. The study below takes the new panels' agreement as its
# ceiling.
#
# ## 3 · Rivals first
#
# The commonest class; VADER, a lexicon by the authors of these ratings, so at home here;
# [logistic regression](glossary.md#logistic-regression) on [TF-IDF](glossary.md#tf-idf);
# [NB-SVM](glossary.md#nb-svm); and the encoder of lessons 01 and 04 with LoRA, by lesson
# 04's recipe. All learn from the same rows as the decoder will.

# %%
probabilities = {}
fits = {
    "majority": models.fit_majority,
    "vader": models.fit_vader,
    "tfidf": models.fit_tfidf,
    "nbsvm": models.fit_nbsvm,
}
for name, fit in fits.items():
    probabilities[name] = fit(splits).predict_proba(splits["test"]["text"])
print(f"fitted on {len(splits['train']):,} rows:", ", ".join(probabilities))

# %%
BERT_LORA = Recipe(
    learning_rate=2e-3,
    rank=8,
    alpha=16,
    targets=ATTENTION + FEED_FORWARD,
    pooling="mean",
    batch_size=32,
    warmup=0.06,
    ema_decay=0.98,
)
watched = splits["validation"].select(range(min(40, len(splits["validation"]))))
seen_parts = DatasetDict({**splits, "validation": watched})
bert = fine_tune_classifier(
    BERT_LORA,
    profile.encoder,
    seen_parts,
    max_tokens=profile.max_tokens,
    seed=SEED,
    output_dir=folder / "bert",
)


def classify(run, texts: list[str]) -> np.ndarray:
    """Class probabilities (texts, classes) by a fine-tuned model with a head."""
    return evaluation.classify_texts(
        run.model, run.tokenizer, texts, profile.max_tokens
    )


probabilities["bert_lora"] = classify(bert, splits["test"]["text"])

# %% [markdown]
# ## 4 · Way one: ask
#
# The question goes into the chat format; the answer is the class whose *name* the model
# finds likeliest next. Nothing is generated, so nothing has to be parsed. To save your
# time the decoder is asked only some of the test rows.

# %%
QUESTION = "Is the sentiment of this sentence {}? Answer with one word.\n\n{}"
OPTIONS = ", ".join(names[:-1]) + " or " + names[-1]
ROOM = profile.max_tokens - 100  # the rest is for question and answer
quantize = {}
if profile.quantize:  # 7 billion weights in 4 bit each (lesson 02 opens that up)
    quantize["quantization_config"] = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=choose_precision().torch_dtype,
    )
decoder, tokenizer = models.load_decoder(decoder_name, **quantize)


# %%
def put_question(text: str) -> str:
    """The question about one text, of which a long one is cut."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    text = text if len(ids) <= ROOM else tokenizer.decode(ids[:ROOM])
    return QUESTION.format(OPTIONS, text)


def ask(model, texts: list[str], examples=(), progress: bool = True) -> np.ndarray:
    """Probabilities (texts, classes) of the classes' names as the answer."""
    questions = [put_question(text) for text in texts]
    prompts = [models.render_chat(tokenizer, q, list(examples)) for q in questions]
    options = {"batch_size": 4 if quantize else 24, "progress": progress}
    choices = [names] * len(prompts)
    scores = evaluation.score_choices(model, tokenizer, prompts, choices, **options)
    return softmax(scores, axis=1)


asked = splits["test"]["text"][: profile.zero_shot_rows]
truth = labels["test"][: len(asked)]
probabilities["zero_shot"] = ask(decoder, asked)
print(models.render_chat(tokenizer, put_question(asked[0])))

# %% [markdown]
# **A prompt's lean.** How often does it give each answer, and how often would it be right
# to? A model can lean to a label before it has read a word of the text. Two ways to
# estimate that without any label: ask about a text *without content* (Zhao et al. 2021),
# or average the answers to *unlabelled* texts of the kind (Zhou et al. 2024). The second
# also holds what is true of the texts, so dividing by it pushes towards equally common
# classes. Dividing:


# %% tags=["nbval-check-output"]
def divide_prior(probabilities: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Probabilities over what the model answers anyway, made to sum to 1 again."""
    divided = probabilities / prior
    return divided / divided.sum(1, keepdims=True)


leaning = np.array([[0.30, 0.05, 0.65], [0.30, 0.20, 0.50]])
print("before:", leaning.argmax(1), " after:", end=" ")
print(divide_prior(leaning, np.array([0.3, 0.1, 0.6])).argmax(1))

# %%
CONTENT_FREE = ["N/A", "...", "Sentence"]
SHOTS = 6
unlabelled = splits["train"]["text"][:40]
priors = {
    "zero_shot_free": ask(decoder, CONTENT_FREE, progress=False).mean(0),
    "zero_shot_unlabelled": ask(decoder, unlabelled, progress=False).mean(0),
}
for name, prior in priors.items():
    probabilities[name] = divide_prior(probabilities["zero_shot"], prior)
shown = data.take_rows(splits["train"], SHOTS, SEED)  # in the shares of the classes
examples = [(put_question(row["text"]), names[row["label"]]) for row in shown]
probabilities["few_shot"] = ask(decoder, asked, examples)
answers = {
    name: [
        *np.bincount(p[: len(asked)].argmax(1), minlength=len(names)) / len(asked),
        str(evaluation.wilson_interval(p[: len(asked)].argmax(1) == truth)),
    ]
    for name, p in probabilities.items()
    if "shot" in name
}
answers["truth"] = [*np.bincount(truth, minlength=len(names)) / len(asked), ""]
pd.DataFrame(answers, index=[*names, "accuracy"]).T

# %% [markdown]
# The first columns are shares of answers. Is asking better than always giving the
# commonest answer? What does taking the lean out do to the shares, and to the accuracy?
# Do six examples help? With so few rows the [intervals](glossary.md#interval) are wide;
# the study asks all of them. (To *choose* one of the ways, you would compare them on
# validation rows.)
#
# ## 5 · A bug that keeps its confidence
#
# A model knows its classes by number. Published sentiment models disagree about the
# order: some have 0 for negative, some for positive. If a model's order is not the
# data's, nothing crashes. Here the encoder's answers are read with the names in another
# order:

# %%
other_order = names[::-1] if len(names) == 2 else [names[2], names[0], names[1]]
confused = probabilities["bert_lora"][:, [other_order.index(name) for name in names]]
pd.DataFrame(
    {
        title: {
            "accuracy": (p.argmax(1) == labels["test"]).mean(),
            "mean confidence": p.max(1).mean(),
        }
        for title, p in {
            "right order": probabilities["bert_lora"],
            "wrong order": confused,
        }.items()
    }
).T

# %% [markdown]
# As sure as before, and wrong: confidence is no guard. Names are. The data carry theirs,
# a model its own in `config.id2label`; compare them before anything is scored.

# %% tags=["nbval-check-output"]
models.check_class_names(bert.model, names)
print("the model's order is the data's")
right_names = bert.model.config.id2label
bert.model.config.id2label = dict(enumerate(other_order))
try:
    models.check_class_names(bert.model, names)
except models.ModelError as problem:
    print(str(problem).split("Remedy")[0])
bert.model.config.id2label = right_names

# %% [markdown]
# ## 6 · Way two: the label as completion
#
# The same question, and the class's name as the answer to learn; only the answer and its
# end are supervised (lesson 02). LoRA on all [linear layers](glossary.md#linear-layer),
# one epoch.

# %%
LABEL = Recipe(
    learning_rate=1e-3,
    rank=16,
    alpha=32,
    targets="all-linear",
    epochs=1,
    warmup=0.06,
    ema_decay=0.98,
)
HERE = {"batch_size": 8}  # the study's is 16: this run has fewer rows and less memory
if profile.quantize:  # QLoRA's rate for 7 billion weights, not tuned here
    HERE |= {"learning_rate": 2e-4, "quantize": "nf4"}


def encode(rows) -> Dataset:
    """Rows as question and answer, in tokens."""
    examples = [
        data.make_example(put_question(row["text"]), names[row["label"]])
        for row in rows
    ]
    return training.encode_conversations(examples, tokenizer, profile.max_tokens)


rows = {part: encode(seen_parts[part]) for part in ("train", "validation")}
row = rows["train"][0]
learned = [token for token in row["labels"] if token != training.IGNORED]
print("learned:", repr(tokenizer.decode(learned)), "of", len(row["labels"]), "tokens")
print("its end as well:", learned[-1] == tokenizer.eos_token_id)

# %% [markdown]
# The Trainer's validation [loss](glossary.md#loss) is that of the answer's
# [tokens](glossary.md#token). Accuracy is something else, so a callback asks a few
# validation rows whenever the loss is evaluated.


# %%
class AccuracyByStep(TrainerCallback):
    """Asks the model the watched validation rows at every evaluation."""

    def __init__(self) -> None:
        self.seen = {}

    def on_evaluate(self, args, state, control, model=None, **kwargs) -> None:
        found = ask(model, watched["text"], progress=False).argmax(1)
        self.seen[state.global_step] = (found == np.array(watched["label"])).mean()


recipe = replace(LABEL, **HERE)
saving = {"gradient_checkpointing": profile.gradient_checkpointing}  # memory, for time
model = training.adapt(decoder, recipe, task_type="CAUSAL_LM", seed=SEED, **saving)
by_step = AccuracyByStep()
label_run = train(
    model,
    rows["train"],
    rows["validation"],
    recipe.train_settings(SEED),
    task=training.ANSWERS,
    output_dir=folder / "label",
    callbacks=(by_step,),
)
with mixed_precision_lora(model, choose_precision()):  # the layers training used
    probabilities["lora_label"] = ask(model, asked)
print(f"{label_run.steps} steps in {label_run.seconds:.0f} s,", end=" ")
print(
    f"{label_run.tokens_per_second:,.0f} tokens/s, {label_run.peak_mb:,.0f} MB so far"
)

# %% [markdown]
# ## 7 · Way three: a classification head
#
# The decoder reads the bare text; a new layer turns the state of its *last* token, the
# only one that has seen the whole text, into class scores. The head is trained in full,
# LoRA as before. No chat format, no vocabulary: fewer tokens, and probabilities straight
# away.

# %%
HEAD = Recipe(
    learning_rate=1e-3,
    rank=16,
    alpha=32,
    targets=(
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    ),
    epochs=1,
    warmup=0.06,
    ema_decay=0.98,
)
head = fine_tune_classifier(
    replace(HEAD, **HERE),
    decoder_name,
    seen_parts,
    max_tokens=profile.max_tokens,
    seed=SEED,
    output_dir=folder / "head",
    **saving,
)
probabilities["lora_head"] = classify(head, asked)
rate = len(splits["train"]) / head.result.seconds
print(f"{head.result.steps} steps in {head.result.seconds:.0f} s, {rate:.1f} rows/s,")
print(f"{head.result.peak_mb:,.0f} MB so far")

# %%
label_history = label_run.history.assign(
    validation_accuracy=label_run.history["step"].map(by_step.seen)
)
histories = {"label": label_history, "head": head.result.history}
figure = report.plot_curves(histories, "Loss and accuracy by step", by="step")
last = {n: h.dropna(subset="validation_loss").iloc[-1] for n, h in histories.items()}
ends = (
    f"{n} loss {h['validation_loss']:.2f}, accuracy {h['validation_accuracy']:.2f}"
    for n, h in last.items()
)
report.show_figure(figure, f"Curves by step. Last validation: {'; '.join(ends)}.")
print(f"validation accuracy on {len(watched)} rows: one row is {1 / len(watched):.3f}")

# %% [markdown]
# The two losses are on different scales. The label's is a mean over the answer's tokens,
# of which the last, the end, is soon certain; the head's is over the classes alone. The
# accuracies can be compared, but they rest on few rows, and show the weights as they run:
# the finished models are averages over the last two thirds of the steps.
#
# ## 8 · The test rows
#
# Nothing was chosen on them. All systems are judged on the rows that the decoder was
# asked. (What was chosen, on validation rows of the news: the decoder's rates, one tried
# for the label and two for the head. The encoder keeps lesson 04's recipe.)

# %%
judged = {name: p[: len(asked)] for name, p in probabilities.items()}
correct = {name: p.argmax(1) == truth for name, p in judged.items()}
article = splits["test"]["document"][: len(asked)]
table = pd.DataFrame(
    {
        name: {
            **evaluation.score_classifier(truth, p),
            **vars(evaluation.bootstrap_interval(correct[name], groups=article)),
            "macro-F1": str(
                evaluation.bootstrap_macro_f1(truth, p.argmax(1), groups=article)
            ),
        }
        for name, p in judged.items()
    }
).T.sort_values("value", ascending=False)
figure = report.plot_intervals(
    table,
    f"{len(splits['train']):,} training rows, one seed",
    "test accuracy (95 % interval)",
    float(table.loc["majority", "value"]),
)
report.show_figure(
    figure, f"Test accuracy with 95 % intervals: {report.list_rows(table)}."
)
table[["accuracy", "low", "high", "n", "macro-F1", "precision", "recall", "loss"]]

# %% [markdown]
# Intervals draw whole *articles* anew, because sentences of one article are not
# independent. Precision and recall are averaged over classes; `loss` is the mean log loss, which
# punishes confident errors: an even guess among three costs 1.10, and `majority`, which
# gives the other classes no chance at all, pays without limit. Row by row:

# %%
ours = "lora_label"
pairs = {
    name: evaluation.compare_paired(correct[ours], row, groups=article)
    for name, row in correct.items()
    if name not in (ours, "majority")
}
evaluation.tabulate_pairs(ours, pairs)

# %% [markdown]
# That is one [seed](glossary.md#seed) and a few rows, and p is not corrected for being
# asked several times. **The study** trains on all rows that are left, with three seeds,
# and tests on about 1,000 sentences of articles never trained on; its intervals resample
# seeds and *articles* together, for sentences of one article are not independent.
# `raters` is the ceiling of section 2, on the test rows.

# %%
if study:
    shown = report.tabulate_metrics(study)
    figure = report.plot_intervals(
        shown,
        f"The study: {len(study.seeds)} seeds",
        "test accuracy (95 % interval)",
        float(shown.loc["majority", "value"]),
    )
    listed = report.list_rows(shown)
    report.show_figure(figure, f"The study's test accuracies: {listed}.")
    ahead = report.tabulate_differences(study).query("system == 'lora_label'")
    points = 100 * ahead[["value", "low", "high"]]
    display(points.round(1).add_suffix(" (points)"))
    f1 = report.tabulate_metrics(study, "macro_f1")["value"]
    print("macro-F1:", ", ".join(f"{n} {v:.3f}" for n, v in f1.head(6).items()))
    print("halves of raters agree:", study.find("raters", "agreement"))
else:
    print("not measured yet")

# %% [markdown]
# Read it as a sceptic. Do the trained decoders clear the word counts and the lexicon with
# whole intervals? Do they clear the encoder, which is a sixth of their size? How far is
# the best from the ceiling? And asking: what do examples and a corrected lean add to the
# bare question (`_free`: by texts without content; `_unlabelled`: by unlabelled texts)?
# Hold label and head against each other here and in your run above: with few rows the
# words "negative" and "positive" already mean something to the model, a new head means
# nothing yet.
#
# ## 9 · Which class, and why neutral
#
# One row a class: precision, recall, F1, and how many rows there are.

# %%
by_class = classification_report(
    truth,
    probabilities["lora_label"].argmax(1),
    labels=range(len(names)),
    target_names=names,
    output_dict=True,
    zero_division=0,
)
pd.DataFrame(by_class).T.loc[names].astype({"support": int})

# %%
for name in ("tfidf", "lora_label"):
    confusion = evaluation.tabulate_confusion(truth, judged[name].argmax(1), names)
    figure = report.plot_confusion(confusion, f"{name}, {len(asked)} test rows")
    most = confusion.where(~np.eye(len(names), dtype=bool)).stack().idxmax()
    report.show_figure(
        figure,
        f"Confusion of {name}: {np.trace(confusion)} of {len(asked)} rows right; "
        f"the commonest error is {most[0]} taken for {most[1]}.",
    )

# %% [markdown]
# Which errors are left? Mixing up negative and positive would be a failure to read;
# taking either for neutral may be a matter of where the line is drawn. The study's test
# rows, by how far their mean rating is from 0, beside new panels of raters:

# %%
by_band = None
if study and rated:
    kept = report.read_predictions(LESSON)
    full = data.load_reviews(
        profile.dataset, validation_rows=600, test_rows=1000, neutral=True
    )["test"]
    assert full["label"] == kept["labels.test"].tolist(), "the study has other rows"
    distance = np.abs(full["rating"])
    bands = pd.cut(distance, [0, 0.3, 0.5, 0.7, 1, 4], right=False)
    said = {
        "a new panel": kept["panel.raters"],
        "lora_label": kept["test.lora_label"].argmax(-1),
        "tfidf": kept["test.tfidf"].argmax(-1),
    }
    right = {name: (row == kept["labels.test"]).mean(0) for name, row in said.items()}
    by_band = pd.DataFrame(right).groupby(bands, observed=True).mean()
    by_band["rows"] = bands.value_counts()
else:
    print("This needs the study and the packaged news sentences.")
by_band

# %%
if by_band is not None:
    figure, axis = plt.subplots(figsize=(report.WIDTH, 3.4))
    for name, mark in zip(said, "os^", strict=True):
        axis.plot(by_band.index.astype(str), by_band[name], marker=mark, label=name)
    axis.set(xlabel="distance of the mean rating from 0", ylabel="gives the label")
    axis.set_title("Right by distance from neutral")
    axis.legend()
    spans = "; ".join(
        f"{name} {', '.join(f'{v:.2f}' for v in by_band[name])}" for name in said
    )
    report.show_figure(figure, f"Share right, from near 0 to far: {spans}.")

# %% [markdown]
# Does the model err most where the raters themselves are least sure? As much as a new
# panel misses there is the labels' fault: those sentences have no sure label. The rest is
# the model's own. And what does it find hardest, judged by its distance from that line:
# faint feelings, or none?
#
# ## 10 · Unequal classes, and what weighting does
#
# In training, each row can be made to count by the inverse of its class's share
# ("balanced"). That does not add knowledge: it moves errors from the rare class to the
# common one. What it does to the loss of two rows, of class 0 and of class 1:

# %% tags=["nbval-check-output"]
logits, targets = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1])
weight = torch.tensor([0.5, 2.0])
each = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
by_hand = (weight[targets] * each).sum() / weight[targets].sum()
theirs = torch.nn.functional.cross_entropy(logits, targets, weight=weight)
print("losses:", each.numpy().round(3), " plain mean:", round(float(each.mean()), 3))
print("weighted mean:", round(float(by_hand), 3), bool(torch.isclose(by_hand, theirs)))

# %% [markdown]
# On the word counts:

# %%
weights = compute_class_weight(
    "balanced", classes=np.arange(len(names)), y=labels["train"]
)
print("weights:", dict(zip(names, weights.round(2).tolist(), strict=True)))
words, plain = models.fit_tfidf(splits)  # word weights, and what was fitted on them
compared = {}
for title, weight in {"as they come": None, "balanced": "balanced"}.items():
    line = LogisticRegression(C=plain.C, max_iter=2000, class_weight=weight)
    line.fit(words.transform(splits["train"]["text"]), labels["train"])
    found = line.predict(words.transform(splits["test"]["text"]))
    scored = classification_report(
        labels["test"],
        found,
        labels=range(len(names)),
        target_names=names,
        output_dict=True,
        zero_division=0,
    )
    compared[title] = {
        "accuracy": (found == labels["test"]).mean(),
        "macro-F1": scored["macro avg"]["f1-score"],
        **{f"recall, {name}": scored[name]["recall"] for name in names},
    }
pd.DataFrame(compared).T

# %%
if study:
    kinds = [
        f"{kind}_{n}" for n in data.THREE_CLASSES for kind in ("recall", "precision")
    ]
    kinds = ["accuracy", "macro_f1", *kinds]
    weighted = {
        arm: {kind: str(study.find(arm, kind)) for kind in kinds}
        for arm in ("bert_lora", "bert_lora_weighted")
    }
    print(
        "weighted − plain, accuracy:",
        study.find("bert_lora_weighted", "accuracy", minus="bert_lora"),
    )
    display(pd.DataFrame(weighted))
else:
    print("not measured yet")

# %% [markdown]
# The first table has no intervals: a point or two mean nothing there. The second is the
# study's encoder, trained with and without weights (`fine_tune_classifier(…, class_weights=…)`);
# brackets behind precision and recall are the range over seeds. Which recalls rise, which
# precisions pay for it? Weight when an error on the rare class costs you more, not
# because the classes are unequal.
#
# ## 11 · Can its confidence be believed?
#
# Of rows it is 70 % sure of, does it get 70 % right? The *expected calibration error* is
# the mean distance of confidence and accuracy over groups of rows. With few rows it is
# some points above zero even for a perfectly honest model.

# %%
calibrations = {
    name: evaluation.calibrate(truth, judged[name], bins=5)
    for name in ("tfidf", "zero_shot", "lora_label", "lora_head")
}
figure = report.plot_calibration(
    {name: c[0] for name, c in calibrations.items()}, "Confidence and accuracy"
)
gaps = {name: round(c[1], 3) for name, c in calibrations.items()}
report.show_figure(
    figure,
    "Accuracy against confidence. Expected calibration error: "
    + ", ".join(f"{name} {gap}" for name, gap in gaps.items())
    + "; points below the diagonal are overconfident.",
)
print(f"expected calibration error ({len(asked)} rows):", gaps)

# %% [markdown]
# ## 12 · Elsewhere
#
# The model learned from one kind of text. What is it worth on others? Where a data set
# has two classes, the model chooses between those two: neutral exists only where it was
# rated.

# %%
elsewhere = {}
for source in profile.out_of_domain:
    there = data.load_reviews(source, validation_rows=100, test_rows=100, neutral=True)
    own_names = there["test"].features["label"].names
    shared = [name for name in own_names if name in names]
    few = [row for row in there["test"] if own_names[row["label"]] in shared][:50]
    with mixed_precision_lora(model, choose_precision()):
        found = ask(model, [row["text"] for row in few], progress=False)
    found = found[:, [names.index(name) for name in shared]].argmax(1)
    right = [
        shared[n] == own_names[row["label"]] for n, row in zip(found, few, strict=True)
    ]
    title = f"{source}, {len(shared)} classes"
    elsewhere[title] = vars(evaluation.wilson_interval(right))
pd.DataFrame(elsewhere).T.rename(columns={"value": "accuracy of lora_label"})

# %%
if study:
    systems = ["vader", "tfidf", "nbsvm", "bert_lora", "lora_head", "lora_label"]
    systems += ["tfidf_mixed", "nbsvm_mixed", "bert_lora_mixed"]
    there = {"news": "", "movie": "movie", "product": "product"}
    display(
        pd.DataFrame(
            {
                name: {
                    system: str(study.find(system, "accuracy", subset=subset))
                    for system in systems
                }
                for name, subset in there.items()
            }
        )
    )
    for arm in ("tfidf", "bert_lora"):
        moves = []
        for name, subset in there.items():
            move = study.find(f"{arm}_mixed", "accuracy", subset=subset, minus=arm)
            moves.append(f"{name} {move}")
        print(f"{arm}, mixed − news alone: {'; '.join(moves)}")
else:
    print("not measured yet")

# %% [markdown]
# Rows without `_mixed` were trained on news alone, those with it on as many rows in all,
# a third from each domain. What does a model lose on texts it was not trained on, and
# which loses least? What do the mixed ones win there, and what do they pay at home?
#
# ## 13 · Save, merge, one file
#
# The head's [adapter](glossary.md#adapter) holds LoRA and the head. Loaded onto the base
# in a fresh process, with another random head at first, it must give the same
# [logits](glossary.md#logits). (In the `gpu` profile this is not tried: merging needs the
# whole model in an unquantised format, twice.)

# %%
adapter, merged_folder = folder / "adapter", folder / "merged"
head.model.save_pretrained(adapter)
head.tokenizer.save_pretrained(adapter)
sample = asked[:4]
setting = {"name": decoder_name, "class_names": names, "texts": sample}
(adapter / "sample.json").write_text(json.dumps(setting), encoding="utf-8")
RELOAD = """
import json, pathlib, sys, torch
from peft import PeftModel
from lessons_lib import models
folder = pathlib.Path(sys.argv[1])
setting = json.loads((folder / "sample.json").read_text(encoding="utf-8"))
texts = setting.pop("texts")
base, tokenizer = models.load_classifier(**setting, seed=123)
model = PeftModel.from_pretrained(base, folder).eval()
with torch.inference_mode():
    rows = [tokenizer(text, return_tensors="pt")["input_ids"] for text in texts]
    logits = [model(input_ids=ids.to(base.device)).logits.tolist() for ids in rows]
print(json.dumps(logits))
"""

# %% tags=["nbval-check-output"]
with torch.inference_mode():
    ids = [head.tokenizer(text, return_tensors="pt")["input_ids"] for text in sample]
    here = [head.model(input_ids=row.to(head.model.device)).logits for row in ids]
    here = torch.cat(here).float().cpu()
if not quantize:
    command = [sys.executable, "-c", RELOAD, str(adapter)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    theirs = torch.tensor(json.loads(run.stdout.splitlines()[-1]))[:, 0]
    print("identical logits in a fresh process:", torch.equal(here, theirs))

# %% [markdown]
# Merged, LoRA's product is added to the weights: an ordinary model in `safetensors`,
# which needs neither [PEFT](glossary.md#peft) nor this course, and carries its label
# names in `config.json`. One script of its own classifies a CSV file with it:

# %%
SCRIPT = '''"""python classify.py texts.csv answers.csv: adds label and confidence."""
import sys
from pathlib import Path
import pandas as pd
import torch
from tqdm import tqdm
from transformers import AutoModelForSequenceClassification, AutoTokenizer

folder = Path(__file__).parent
model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
tokenizer = AutoTokenizer.from_pretrained(folder)
rows, parts = pd.read_csv(sys.argv[1], keep_default_na=False), []
for start in tqdm(range(0, len(rows), 16), desc="classify", unit="batch"):
    texts = rows["text"][start : start + 16].tolist()
    batch = tokenizer(texts, padding=True, truncation=True, max_length=MAX_TOKENS,
                      return_token_type_ids=False, return_tensors="pt")
    with torch.inference_mode():
        parts.append(model(**batch).logits.float().softmax(-1))
confidence, label = torch.cat(parts).max(-1)
rows["label"] = [model.config.id2label[n] for n in label.tolist()]
rows["confidence"] = confidence.tolist()
rows.to_csv(sys.argv[2], index=False)
'''.replace("MAX_TOKENS", str(profile.max_tokens))
if not quantize:
    merged = head.model.merge_and_unload()
    merged.save_pretrained(merged_folder)
    head.tokenizer.save_pretrained(merged_folder)
    (merged_folder / "classify.py").write_text(SCRIPT, encoding="utf-8")

# %% tags=["nbval-check-output"]
pd.DataFrame({"text": asked[:32]}).to_csv(folder / "texts.csv", index=False)
if not quantize:
    command = [sys.executable, str(merged_folder / "classify.py")]
    command += [str(folder / name) for name in ("texts.csv", "answers.csv")]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    answers = pd.read_csv(folder / "answers.csv")
    expected, first = here.softmax(-1).numpy(), answers[: len(here)]
    same = [names[n] for n in expected.argmax(1)] == first["label"].tolist()
    print("the script's labels are ours:", same)
    close = np.allclose(expected.max(1), first["confidence"], atol=1e-3)
    print("and its confidences, to three digits:", close)
    print("it drew a progress bar:", "classify: 100%" in run.stderr)

# %%
if not quantize:
    for file in sorted(adapter.glob("*.safetensors")):
        print(f"adapter: {file.stat().st_size / 1e6:,.0f} MB")
    size = sum(f.stat().st_size for f in merged_folder.glob("*.safetensors")) / 1e6
    print(f"merged:  {size:,.0f} MB in fp32")
    display(answers.head())

# %% [markdown]
# Adding LoRA's product first and multiplying then rounds differently, and so does
# padding: hence three digits, not the last.
#
# ## 14 · Ask it yourself
#
# Both trained models judge the same text. The box needs a running kernel; the function
# does the same.


# %%
def judge(text: str) -> str:
    """What the two trained models say of one text, with probabilities."""
    lines = []
    for title, row in {
        "label": ask(model, [text], progress=False)[0],
        "head": classify(head, [text])[0],
    }.items():
        shares = ", ".join(f"{n} {p:.2f}" for n, p in zip(names, row, strict=True))
        lines.append(f"{title:6s} {names[row.argmax()]} ({shares})")
    return "\n".join(lines)


for text in ["The committee will meet on Tuesday.", "Profits fell by half."]:
    print(text, judge(text), sep="\n")

# %%
report.text_playground(judge, "The reform helps nobody but its authors.", "sentence")

# %% [markdown]
# ## 15 · What was measured

# %%
metrics = evaluation.Metrics()
for name, p in probabilities.items():
    there = labels["test"][: len(p)]
    groups = splits["test"]["document"][: len(p)]
    predicted = p.argmax(1)
    accuracy = evaluation.bootstrap_interval(predicted == there, groups=groups)
    macro_f1 = evaluation.bootstrap_macro_f1(there, predicted, groups=groups)
    metrics.add(name, "accuracy", accuracy)
    metrics.add(name, "macro_f1", macro_f1)
for name, pair in pairs.items():
    metrics.add(ours, "accuracy", pair.difference, minus=name)
speed = evaluation.measured_once(label_run.tokens_per_second)
metrics.add("lora_label", "tokens_per_second", speed)
run_results = report.collect_results(
    LESSON,
    profile.name,
    seeds=[SEED],
    models={"encoder": profile.encoder, "decoder": decoder_name},
    data=[profile.dataset, *profile.out_of_domain],
    metrics=metrics,
    headline=(("zero_shot", "accuracy"), ("lora_label", "accuracy")),
)
print(report.write_results(run_results).name, f"{run_results.seconds:.0f} s")

# %% [markdown]
# ## Recap
#
# 1. A decoder classifies by the likelihood of label names, asked or trained, or by a head
#    on its last token.
# 2. A prompted model leans to a label before it reads; dividing by that lean is cheap,
#    and whether it helps is measured, not assumed.
# 3. Three classes need macro-F1, precision and recall of each class, and a confusion
#    table beside accuracy; human agreement says how much is left to gain.
# 4. Weighting moves errors between classes. A model trained on one kind of text has to be
#    measured on another before it is used there.
# 5. The order of labels is compared by name before anything is scored. The adapter, the
#    merged model and one script reproduce the predictions.
#
# ## Quiz
#
# Answer first, then run the cell.
#
# 1. Of 100 rows 60 are neutral. What are the accuracy and the macro-F1 of a model that
#    always says neutral, with three classes?
# 2. A prompted model says (0.5, 0.2, 0.3), and (0.6, 0.1, 0.3) to "N/A". Which class
#    after the lean is taken out?
# 3. Three rows have the true classes 0, 1, 2 and are called 1, 2, 0: the names were
#    rotated. What is the accuracy, and what is it once the names are put right?
# 4. Classes have 40, 50 and 10 rows. What does "balanced" make each row of them count?

# %% tags=["nbval-check-output"]
true = np.array([0] * 20 + [1] * 60 + [2] * 20)
always = np.full(100, 1)
print(f"1. {(true == always).mean():.2f} and", end=" ")
print(f"{evaluation.bootstrap_macro_f1(true, always).value:.2f}")
freed = divide_prior(np.array([[0.5, 0.2, 0.3]]), np.array([0.6, 0.1, 0.3]))
print("2. class", freed.argmax(), freed.round(2).tolist())
called = np.array([1, 2, 0])
print("3.", (called == np.arange(3)).mean(), ((called - 1) % 3 == np.arange(3)).mean())
sizes = np.repeat([0, 1, 2], [40, 50, 10])
balanced = compute_class_weight("balanced", classes=np.arange(3), y=sizes)
print("4.", balanced.round(2).tolist())

# %% [markdown]
# **Next.** With `LESSONS_PROFILE=gpu` this notebook trains Llama-2-7B in 4 bit on
# Financial PhraseBank (or an open model where you have no access), and tries it on IMDB
# and SST-2; its numbers stay blank until somebody has measured them. Lesson 05 asks when
# to look things up instead of training. The graded assignment of this lesson will ask you
# to score labels, to take a lean out, and to find the model whose labels are rotated.
