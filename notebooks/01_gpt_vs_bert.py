# %% [markdown]
# # Lesson 01 · GPT against BERT, measured
#
# [![Open in Colab](open_in_colab.svg)](https://colab.research.google.com/github/your-account/fine-tuning-lessons/blob/main/notebooks/01_gpt_vs_bert.ipynb)
#
# **You will be able to**
#
# 1. say what a [decoder](glossary.md#decoder) (the GPT family) and an
#    [encoder](glossary.md#encoder) (the [BERT](glossary.md#bert) family) compute, and
#    prove the difference on two real models;
# 2. show what each was trained for: the next word, or the missing one;
# 3. fine-tune a BERT for sentiment, and judge it against four simple rivals and against a
#    decoder that is only asked;
# 4. look into its errors, and choose a model for a task from measured numbers.
#
# **You need** some Python, and an idea of what a neural network and a
# [gradient](glossary.md#gradient) are.
#
# **Words that come back** (links lead to the glossary). *[Token](glossary.md#token)*: a
# word or a piece of one. *[Tokenizer](glossary.md#tokenizer)*: what cuts a text into
# tokens. *[State](glossary.md#state)*: the vector a model holds for one token in one
# layer. *[Attention](glossary.md#attention)*: how a token's state draws on other tokens'
# states. *Head*: one of several attentions side by side; also, confusingly, the small
# layer on top that turns states into answers. *[Zero-shot](glossary.md#zero-shot)*: asked
# without examples; *[few-shot](glossary.md#few-shot)*: with a few in the
# [prompt](glossary.md#prompt). *[LoRA](glossary.md#lora)*: training a small addition
# instead of the model (lesson 04 opens it up). *[Logits](glossary.md#logits)*: raw
# scores, before they become probabilities. *[Embedding](glossary.md#embedding)*: the
# vector a token starts with. *[Macro F1](glossary.md#macro-f1)*: [F1](glossary.md#f1),
# the balance of [precision](glossary.md#precision) and [recall](glossary.md#recall),
# averaged over the classes. *[Wilson interval](glossary.md#wilson-interval)*: a 95 %
# [interval](glossary.md#interval) for a share of right answers.
# *[Bootstrap](glossary.md#bootstrap)*: an interval found by drawing the rows again and
# again. *[TF-IDF](glossary.md#tf-idf)*: word counts, rare words weighted up;
# *[NB-SVM](glossary.md#nb-svm)*: word counts weighted by naive Bayes.

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
import re
import time
from dataclasses import replace

from lessons_lib import data, evaluation, models, report, training

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from datasets import Dataset
from matplotlib.colors import LogNorm
from peft import LoraConfig
from torch import nn
from transformers import BitsAndBytesConfig

from lessons_lib.hardware import choose_precision
from lessons_lib.profiles import load_profile
from lessons_lib.training import ATTENTION, FEED_FORWARD, Recipe, fine_tune_classifier

LESSON = "01_gpt_vs_bert"
SEED = 0
profile = load_profile(LESSON)
models.quiet_libraries()
report.use_course_style()
pd.set_option("display.precision", 3, "display.max_colwidth", 90)

# %% [markdown]
# ## What runs here
#
# Three profiles: `laptop` takes real pretrained weights from the Python package index,
# `gpu` takes `bert-base-uncased` and [Llama-2-7B](glossary.md#llama) from the Hugging
# Face Hub (or an open model where you have no access to Llama), `smoke` takes tiny random
# models, to test the code.

# %%
decoder_name = models.resolve_decoder(profile.decoder, profile.fallback_decoder)
published = report.find_results(LESSON, "laptop")
study = report.read_results(LESSON, "study")
print(f"profile  {profile.name}")
print(f"decoder  {decoder_name}")
print(f"encoder  {profile.encoder}")
print(f"reviews  {profile.dataset}, {profile.train_rows or 'all'} for training")
print(f"numbers  {choose_precision().dtype}: {choose_precision().reason}")
if published:
    print(f"laptop   {published.seconds:.0f} s and {published.peak_mb:,.0f} MB on")
    print(
        f"         {published.machine['cpu']}, {published.machine['threads']} threads"
    )

# %% [markdown]
# In the laptop profile the decoder is
# [SmolLM2-135M-Instruct](https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct)
# (Apache-2.0), a small Llama trained to chat. Its packaged weights were stored in 4 bit
# once, so it may do slightly worse than the original. The encoder is
# [all-MiniLM-L6-v2](https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2)
# (Apache-2.0), a small BERT trained further to give sentence vectors; as in lesson 04 it
# is held in [DistilBERT](glossary.md#distilbert)'s layout, which computes the same. The
# reviews are sentences from movie reviews, each rated by about 20 people (Hutto & Gilbert
# 2014, MIT licence).
#
# The two differ in size and in training data as well as in kind. What follows is a
# comparison of two real models, not of two ideas in a vacuum: what the *kind* alone
# decides (section 3) we prove, the rest we measure and keep apart.

# %%
options = {}
if profile.quantize:  # 7 billion weights in 4 bit each (lesson 02 opens that up)
    options["quantization_config"] = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=choose_precision().torch_dtype,
    )
decoder, decoder_tokenizer = models.load_decoder(decoder_name, **options)
classifier, encoder_tokenizer = models.load_classifier(profile.encoder, seed=SEED)
encoder = classifier.base_model  # without the new, untrained head
pair = {
    "decoder": (decoder, decoder_tokenizer),
    "encoder": (encoder, encoder_tokenizer),
}
facts = {}
for name, (model, tokenizer) in pair.items():
    config, weights = model.config, model.num_parameters()  # in 4 bit, too
    facts[name] = {
        "class": type(model).__name__,
        "layers": config.num_hidden_layers,
        "width": config.hidden_size,
        "heads": config.num_attention_heads,
        "vocabulary": len(tokenizer),
        "parameters": f"{weights:,}",
        "weights, MB": round(sum(p.nbytes for p in model.parameters()) / 1e6),
    }
pd.DataFrame(facts)

# %% [markdown]
# ## 1 · The same sentences through both tokenizers
#
# Look at capital letters, at the space before a word (`Ġ`), at rare words, and at what
# the encoder puts around every text.


# %%
def list_tokens(tokenizer, text: str) -> list[str]:
    """The pieces a model reads."""
    return tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])


sentences = [
    "The film was good.",
    "An unwatchable mess!",
    "Hypertrichosis isn't contagious.",
]
for text in sentences:
    for name, (_, tokenizer) in pair.items():
        pieces = list_tokens(tokenizer, text)
        print(f"{name} ({len(pieces):2d})  {' '.join(pieces)}")
    print()

# %% [markdown]
# ## 2 · Attention: who may look at whom
#
# In attention every token gives weights to tokens, and the weights of one token sum to 1.
# A decoder learns by predicting the next token, so it must not see it: a *causal
# [mask](glossary.md#mask)* sets the weights of all later positions to zero. An encoder
# has no such mask. For four tokens, a row for each reading token:


# %% tags=["nbval-check-output"]
def read_attention(model, ids: list[int]) -> np.ndarray:
    """Attention weights on one text: (layers, heads, reading token, token read)."""
    row = torch.tensor([ids], device=model.device)
    usual = model.config._attn_implementation  # never writes its weights down
    model.set_attn_implementation("eager")
    with torch.inference_mode():
        output = model(row, attention_mask=torch.ones_like(row), output_attentions=True)
    model.set_attn_implementation(usual)
    return torch.cat(output.attentions).float().cpu().numpy()


print("decoder, causal mask:")
print(torch.ones(4, 4).tril().int().numpy())
print("encoder, full mask:")
print(torch.ones(4, 4).int().numpy())

# %% [markdown]
# That is the theory. Here are the weights that the two models really compute, one head
# each; layers count from 0. Grey cells are exactly zero.


# %%
def plot_heatmaps(tables: dict, label: str, logarithmic: bool = False) -> plt.Figure:
    """Tables side by side, darker for less; cells that are exactly zero are grey."""
    figure, axes = plt.subplots(1, 2, figsize=(10.8, 4.4), layout="constrained")
    for axis, (name, table) in zip(axes, tables.items(), strict=True):
        sns.heatmap(
            table,
            mask=table == 0,
            norm=LogNorm() if logarithmic else None,
            cmap="viridis",
            xticklabels=1,
            cbar_kws={"label": label},
            ax=axis,
        )
        axis.set(title=name, facecolor="0.85")
        axis.grid(visible=False)
    return figure


# %%
text = "The plot is thin but the acting was good."
ids = {name: tokenizer(text)["input_ids"] for name, (_, tokenizer) in pair.items()}
attention = {
    name: read_attention(model, ids[name]) for name, (model, _) in pair.items()
}


def draw_attention(layer: int, head: int) -> plt.Figure:
    """Both models' weights in one layer and head (the last, where there are fewer)."""
    tables = {}
    for name, (_, tokenizer) in pair.items():
        pieces = list_tokens(tokenizer, text)
        layers, heads = attention[name].shape[:2]
        at = min(layer, layers - 1), min(head, heads - 1)
        tables[f"{name}, layer {at[0]}, head {at[1]}"] = pd.DataFrame(
            attention[name][at],
            pd.Index(pieces, name="reading token"),
            pd.Index(pieces, name="token read"),
        )
    return plot_heatmaps(tables, "attention weight")


report.show_figure(
    draw_attention(layer=2, head=3),
    "Attention weights of one head. In the decoder the cells above the diagonal are "
    "exactly zero; in the encoder every token reads every other.",
)

# %% tags=["nbval-check-output"]
# Not only in this head: in all of them.
above = {name: np.triu(np.ones(a.shape[-2:]), 1) > 0 for name, a in attention.items()}
print(
    "decoder, largest weight on a later token:",
    float(attention["decoder"][..., above["decoder"]].max()),
)
print(
    "encoder, every later token is read somewhere:",
    bool((attention["encoder"][..., above["encoder"]].max((0, 1)) > 0).all()),
)
print(
    "each row sums to 1:",
    all(np.allclose(a.sum(-1), 1, atol=1e-2) for a in attention.values()),
)

# %%
# Pick a layer and a head yourself (this needs a running kernel; draw_attention(…) does
# the same).
_ = ipywidgets.interact(
    lambda layer, head: report.show_figure(
        draw_attention(layer, head),
        f"Attention weights of one head in each model: layer {layer}, head {head}.",
    ),
    layer=(0, max(len(a) for a in attention.values()) - 1),
    head=(0, max(a.shape[1] for a in attention.values()) - 1),
)
# %% [markdown]
# ## 3 · The decisive experiment
#
# Weights are one step of many; what counts in the end is the states. We change one late
# word, "good" to "bad", and ask which positions' states move, layer by layer. If a model
# only looks back, nothing before the changed word can know of it.


# %%
@torch.inference_mode()
def trace_change(model, ids: list[int], changed: list[int]) -> np.ndarray:
    """How far each state moves when `ids` become `changed`: (layers + 1, tokens)."""
    states = []
    for tokens in (ids, changed):
        row = torch.tensor([tokens], device=model.device)
        output = model(
            row, attention_mask=torch.ones_like(row), output_hidden_states=True
        )
        states.append(torch.stack(output.hidden_states).float())
    return (states[0] - states[1]).abs().amax(-1)[:, 0].cpu().numpy()


other = "The plot is thin but the acting was bad."
changes = {}
for name, (model, tokenizer) in pair.items():
    moved = trace_change(model, ids[name], tokenizer(other)["input_ids"])
    changes[name] = pd.DataFrame(
        moved,
        pd.Index(range(len(moved)), name="layer (0: embedding)"),
        pd.Index(list_tokens(tokenizer, text), name="position"),
    )
figure = plot_heatmaps(changes, "largest change of the state", logarithmic=True)
report.show_figure(
    figure,
    "How far each position's state moves, by layer, when one late word is changed. In "
    "the decoder only the changed word and what follows it move; in the encoder every "
    "position moves.",
)

# %% tags=["nbval-check-output"]
for name, (_, tokenizer) in pair.items():
    one, two = ids[name], tokenizer(other)["input_ids"]
    changed_at = next(
        n for n, (a, b) in enumerate(zip(one, two, strict=True)) if a != b
    )
    before = changes[name].to_numpy()[1:, :changed_at]  # layer 0 is the word itself
    print(f"{name}: some earlier state moved:", bool((before > 1e-4).any()))
    print(f"{name}: every earlier state moved:", bool((before[-1] > 1e-4).all()))

# %% [markdown]
# This is a matter of architecture, not of training: it holds for the random models of the
# smoke profile too. What follows from it:
#
# - A decoder's states never change when text is *added*. So it can keep them (the
#   *key-value cache*), and generating the next token costs one step, not a new reading.
# - An encoder must read everything anew for every change; in exchange each state knows
#   the whole sentence. (A decoder's *last* state has seen the whole text too; that is
#   where a classifier on top of it reads.)
#
# ## 4 · What each was trained for
#
# **The decoder: the next token.** It gives a probability to every token of its
# vocabulary.

# %%
start = "The film was surprisingly"
inputs = decoder_tokenizer(start, return_tensors="pt", return_token_type_ids=False)
inputs = inputs.to(decoder.device)
with torch.inference_mode():
    logits = decoder(**inputs).logits[0, -1].float()
top = logits.softmax(-1).topk(8)
pd.DataFrame(
    {
        "next token": decoder_tokenizer.batch_decode(top.indices[:, None]),
        "probability": top.values.cpu(),
    }
)

# %% [markdown]
# A *temperature* below 1 sharpens such a distribution and one above 1 flattens it, for
# the logits are divided by it. A worked example with three tokens:

# %% tags=["nbval-check-output"]
three = torch.tensor([2.0, 1.0, 0.0])
for temperature in (0.5, 1.0, 2.0):
    shares = (three / temperature).softmax(-1)
    print(f"temperature {temperature}: {[round(float(p), 3) for p in shares]}")

# %% [markdown]
# From distributions to text there are several ways. *Greedy* takes the likeliest token
# each time; *sampling* draws; *beam search* keeps the best few continuations.

# %%
ways = {
    "greedy": {"do_sample": False},
    "sampled": {"do_sample": True, "temperature": 0.8, "top_p": 0.95},
    "beam of 4": {"do_sample": False, "num_beams": 4},
}
generated_per_second = {}
decoder.generate(
    **inputs, max_new_tokens=2, pad_token_id=decoder_tokenizer.eos_token_id
)
for way, options in ways.items():
    torch.manual_seed(SEED)
    began = time.perf_counter()
    written = decoder.generate(
        **inputs,
        max_new_tokens=24,
        min_new_tokens=24,
        pad_token_id=decoder_tokenizer.pad_token_id,
        **options,
    )
    generated_per_second[way] = 24 / (time.perf_counter() - began)
    new = decoder_tokenizer.decode(written[0], skip_special_tokens=True)
    print(f"{way} ({generated_per_second[way]:.0f} tokens/s):\n  {new}\n")

# %% [markdown]
# A decoder also *scores* text: the probability of a sentence is the product of its
# tokens' probabilities. Its *[perplexity](glossary.md#perplexity)* is the inverse, per
# token: how many equally likely tokens the model seems to choose among (one over the
# geometric mean of the tokens' probabilities). A model that knows nothing about four
# tokens has perplexity 4:

# %% tags=["nbval-check-output"]
uniform = torch.full((5, 4), 1.0).log_softmax(-1)  # five tokens, each one of four
mean_log = uniform[torch.arange(5), torch.tensor([0, 3, 1, 2, 2])].mean()
print(f"perplexity: {float(torch.exp(-mean_log)):.3f}")


# %%
@torch.inference_mode()
def perplexity(text: str) -> float:
    """The decoder's perplexity on one text (its first token, which nothing predicts, is
    left out)."""
    row = decoder_tokenizer(text, return_tensors="pt", return_token_type_ids=False)
    row = row.to(decoder.device)
    return float(torch.exp(decoder(**row, labels=row["input_ids"]).loss))


for sentence in [
    "The acting was better than the script.",
    "The acting was better than the refrigerator.",
    "Script the than better was acting the.",
]:
    print(f"{perplexity(sentence):10,.0f}  {sentence}")

# %% [markdown]
# **The encoder: the missing token.** BERT's objective hides some tokens and asks for them
# from both sides. Our packaged encoder was published without the layer that answers, for
# it was trained on to give sentence vectors. So we add that layer and train for a minute
# on the reviews' own words, with a copy of the encoder. First the reviews. (BERT hid 15 %
# of the tokens, 80 % of those behind `[MASK]` and the rest behind a random word or none;
# we use `[MASK]` alone. `bert-base-uncased` has such a layer; we train one all the same.)

# %%
splits = data.load_reviews(
    profile.dataset,
    validation_rows=profile.validation_rows,
    test_rows=profile.test_rows,
)
pool = splits[
    "train"
]  # the language objective needs no labels, so it may read them all
splits["train"] = data.take_rows(pool, profile.train_rows, SEED)
data.count_classes(splits)

# %%
MASK = encoder_tokenizer.mask_token_id
SPECIAL = torch.tensor(encoder_tokenizer.all_special_ids)


def hide_tokens(texts: list[str], seed: int) -> list[tuple]:
    """Batches: a model's inputs, where tokens were hidden (15 %), what stood there."""
    random, batches = np.random.default_rng(seed), []
    cut = {"truncation": True, "max_length": min(64, profile.max_tokens)}
    rows = encoder_tokenizer(sorted(texts, key=len), **cut)["input_ids"]
    for start in range(0, len(rows), 16):
        part = [{"input_ids": row} for row in rows[start : start + 16]]
        batch = training.pad_batch(part, encoder_tokenizer.pad_token_id)
        ids = batch["input_ids"]
        hidden = torch.tensor(random.random(ids.shape) < 0.15) & ~torch.isin(
            ids, SPECIAL
        )
        batch["input_ids"] = ids.masked_fill(hidden, MASK)
        parts = (batch["input_ids"], batch["attention_mask"], hidden, ids[hidden])
        batches.append([tensor.to(encoder.device) for tensor in parts])
    return [batches[n] for n in random.permutation(len(batches))]


# %% tags=["nbval-check-output"]
example = hide_tokens(["a slow film with a good ending"] * 40, seed=SEED)
hidden_share = torch.cat([h.float().mean()[None] for _, _, h, _ in example]).mean()
print("between 5 % and 25 % hidden:", bool(0.05 < hidden_share < 0.25))
print(
    "no special token is ever asked for:",
    not any(torch.isin(targets.cpu(), SPECIAL).any() for *_, targets in example),
)


# %%
class MaskedModel(nn.Module):
    """BERT's own form: the encoder, a layer, and a product with the word embeddings."""

    def __init__(self, encoder: nn.Module, width: int) -> None:
        super().__init__()
        self.encoder, self.words = encoder, encoder.get_input_embeddings()
        self.dense, self.norm = nn.Linear(width, width), nn.LayerNorm(width)
        nn.init.constant_(self.norm.weight, 0.3)  # start with mild scores
        self.bias = nn.Parameter(torch.zeros(self.words.num_embeddings))

    def forward(self, ids, mask, places) -> torch.Tensor:
        """Scores (hidden tokens, vocabulary); only hidden places are computed."""
        states = self.encoder(ids, attention_mask=mask).last_hidden_state[places]
        read = self.norm(nn.functional.gelu(self.dense(states)))
        return read @ self.words.weight.T + self.bias


def measure_loss(model: nn.Module, batches: list[tuple]) -> float:
    """Mean loss of the hidden tokens."""
    loss = nn.CrossEntropyLoss(reduction="sum")
    with torch.inference_mode():
        total = sum(loss(model(*row), targets) for *row, targets in batches)
    return float(total) / sum(len(targets) for *_, targets in batches)


# %%
copy, _ = models.load_classifier(profile.encoder, seed=SEED, dropout=0.0)
torch.manual_seed(SEED)
masked_model = MaskedModel(copy.base_model, encoder.config.hidden_size)
masked_model = masked_model.to(encoder.device)
for parameter in masked_model.words.parameters():
    parameter.requires_grad = False
ROWS, EPOCHS = 1500, 2
rounds = [hide_tokens(pool["text"][:ROWS], seed=epoch) for epoch in range(EPOCHS)]
unseen = hide_tokens(splits["validation"]["text"], seed=SEED)
targets_seen = torch.cat([targets for *_, targets in rounds[0]])
seen = torch.bincount(targets_seen, minlength=len(masked_model.bias))
masked_model.bias.data = torch.log((seen + 0.1) / seen.sum())  # how common a word is
optimizer = torch.optim.AdamW(
    [p for p in masked_model.parameters() if p.requires_grad], lr=3e-4
)
began = time.perf_counter()
print(f"loss on unseen texts {measure_loss(masked_model, unseen):.2f}", end="")
for batches in rounds:
    for *inputs_, targets in batches:
        loss = nn.functional.cross_entropy(masked_model(*inputs_), targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    print(f", then {measure_loss(masked_model, unseen):.2f}", end="")
with torch.inference_mode():
    right = [masked_model(*row).argmax(-1) == targets for *row, targets in unseen]
right = torch.cat(right).cpu().numpy()
print(f"; {time.perf_counter() - began:.0f} s for {EPOCHS} rounds over {ROWS:,} texts")

# %% [markdown]
# Training started from how common each token is. Has it learned to use the words around
# the gap beyond that? One rival always guesses the commonest token. The other knows the
# place as well: most sentences end in a full stop, so it guesses the commonest last token
# where the sentence ends, and the commonest of the others elsewhere.


# %%
def find_last(batches: list[tuple]) -> torch.Tensor:
    """Which hidden tokens (hidden tokens) are the last of their text."""
    sep = encoder_tokenizer.sep_token_id
    return torch.cat([(ids.roll(-1, 1) == sep)[hid] for ids, _, hid, _ in batches])


targets_unseen = torch.cat([targets for *_, targets in unseen])
last_seen, last_unseen = find_last(rounds[0]), find_last(unseen)
commonest = seen.argmax()
at_end, elsewhere = targets_seen[last_seen].mode(), targets_seen[~last_seen].mode()
by_place = torch.where(last_unseen, at_end.values, elsewhere.values)
guess = repr(encoder_tokenizer.decode([int(commonest)]))
guesses = {f"always {guess}": commonest, "the commonest by place": by_place}
lazy = {n: (targets_unseen == g).cpu().numpy() for n, g in guesses.items()}
for name, row in lazy.items():
    gain = evaluation.compare_paired(right, row).difference
    print(f"trained minus {name}, paired: {gain}")
pd.DataFrame(
    {
        n: vars(evaluation.wilson_interval(r))
        for n, r in (lazy | {"trained": right}).items()
    }
).T.rename(columns={"value": "top-1"})

# %%
for gap in ["The movie [MASK] good.", "One of the [MASK] films of the year."]:
    row = encoder_tokenizer(gap, return_tensors="pt").to(encoder.device)
    places = row["input_ids"] == MASK
    with torch.inference_mode():
        chances = masked_model(row["input_ids"], row["attention_mask"], places)[0]
    best = chances.softmax(-1).topk(5)
    guesses = encoder_tokenizer.batch_decode(best.indices[:, None])
    listed = [f"{w} {p:.2f}" for w, p in zip(guesses, best.values, strict=True)]
    print(f"{gap}  →  {', '.join(listed)}")

# %% [markdown]
# Mostly small words, as you see: a minute on a few sentences is no measure of BERT, whose
# own training took days on billions of words. If the last paired interval clears zero,
# the words around a gap were worth something; which side of it, we did not test.
#
# **Sentence vectors.** What the packaged encoder was last trained for: sentences of like
# meaning get vectors of like direction ([cosine](glossary.md#cosine) near 1). We read
# both models' mean states.

# %%
del copy, masked_model, optimizer  # their memory is wanted below
trio = ["I loved this film.", "What a wonderful movie!", "I hated this film."]
trio += ["Interest rates rose again."]
cosines = {}
for name, (model, tokenizer) in pair.items():
    rows = [{"input_ids": tokenizer(text)["input_ids"]} for text in trio]
    reader = model.get_decoder() if name == "decoder" else model
    vectors = evaluation.embed(reader, Dataset.from_list(rows))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines[name] = vectors[0] @ vectors[1:].T
pd.DataFrame(cosines, index=pd.Index(trio[1:], name=f"cosine with “{trio[0]}”"))

# %% [markdown]
# Two things to notice. How close even the unrelated sentence lies in the decoder's
# column: it was never trained to tell sentences apart by direction. (That is a matter of
# training, not of kind.) And *like meaning* is not *like opinion*: compare "hated" with
# "wonderful" in the encoder's column. For sentiment we have to train.
#
# ## 5 · Sentiment: rivals first
#
# Five rivals without a network's [fine-tuning](glossary.md#fine-tuning): the commonest
# class; VADER, a lexicon with rules, of whose score [logistic
# regression](glossary.md#logistic-regression) learns where the classes part; logistic
# regression on TF-IDF; NB-SVM; and the decoder, asked. A caution about VADER: its lexicon
# and the snippets' [labels](glossary.md#label) come from the *same authors*, on the same
# scale from −4 to 4, so it plays at home.

# %%
labels = {name: np.array(part["label"]) for name, part in splits.items()}
probabilities = {}
for name, fit in {
    "majority": models.fit_majority,
    "vader": models.fit_vader,
    "tfidf": models.fit_tfidf,
    "nbsvm": models.fit_nbsvm,
}.items():
    probabilities[name] = fit(splits).predict_proba(splits["test"]["text"])
print("fitted on", len(splits["train"]), "rows:", ", ".join(probabilities))

# %% [markdown]
# **The decoder, asked.** We put the question in its chat format and compare the
# probabilities of the two answers. The wording is the best of three tried on
# [validation](glossary.md#validation) rows of the laptop profile. Long reviews are cut to
# their first words.

# %%
QUESTION = "Is this movie review positive or negative? Answer with one word.\n\n{}"
SHOTS = 8
WORDS = 150
asked = splits["test"].select(range(min(profile.zero_shot_rows, len(splits["test"]))))
shown = data.take_rows(pool, SHOTS, SEED)


def put_question(row: dict) -> str:
    """The question about one review."""
    return QUESTION.format(" ".join(row["text"].split()[:WORDS]))


def ask(examples: list[tuple[str, str]]) -> np.ndarray:
    """The decoder's probabilities of "negative" and "positive" on the asked rows."""
    questions = [put_question(row) for row in asked]
    prompts = [models.render_chat(decoder_tokenizer, q, examples) for q in questions]
    answers = [data.CLASS_NAMES] * len(prompts)
    size = 8 if profile.quantize else 16  # rows that read the examples once
    scores = evaluation.score_choices(
        decoder, decoder_tokenizer, prompts, answers, batch_size=size
    )
    return torch.tensor(scores).softmax(-1).numpy()


examples = [(put_question(row), data.CLASS_NAMES[row["label"]]) for row in shown]
probabilities |= {"zero-shot": ask([]), "few-shot": ask(examples)}
for name in ("zero-shot", "few-shot"):
    print(f"{name} answers positive: {probabilities[name].argmax(1).mean():.0%}")

# %% tags=["nbval-check-output"]
# Nothing hidden in it: for one row the same by hand, without batches or a cache.
prompt = models.render_chat(decoder_tokenizer, put_question(asked[0]), examples)
by_hand = []
for answer in data.CLASS_NAMES:
    before, after = (
        decoder_tokenizer(part, add_special_tokens=False)["input_ids"]
        for part in (prompt, answer)
    )
    row = torch.tensor([before + after], device=decoder.device)
    with torch.inference_mode():
        logs = decoder(row).logits[0].float().log_softmax(-1)
    at = range(len(before) - 1, len(before) + len(after) - 1)
    by_hand.append(
        sum(float(logs[n, token]) for n, token in zip(at, after, strict=True))
    )
expected = torch.tensor(by_hand).softmax(-1).numpy()
print(
    "the same by hand:",
    bool(np.abs(expected - probabilities["few-shot"][0]).max() < 0.1),
)

# %% [markdown]
# ## 6 · BERT, fine-tuned
#
# A [classification head](glossary.md#classification-head) on top, then training: once the
# whole encoder, once with LoRA, which trains a small addition to each layer. The LoRA
# recipe is lesson 04's, swept there on validation rows. Full training takes the middle
# rate of lesson 04's sweep, for our fewer steps. Nothing is tuned here. For BERT-base
# (`gpu`) both rates are customary ones.

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
BERT_FULL = replace(BERT_LORA, rank=0, learning_rate=2e-4)
if classifier.config.model_type == "bert":  # other names than DistilBERT, own pooling
    BERT_FULL = replace(BERT_FULL, pooling="cls", learning_rate=2e-5)
    names = ("query", "key", "value", "dense")
    BERT_LORA = replace(BERT_LORA, pooling="cls", learning_rate=3e-4, targets=names)
tuned = {}
for name, recipe in {"bert_full": BERT_FULL, "bert_lora": BERT_LORA}.items():
    tuned[name] = fine_tune_classifier(
        replace(recipe, epochs=profile.epochs),
        profile.encoder,
        splits,
        max_tokens=profile.max_tokens,
        seed=SEED,
        output_dir=f"../build/runs/{LESSON}/{name}",
    )

# %%
tokens = training.tokenize_reviews(splits, encoder_tokenizer, profile.max_tokens)
for name, run in tuned.items():
    probabilities[name] = evaluation.predict(run.model, tokens["test"])
figure = report.plot_curves(
    {name: run.result.history for name, run in tuned.items()},
    "Loss and accuracy by epoch",
)
last = {
    name: run.result.history.dropna(subset="validation_loss").iloc[-1]
    for name, run in tuned.items()
}
report.show_figure(
    figure,
    "Curves by epoch. Last validation accuracy, before the weights are averaged: "
    + ", ".join(
        f"{name} {row['validation_accuracy']:.3f}" for name, row in last.items()
    )
    + ".",
)

# %% [markdown]
# ## 7 · The test rows
#
# Nothing was chosen on them. The decoder was asked fewer rows, to save your time: its
# interval is wider, and `n` says so. (Its study below has them all.)

# %%
correct = {
    name: p.argmax(1) == labels["test"][: len(p)] for name, p in probabilities.items()
}
intervals = {name: evaluation.wilson_interval(row) for name, row in correct.items()}
scores = pd.DataFrame(
    {
        name: {
            **evaluation.score_classifier(labels["test"][: len(p)], p),
            **vars(intervals[name]),
        }
        for name, p in probabilities.items()
    }
).T.sort_values("value", ascending=False)
figure = report.plot_intervals(
    scores,
    f"{len(splits['train']):,} training rows, one seed",
    "test accuracy (95 % Wilson interval)",
    float(intervals["majority"].value),
)
report.show_figure(
    figure, f"Test accuracy with 95 % intervals: {report.list_rows(scores)}."
)
scores = scores.astype({"n": int})
scores[["accuracy", "low", "high", "n", "f1", "precision", "recall"]]

# %% [markdown]
# Systems tested on the same rows are compared row by row: [McNemar's
# test](glossary.md#mcnemars-test) looks only at the rows that one of two gets right and
# the other wrong.

# %%
pairs = {
    name: evaluation.compare_paired(correct["bert_lora"][: len(row)], row)
    for name, row in correct.items()
    if name not in ("bert_lora", "majority")
}
evaluation.tabulate_pairs("bert_lora", pairs)

# %% [markdown]
# With one [seed](glossary.md#seed), p covers other rows, not other training runs, and it
# is not corrected for being asked several times. What the lesson *claims* comes from its
# study in the laptop profile: three seeds, all test rows for every system, intervals that
# resample seeds and rows together (as far as three seeds can show).

# %%
study_table = report.tabulate_metrics(study)
figure = report.plot_intervals(
    study_table,
    f"The study: {len(study.seeds)} seeds",
    "test accuracy (95 % interval)",
    0.5,
)
listed = report.list_rows(study_table)
report.show_figure(figure, f"The study's test accuracies: {listed}.")
few = report.read_predictions(LESSON)["test.few_shot"].argmax(-1).mean(-1)
print("few-shot answers positive, by seed:", ", ".join(f"{p:.0%}" for p in few))
differences = report.tabulate_differences(study)
(100 * differences[["value", "low", "high"]]).round(1).add_suffix(" (points)")

# %% [markdown]
# `_all` trained on all rows that are left, `_2000` on 2,000; `gpt_lora_2000` is the
# decoder with LoRA and a classification head, one [epoch](glossary.md#epoch) at a rate
# set beforehand, where the encoder had three epochs and a swept rate. `probe` is a linear
# classifier on the frozen encoder. What lesson 04's study trained already is shown, not
# trained again: on another machine, in [bf16](glossary.md#bf16) and batches of 32, where
# the decoder had [fp32](glossary.md#fp32) and batches of 16. For all rows its LoRA recipe
# takes half the rate of its `_2000` one, full fine-tuning twice.
#
# Read the table as a sceptic. Does the fine-tuned encoder clear the word counts with its
# whole interval? How far does the decoder get on a question alone, against a lexicon made
# by the authors of the labels? And which of the two, fine-tuned on the same 2,000 rows,
# comes out ahead: is it the kind, or the size?
#
# Do examples in the prompt help this small decoder? Each seed shows it eight others, in
# another order, and its answers [lean](glossary.md#lean) to one side by their choice:
# hence the wide interval, and the shares of "positive" printed above.
#
# ## 8 · Understanding predictions
#
# **Errors by kind of sentence.** You might expect that counting words fails at negation
# and contrast ("but"), and the encoder does not. Compare each system's *drop* from
# "not: …" to the kind, not its level. Rating strength is how far from neutral the raters
# were. The kinds overlap, so no drop has a single cause.

# %%
NEGATION = r"\b(not|no|never|nothing|without|hardly|cannot)\b|n['’]t\b"
CONTRAST = r"\b(but|although|though|however|yet|despite|while)\b"
test_texts = splits["test"]["text"]
words = np.array([len(text.split()) for text in test_texts])
kinds = {
    "negation": np.array([bool(re.search(NEGATION, t.lower())) for t in test_texts]),
    "contrast": np.array([bool(re.search(CONTRAST, t.lower())) for t in test_texts]),
    "longer than the median": words > np.median(words),
}
if "rating" in splits["test"].column_names:
    strength = np.abs(splits["test"]["rating"])
    kinds["rated beyond ±2"] = strength > 2
    kinds["rated within ±1"] = strength < 1
groups = {}
for kind, member in kinds.items():
    for title, rows in {kind: member, f"not: {kind}": ~member}.items():
        if rows.any():
            groups[title] = {
                **{s: correct[s][rows].mean() for s in ("vader", "nbsvm", "bert_lora")},
                **vars(evaluation.wilson_interval(correct["bert_lora"][rows])),
            }
groups = pd.DataFrame(groups).T.astype({"n": int})
groups[["n", "vader", "nbsvm", "bert_lora", "low", "high"]]

# %%
figure = report.plot_intervals(
    groups,
    "bert_lora by kind of sentence",
    "test accuracy (95 % Wilson interval)",
    float(intervals["bert_lora"].value),
)
report.show_figure(
    figure,
    f"Accuracy of bert_lora by kind of sentence, the dashed line being all rows: "
    f"{report.list_rows(groups)}.",
)

# %% [markdown]
# **Which words carry a verdict?** Leave each word out and see how far the probability of
# "positive" falls. First on a score simple enough to check by eye: the count of "good".


# %% tags=["nbval-check-output"]
def attribute_words(score, text: str) -> pd.DataFrame:
    """What each word adds to a score: score(text) − score(text without the word)."""
    words = text.split()
    shorter = [" ".join(words[:n] + words[n + 1 :]) for n in range(len(words))]
    scores = score([text, *shorter])
    return pd.DataFrame({"word": words, "effect": scores[0] - scores[1:]})


counted = attribute_words(
    lambda texts: np.array([float(text.split().count("good")) for text in texts]),
    "good plot good acting",
)
print(dict(zip(range(4), counted["effect"].tolist(), strict=True)))


# %%
def score_positive(texts: list[str]) -> np.ndarray:
    """The probability of "positive" by bert_lora."""
    model = tuned["bert_lora"].model
    probabilities = evaluation.classify_texts(
        model, encoder_tokenizer, texts, profile.max_tokens
    )
    return probabilities[:, 1]


# %%
cases = [
    "The plot is thin but the acting was good.",
    "Not bad at all, and never dull.",
]
figure, axes = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
stories = []
for axis, case in zip(axes, cases, strict=True):
    effects = attribute_words(score_positive, case)
    colours = [report.PALETTE[0 if e > 0 else 3] for e in effects["effect"]]
    axis.barh(range(len(effects)), effects["effect"], color=colours)
    axis.set(yticks=range(len(effects)), yticklabels=effects["word"])
    axis.set(xlabel="change of P(positive)", title=f"{score_positive([case])[0]:.2f}")
    axis.invert_yaxis()
    strongest = effects.loc[effects["effect"].abs().idxmax()]
    stories.append(
        f"in “{case}” it is “{strongest['word']}”, {strongest['effect']:+.2f}"
    )
report.show_figure(
    figure,
    "What each word adds to P(positive), written above each panel. The strongest word: "
    + "; ".join(stories)
    + ".",
)

# %% [markdown]
# Beware of reading too much into it: two words that say the same cover for each other,
# and a sentence without a word is a sentence no reviewer wrote.
#
# **Confidence against correctness.** Of rows it is 90 % sure of, does it get 90 % right?
# The [expected calibration error](glossary.md#calibration) is the mean distance of
# confidence and accuracy; with few rows it is above zero even for a perfect model, so all
# three get the same rows.

# %%
calibrations = {
    name: evaluation.calibrate(
        labels["test"][: len(asked)], probabilities[name][: len(asked)]
    )
    for name in ("bert_lora", "nbsvm", "zero-shot")
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
# ## 9 · The key differences, measured
#
# Reading speed and the cost of learning (forwards and backwards through LoRA of
# [rank](glossary.md#rank) 8 on all [linear layers](glossary.md#linear-layer)), on the
# same texts, in batches of 4, in this process. Counted are texts, for the two cut a text
# into different numbers of tokens.

# %%
speed_texts = splits["test"]["text"][:24]


def time_batches(model: nn.Module, batches: list[dict], backward: bool) -> float:
    """Texts a second; the first batch warms up and is not counted."""
    for number, batch in enumerate(batches):
        if number == 1:
            began = time.perf_counter()
        with torch.set_grad_enabled(backward):
            states = model(**batch)[0].float()
            if backward:
                states.pow(2).mean().backward()  # any loss: the cost is the same
        states.sum().item()  # waits for a GPU to finish
    texts = sum(len(batch["input_ids"]) for batch in batches[1:])
    return texts / (time.perf_counter() - began)


# %%
speeds = {}
cut = {"truncation": True, "max_length": min(64, profile.max_tokens)}
for name, (model, tokenizer) in pair.items():
    rows = [{"input_ids": row} for row in tokenizer(speed_texts, **cut)["input_ids"]]
    starts = range(0, len(rows), 4)
    batches = [
        training.pad_batch(rows[n : n + 4], tokenizer.pad_token_id) for n in starts
    ]
    batches = [{k: v.to(model.device) for k, v in batch.items()} for batch in batches]
    reader = model.get_decoder() if name == "decoder" else model
    reading = time_batches(reader, batches, backward=False)
    adapted = models.add_lora(
        reader, LoraConfig(r=8, target_modules="all-linear"), seed=SEED
    )
    speeds[name] = (reading, time_batches(adapted, batches[:3], backward=True))
    adapted.unload()
pd.DataFrame(speeds, index=["reading, texts/s", "learning, texts/s"]).round(1)


# %%
def read_study(system: str, metric: str) -> str:
    """One number of the study, as it is printed."""
    measured = study.find(system, metric)
    return str(measured) if metric == "accuracy" else f"{measured.value:,.0f}"


late = {name: (table.to_numpy()[-1] > 1e-4).sum() for name, table in changes.items()}
writes = {
    m: model.get_output_embeddings() is not None for m, (model, _) in pair.items()
}
key_differences = pd.DataFrame(facts).drop(index=["class", "heads"])
arms = ("gpt_lora_2000", "bert_lora_2000")
rows = {
    "states that a late word moves": [
        f"{late[m]} of {changes[m].shape[1]}" for m in pair
    ],
    "gives next-token scores": [writes[m] for m in pair],
    "generating, tokens/s": [f"{generated_per_second['greedy']:.0f}", "cannot"],
    "reading, texts/s": [f"{speeds[m][0]:,.0f}" for m in pair],
    "learning (LoRA), texts/s": [f"{speeds[m][1]:,.1f}" for m in pair],
    "accuracy, only asked (study)": [
        read_study("zero_shot", "accuracy"),
        "cannot here",
    ],
    "accuracy, LoRA, 2,000 rows (study)": [read_study(arm, "accuracy") for arm in arms],
    "trained parameters (study)": [read_study(arm, "trainable") for arm in arms],
    "peak MB (study; fp32, bf16)": [read_study(arm, "peak_mb") for arm in arms],
}
for title, values in rows.items():
    key_differences.loc[title] = values
key_differences

# %% [markdown]
# **Which one for which task**, from the table:
#
# - *A label for a text, and some labelled rows:* both kinds learn it. Set the accuracies
#   on 2,000 rows (and their paired difference in section 7) against the speeds: what does
#   a point cost, in learning and in every answer afterwards? The decoder here is also the
#   larger model, with other training data, so this is no proof about kinds.
# - *A label, but no labelled rows:* the decoder can be asked in plain words (an encoder
#   with its missing-word layer only through a gap). Label some fifty rows all the same,
#   to know whether to believe it: the wording and the examples decide much.
# - *New text:* the decoder. This encoder has no next-token scores to draw from.
# - *Which texts are alike?* A model trained for that, of either kind (section 4).
# - *Word counts:* if their interval is close enough for your purpose, they cost seconds.
#
# Rows marked "study" are the laptop study's, whatever you run here. The two peaks of
# memory are of unlike runs (section 7), so they do not say which model needs more.
#
# ## 10 · What was measured
#
# The last cell writes this run's numbers to `build/results/`. What the README prints is
# published separately, so that nobody's run overwrites it.

# %%
metrics = evaluation.Metrics()
for name, interval in intervals.items():
    metrics.add(name.replace("-", "_"), "accuracy", interval)
for name, pair in pairs.items():
    metrics.add("bert_lora", "accuracy", pair.difference, minus=name.replace("-", "_"))
fillers = ("masked_commonest", "masked_by_place", "masked_head")
for name, hits in zip(fillers, (*lazy.values(), right), strict=True):
    metrics.add(name, "top1", evaluation.wilson_interval(hits))
run_results = report.collect_results(
    LESSON,
    profile.name,
    seeds=[SEED],
    models={"encoder": profile.encoder, "decoder": decoder_name},
    data=[profile.dataset],
    metrics=metrics,
    headline=(("zero_shot", "accuracy"), ("bert_lora", "accuracy")),
)
print(report.write_results(run_results).name, f"{run_results.seconds:.0f} s")

# %% [markdown]
# ## Recap
#
# 1. A decoder's states depend on what came before, an encoder's on the whole text. You
#    saw it by changing one word.
# 2. A decoder is trained for the next token, so it writes and scores text. BERT was
#    trained for missing ones; the packaged encoder learned from such a model, and then
#    to give sentence vectors.
# 3. Fine-tuned, both can label. The encoder here is the cheaper one by far; the study
#    says what the larger decoder adds on the same rows. Both have to be measured against
#    word counts and a lexicon, with paired intervals.
# 4. Grouped errors, left-out words and calibration say where a model fails, each with its
#    own blind spot. The table says which of these two models suits a task.
#
# ## Quiz
#
# Answer first, then run the cell.
#
# 1. A text has 12 tokens. How many attention weights per head may be non-zero in a
#    decoder, and in an encoder?
# 2. The third of five words changes. How many positions keep all their states in a
#    decoder, if each word is one token? And in an encoder?
# 3. A model gives the four tokens of a text the probabilities 0.5, 0.25, 0.25 and 0.5.
#    What is its perplexity on that text?
# 4. A and B are tested on the same 1,000 rows; A alone is right on 30, B alone on 10. By
#    how many points is A ahead, and is that more than chance?

# %% tags=["nbval-check-output"]
print("1.", int(np.tri(12).sum()), "and", 12 * 12)
print("2.", 3 - 1, "and", 0)
print(f"3. {float(np.exp(-np.log([0.5, 0.25, 0.25, 0.5]).mean())):.3f}")
a = np.array([True] * 30 + [False] * 10 + [True] * 960)
b = np.array([False] * 30 + [True] * 10 + [True] * 960)
quiz = evaluation.compare_paired(a, b)
print(f"4. {100 * quiz.difference.value:.1f} points, p = {quiz.p_value:.4f}")
print("   more than chance:", quiz.p_value < 0.05)

# %% [markdown]
# **Next.** Lesson 04 opens up what `fine_tune_classifier` did here: LoRA's layer, its [learning
# rate](glossary.md#learning-rate), and what must be saved. Lessons 02 and 03 teach a
# decoder new terms and three classes. The graded assignment of this lesson will ask you
# to build the masks and to say which positions can see what.
