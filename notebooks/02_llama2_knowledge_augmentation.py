# %% [markdown]
# # Lesson 02 · Teaching a Llama medical terms, in 4 bit
#
# [![Open in Colab](open_in_colab.svg)](https://colab.research.google.com/github/your-account/fine-tuning-lessons/blob/main/notebooks/02_llama2_knowledge_augmentation.ipynb)
#
# **You will be able to**
#
# 1. quantise weights to [NF4](glossary.md#nf4) by hand, and say what 4 bits cost in
#    error, memory and speed;
# 2. turn facts of your own into training rows: [prompt](glossary.md#prompt),
#    [mask](glossary.md#mask), end of answer;
# 3. train [LoRA](glossary.md#lora) on a 4-bit model, and track the run without an
#    account;
# 4. measure what was learned, what was not, and what was lost, with questions whose wrong
#    answers are hard;
# 5. save, reload, [merge](glossary.md#merge) and document the
#    [adapter](glossary.md#adapter).
#
# **You need** Python, lesson 04's idea of LoRA, and lesson 01's of a
# [decoder](glossary.md#decoder).
#
# **Words that come back** (links lead to the glossary).
# *[Quantisation](glossary.md#quantisation)*: storing each weight as one of a few levels.
# *NF4*: sixteen levels, placed where normally distributed weights are.
# *[Block](glossary.md#block)*: 64 weights that share one scale. *[Nat](glossary.md#nat)*:
# the unit of the [loss](glossary.md#loss); a loss of 1 nat means a probability of 1/e.
# *[Perplexity](glossary.md#perplexity)*: how many equally likely
# [tokens](glossary.md#token) a model seems to choose among. *[Chat
# template](glossary.md#chat-template)*: the text with which a model was trained to tell
# who speaks. *[EOS](glossary.md#eos)*: the token that ends an answer. *Mask*: which
# tokens the loss looks at. *[Distractor](glossary.md#distractor)*: a wrong answer on
# offer. *[Forgetting](glossary.md#forgetting)*: what a model could do before training and
# cannot after. *Adapter*: the numbers LoRA trains.

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
import time
from dataclasses import replace
from pathlib import Path

from lessons_lib import data, evaluation, models, report, training

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from datasets import Dataset
import transformers
from bitsandbytes import functional as bnb
from bitsandbytes.nn import Linear4bit
from IPython.display import display
from peft import PeftModel, prepare_model_for_kbit_training
from scipy.stats import norm
from transformers import BitsAndBytesConfig

from lessons_lib.hardware import choose_precision, free_memory
from lessons_lib.profiles import load_profile
from lessons_lib.training import Recipe, mixed_precision_lora, train

LESSON = "02_llama2_knowledge_augmentation"
SEED = 0
profile = load_profile(LESSON)
models.quiet_libraries()
report.use_course_style()
pd.set_option("display.precision", 3, "display.max_colwidth", 90)

# %% [markdown]
# ## What runs here
#
# The title's [Llama-2](glossary.md#llama) belongs to the `gpu` profile. `laptop` takes a
# small model of the same architecture from the Python package index, `smoke` a tiny
# random one, to test the code.

# %%
decoder_name = models.resolve_decoder(profile.decoder, profile.fallback_decoder)
published = report.find_results(LESSON, "laptop")
study = report.find_results(LESSON, "study")
print(f"profile  {profile.name}")
print(f"decoder  {decoder_name}")
print(f"terms    {profile.terms}: {profile.trained_terms} to teach")
print(f"numbers  {choose_precision().dtype}: {choose_precision().reason}")
if published:
    print(f"laptop   {published.seconds:.0f} s and {published.peak_mb:,.0f} MB on")
    print(
        f"         {published.machine['cpu']}, {published.machine['threads']} threads"
    )

# %% [markdown]
# In the laptop profile the decoder is
# [SmolLM2-135M-Instruct](https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct)
# (Apache-2.0): Llama's layers, 135 million weights instead of 7 billion. Its packaged
# weights were stored in 4 bit once already and are unpacked here, so
# "[fp32](glossary.md#fp32)" below means *unpacked* weights, and every error in section 2
# is an **added** one. The terms come from the Human Phenotype Ontology (release
# 2025-01-16; its licence and citation are in `data/cards/hpo.md`). Nothing in this lesson
# is medical advice.
#
# ## 1 · Four bits, by hand
#
# 4 bits is how weights are *stored*. Whenever a layer is used in training, its weights
# are unpacked to an ordinary format, multiplied, and the copy is thrown away: NF4 saves
# memory, not time. (On a GPU bitsandbytes can multiply without that copy where nothing is
# trained: an answer written token by token, which is mostly waiting for weights, may then
# come faster than from 16 bits. Not measured here.)
#
# Trained weights of a layer look like draws from a normal distribution. With 4 bits there
# are 16 levels; the paper on [QLoRA](glossary.md#qlora) (Dettmers et al. 2023) puts them
# near quantiles of that distribution: eight positive levels, seven negative ones, and an
# exact zero. The outermost quantile cannot be 1, which is infinitely far out;
# bitsandbytes takes 1 − (1/30 + 1/32) / 2.

# %% tags=["nbval-check-output"]
OUTERMOST = 1 - (1 / 30 + 1 / 32) / 2
positive = norm.ppf(np.linspace(OUTERMOST, 0.5, 9)[:-1])
negative = -norm.ppf(np.linspace(OUTERMOST, 0.5, 8)[:-1])
levels = np.sort(np.concatenate([positive, [0.0], negative]))
LEVELS = torch.tensor(levels / levels.max(), dtype=torch.float32)
print(LEVELS.numpy().round(3))
_, theirs = bnb.quantize_4bit(torch.ones(64), quant_type="nf4")
print("bitsandbytes' levels are ours:", torch.allclose(LEVELS, theirs.code, atol=1e-6))

# %% [markdown]
# A block of 64 weights is divided by its largest absolute value (its *scale*, kept in
# fp32), and each quotient is replaced by the number, 0 to 15, of the nearest level.

# %% tags=["nbval-check-output"]
BLOCK = 64


def quantize(weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Level numbers (blocks, 64) and scales (blocks, 1)."""
    blocks = weights.reshape(-1, BLOCK)
    scales = blocks.abs().amax(1, keepdim=True)
    halfway = (LEVELS[1:] + LEVELS[:-1]) / 2  # between two levels, the nearer one
    return torch.bucketize(blocks / scales, halfway), scales


def dequantize(numbers: torch.Tensor, scales: torch.Tensor, shape) -> torch.Tensor:
    """The weights that numbers and scales stand for."""
    return (LEVELS[numbers] * scales).reshape(shape)


example = torch.tensor([0.01, -0.02, 0.04, 0.0] * 16)
numbers, scales = quantize(example)
print("weights      ", example[:4].numpy())
print("level numbers", numbers[0, :4].numpy(), " scale", round(float(scales), 3))
print("unpacked     ", dequantize(numbers, scales, example.shape)[:4].numpy().round(4))

# %% [markdown]
# Now a real matrix of the model, by our hands and by bitsandbytes.

# %%
stored = {"dtype": torch.bfloat16} if profile.quantize else {}
decoder, tokenizer = models.load_decoder(decoder_name, **stored)
weights = decoder.get_decoder().layers[1].mlp.up_proj.weight.detach().float().cpu()
numbers, scales = quantize(weights)
ours = dequantize(numbers, scales, weights.shape)
theirs = bnb.dequantize_4bit(*bnb.quantize_4bit(weights, quant_type="nf4"))
del decoder  # the memory is needed below
error = (ours - weights).pow(2).mean().sqrt() / weights.std()
print("shape", tuple(weights.shape))
print(
    f"largest difference from bitsandbytes' result: {(ours - theirs).abs().max():.1e}"
)
print(f"root mean square error: {error:.3f} standard deviations of the weights")
used = 100 * torch.bincount(numbers.flatten(), minlength=16) / numbers.numel()
print("% of weights on each level:", *(f"{share:.1f}" for share in used))
figure, axis = plt.subplots(figsize=(report.WIDTH, 3))
blocks = weights.reshape(-1, BLOCK)
axis.hist((blocks / blocks.abs().amax(1, keepdim=True)).flatten().numpy(), 101)
for level in LEVELS:
    axis.axvline(float(level), color=report.PALETTE[1], linewidth=1)
axis.set(xlabel="weight / scale of its block", ylabel="weights", title="NF4's levels")
report.show_figure(
    figure,
    "Histogram of a layer's weights divided by their block's scale, a bell around zero "
    "with two spikes at minus and plus one; sixteen lines mark NF4's levels, dense "
    "near zero and sparse outside.",
)

# %% [markdown]
# The two spikes are mostly each block's own largest weight. Storage: 4 bits per weight,
# and 32 bits of scale per block. *Double quantisation* stores the scales in 8 bits too,
# 256 of them sharing one fp32 scale of their own.

# %% tags=["nbval-check-output"]
plain = 4 + 32 / BLOCK
double = 4 + 8 / BLOCK + 32 / (BLOCK * 256)
print(f"NF4:                      {plain:.3f} bits per weight")
print(f"NF4, double quantisation: {double:.3f} bits per weight")

# %% [markdown]
# ## 2 · What it costs
#
# The same model in five formats. Two helpers: the bytes of the weights with their scales,
# and the weights as they are *used*. What a [linear layer](glossary.md#linear-layer)
# makes of the unit vectors is its weight matrix, in whatever format that is kept.


# %%
@torch.inference_mode()
def read_weights(model) -> torch.Tensor:
    """The weights of four layers' `up_proj`, flat and in fp32."""
    parts = []
    for layer in model.get_decoder().layers[:4]:
        up = layer.mlp.up_proj
        unit = torch.eye(up.in_features, device=model.device, dtype=model.dtype)
        parts.append(up(unit).T.flatten().float().cpu())
    return torch.cat(parts)


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
token_count = sum(len(tokenizer(text)["input_ids"]) for text in texts)

# %%
formats, kept, losses = {}, {}, {}
for name, options in FORMATS.items():
    candidate, _ = models.load_decoder(decoder_name, **options)
    size = models.count_bytes(candidate) / 1e6
    layers = models.count_bytes(candidate.get_decoder().layers) / 1e6
    kept[name] = read_weights(candidate)
    first = next(iter(kept))
    moved = (kept[name] - kept[first]).pow(2).mean().sqrt() / kept[first].std()
    began = time.perf_counter()
    losses[name] = evaluation.measure_text_losses(
        candidate, tokenizer, texts, progress=False
    )
    added = evaluation.bootstrap_interval(losses[name] - losses[first])
    formats[name] = {
        "weights, MB": f"{size:.0f}",
        "layers alone": f"{layers:.0f}",
        "weight error": f"{moved:.4f}",
        "perplexity": f"{np.exp(losses[name].mean()):.1f}",
        "added loss": f"{added.value:+.3f} ({added.low:+.3f} to {added.high:+.3f})",
        "tokens/s": f"{token_count / (time.perf_counter() - began):.0f}",
    }
    candidate = None  # before the next one is loaded
    free_memory()
del kept
pd.DataFrame(formats).T

# %% [markdown]
# The weight error is in standard deviations of the weights, the added loss in nats per
# token, paired by sentence, against the first row: an [interval](glossary.md#interval)
# that contains 0 is a format that these sentences cannot tell apart. Small models feel 4
# bits more than large ones: QLoRA's authors find next to no loss from 7 billion weights
# on. [Embeddings](glossary.md#embedding) stay as they are in the 4-bit and 8-bit formats
# (on a CPU in fp32), which is why the whole shrinks less than its layers. The speeds are one
# reading each, on this machine: NF4 has to unpack, [bf16](glossary.md#bf16) is fast only
# where the processor has instructions for it, and LLM.int8 also quantises what flows
# *through* a layer, for which bitsandbytes has no fast code on a CPU. (Where bf16 is
# fast, all rows are computed in it, and differ in how the weights are stored.)
#
# ## 3 · What Llama-2-7B would need
#
# Nothing has to be downloaded to know: a configuration is enough. This is also the place
# to write down the recipe of this lesson: LoRA of [rank](glossary.md#rank) 16 on all linear
# layers, `alpha` twice the rank, over frozen weights in NF4.

# %%
LLAMA_2_7B = transformers.LlamaConfig(
    hidden_size=4096,
    intermediate_size=11008,
    num_hidden_layers=32,
    num_attention_heads=32,
    vocab_size=32000,
)
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
shape = {"lora": RECIPE.lora_config("CAUSAL_LM"), "batch_size": 1, "tokens": 512}
needs = {
    "LoRA on bf16": models.estimate_memory(LLAMA_2_7B, weight_bytes=2, **shape),
    "LoRA on NF4, double": models.estimate_memory(
        LLAMA_2_7B, weight_bytes=2, linear_bytes=double / 8, **shape
    ),
}
needs = pd.DataFrame(needs).T / 1000
needs["frozen weights"] = needs["weights"] - needs["gradients"]
needs["measured by torchtune"] = [15.57, 9.29]
needs.round(2)

# %% [markdown]
# In GB, for one row of 512 tokens. The last column is peak memory *reserved* in
# [torchtune's
# tutorial](https://docs.pytorch.org/torchtune/stable/tutorials/qlora_finetune.html) for
# LoRA and QLoRA of Llama-2-7B: another [rank](glossary.md#rank),
# [batch](glossary.md#batch) and length, reserved is more than used, and its QLoRA figure
# is mostly the peak of *loading*. So hold the orders of magnitude against each other, not
# the digits. *Weights* holds LoRA's own in fp32, as many bytes as their
# [gradients](glossary.md#gradient); *frozen weights* leaves them out.
#
# ## 4 · Facts to teach
#
# A file of facts is a JSON list, or a table (CSV, TSV, Parquet); this one was written for
# the course. Other field names work too: `question`/`answer`, `prompt`/`response`,
# `instruction`/`input`/`output`, or chat `messages`.

# %% tags=["nbval-check-output"]
sample = Path("../data/samples/medical_terms.json")
print(sample.read_text(encoding="utf-8")[:210], "…")
facts = data.read_conversations(sample)
print(len(facts), "facts; the first is asked as:", facts[0].question)

# %% tags=["nbval-check-output"]
# What a bad row says: where it stands, and the remedy.
broken = Path("../build/broken.json")
broken.parent.mkdir(exist_ok=True)
broken.write_text('[{"term": "Ataxia", "definition": "…"}, {"term": "Coma"}]')
try:
    data.read_conversations(broken)
except data.DataError as problem:
    print(str(problem).replace(str(broken), broken.name))

# %% [markdown]
# The facts of this run: terms of the ontology with a definition of 6 to 30 words, no word
# of which begins like a word of the term (five letters; words of up to three are not
# compared). "Renal cyst: a cyst of the kidney" would be answered by matching words. One
# random group is taught; another is never taught, and asked all the same. A file of your
# own, in any of the formats above, takes their place when `LESSONS_DATA=my.json` is set
# before Jupyter starts (or `make course LESSON=02 DATA=my.json`). It is not filtered, but
# facts of more than `max_tokens` tokens are left out and named, and the same numbers of
# facts are taken from it: the cell prints how many are taught. For more, or longer ones,
# raise them where the profile is loaded: `load_profile(LESSON, trained_terms=500)`.

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
pd.DataFrame(
    [(fact.subject, fact.answer) for fact in groups["trained"][:5]],
    columns=["term", "definition"],
)

# %% [markdown]
# ## 5 · From a fact to a training row
#
# One function renders prompts, for training and for asking, with the model's own chat
# template. The answer's tokens are appended, then EOS. Where the prompt ends is
# *counted*: searching for a marker's text fails when tokens merge across it, and then
# every [label](glossary.md#label) is masked.

# %%
fact = groups["trained"][0]
row = training.encode_conversations([fact], tokenizer, profile.max_tokens)[0]
pairs = zip(row["input_ids"], row["labels"], strict=True)
prompt = [token for token, label in pairs if label == -100]
answer = [label for label in row["labels"] if label != -100]
print("read, not learned:", repr(tokenizer.decode(prompt)))
print("learned:          ", repr(tokenizer.decode(answer)))

# %% tags=["nbval-check-output"]
print("the answer's end is learned:", answer[-1] == tokenizer.eos_token_id)
twice = (
    tokenizer.bos_token_id is not None and prompt[:2] == [tokenizer.bos_token_id] * 2
)
print("a doubled beginning-of-text token:", twice)
masked = Dataset.from_list([{"input_ids": [5, 6], "labels": [-100, -100]}])
try:
    training.check_labels(masked)
except data.DataError as problem:
    print(problem)

# %% [markdown]
# Two savings that change no gradient. A row's
# **[logits](glossary.md#logits)** are needed only where the next token is learned; in a
# small model with a vocabulary of tens of thousands the others would cost much of the
# time. And what rows **begin** with, such as the same system message, is read once: rows
# lie in one sequence, and a mask lets each see that beginning and itself. A batch of two,
# `1 2 → 3 4` and `1 2 → 7`, which begin alike:

# %% tags=["nbval-check-output"]
tiny = [
    {"input_ids": [1, 2, 3, 4], "labels": [-100, -100, 3, 4]},
    {"input_ids": [1, 2, 7], "labels": [-100, -100, 7]},
]
batch = training.pack_batch(tiny, multiple_of=1)
print("tokens   ", batch["input_ids"][0].tolist())
print("positions", batch["position_ids"][0].tolist())
print(batch["attention_mask"][0, 0].int().numpy())
print(
    "logits at", batch["logits_to_keep"].tolist(), "for", batch["labels"][1:].tolist()
)

# %% [markdown]
# The [state](glossary.md#state) at place 1 predicts both 3 and 7, so it is asked for
# twice.
#
# The facts are taught in ten phrasings of the question, and asked in one that is never
# trained.

# %%
TIMES = 5  # how often each fact is met
taught = data.phrase_terms(groups["trained"], phrasings.training, TIMES)
rows = training.encode_conversations(taught, tokenizer, profile.max_tokens)
lengths = [len(ids) for ids in rows["input_ids"]]
print(f"{len(rows)} rows, {sum(lengths):,} tokens; in training:")
for seen in data.phrase_terms([fact], phrasings.training, repeats=4):
    print("   ", seen.question)
(asked,) = data.phrase_terms([fact], [phrasings.evaluation], repeats=1)
print("in the exam:\n   ", asked.question)

# %% [markdown]
# ## 6 · The exam, before
#
# A generated answer is hard to mark by machine, so the main measure is a **choice**:
# which of four definitions has the highest mean log-probability per token as the answer?
# (The mean, for definitions differ in length.) Chance is .25. What a sceptic asks:
#
# - *Are the wrong answers, the distractors, easy?* They are the three definitions nearest
#   to the right one, by a sentence [encoder](glossary.md#encoder)'s vectors.
# - *Does it just prefer definitions it has seen?* A trained term's wrong answers are
#   trained definitions as well.
# - *Does it need the term at all?* "Blind", the same question is asked without it; the
#   score should be about chance, and is what the score with the term is compared with.
# - *Would something simpler do?* Below, two rules that know no medicine: take the
#   definition most like the other three, or the one most like the term, by the same
#   encoder.
#
# Some wrong answers are *nearly* right (an ontology has siblings), which holds every
# score down. The untrained group is smaller, so its wrong answers are a little farther
# away.

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
    print("  →" if number == question.right else "   ", choice)

# %%
rules = {}
for name, group in groups.items():
    questions = getattr(evaluation_set, name)
    embedder = evaluation.Embedder(profile.encoder)
    vectors = embedder.embed([fact.answer for fact in group], max_tokens=128)
    terms_vectors = embedder.embed([fact.subject for fact in group], max_tokens=128)
    right = {"most like the other three": [], "most like the term": []}
    for number, question in enumerate(questions):
        four = vectors[list(question.facts)]
        four = four / np.linalg.norm(four, axis=1, keepdims=True)
        central = (four @ four.T).sum(1).argmax()
        closest = (four @ terms_vectors[number]).argmax()
        right["most like the other three"].append(central == question.right)
        right["most like the term"].append(closest == question.right)
    rules |= {
        f"{rule}, {name}": vars(evaluation.wilson_interval(hits))
        for rule, hits in right.items()
    }
pd.DataFrame(rules).T

# %% [markdown]
# Neither rule has a decoder in it, and both should give you pause where they beat .25.
# The first profits from how wrong answers are chosen: they lie around the right one. A
# decoder that had found this out would also do well blind, so watch that number. The
# second is a *search*, by an encoder that has met medical words: for choosing among four,
# it is the rival to beat, though these questions are made hard for it: the wrong answers
# are what *its own* encoder finds most like the right one. (It can only choose; a decoder
# can also answer. Lesson 05 makes that contest its subject.)

# %% [markdown]
# The model in 4 bit, in plain sight:

# %%
QUANTIZE = {**NF4, "bnb_4bit_use_double_quant": True}
quantize_config = BitsAndBytesConfig(
    **QUANTIZE, bnb_4bit_compute_dtype=choose_precision().torch_dtype
)
model, tokenizer = models.load_decoder(
    decoder_name, quantization_config=quantize_config
)
before = evaluation.answer_evaluation_set(model, tokenizer, evaluation_set)
scores = {"base": evaluation.score_predictions(evaluation_set, before)}
metrics = evaluation.summarise_scores(scores)
metrics.table().set_index("metric")[["value", "low", "high", "n"]]

# %% [markdown]
# `choice_blind` should lie near .25 (not exactly: a definition that is likely anyway may
# be a wrong answer to several questions), and `choice_general` (capitals, opposites,
# tools) shows that the model does know things. `relative_trained` marks the same scores
# differently: a definition counts by how much *likelier the term makes it*, so that one
# which is likely anyway gains nothing. Hold the base against the two rules above.

# %% [markdown]
# ## 7 · Training in 4 bit
#
# `prepare_model_for_kbit_training` freezes all weights and casts what is not in 4 bit
# (norms, embeddings) to fp32; LoRA goes on all linear layers but the output layer: rank
# 16, and `alpha` twice the rank, as is common. Gradients reach LoRA alone:

# %% tags=["nbval-check-output"]
linear = sum(isinstance(module, torch.nn.Linear) for module in model.modules())
in_4_bit = sum(isinstance(module, Linear4bit) for module in model.modules())
print("linear layers not in 4 bit:", linear - in_4_bit, "(the output layer)")
SAVE = {
    "use_gradient_checkpointing": profile.gradient_checkpointing,  # memory, for time
    "gradient_checkpointing_kwargs": {"use_reentrant": False},
}
model = prepare_model_for_kbit_training(model, **SAVE)
model = models.add_lora(model, RECIPE.lora_config("CAUSAL_LM"), seed=SEED)
trained = [name for name, p in model.named_parameters() if p.requires_grad]
print("all trained parameters are LoRA's:", all("lora_" in name for name in trained))
in_4_bit_now = sum(isinstance(module, Linear4bit) for module in model.modules())
print("layers in 4 bit before and after:", in_4_bit == in_4_bit_now)

# %% [markdown]
# `report_to` names a tracker: "none", "wandb", "trackio" or "tensorboard". Weights &
# Biases never asks anything here: without `WANDB_API_KEY` the run stays in a folder,
# offline. The rate and the batch size were settled on other terms of the ontology.

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
print(f"{count.lora:,} trained parameters;", end=" ")
print(f"peak memory of this notebook so far {first_run.peak_mb:,.0f} MB")

# %% [markdown]
# ## 8 · The exam, after
#
# The same questions, with the adapter. `mixed_precision_lora` computes them in the fast
# layers that training used; it changes no result beyond rounding.

# %%
model.eval()
with mixed_precision_lora(model, choose_precision()):
    after = evaluation.answer_evaluation_set(model, tokenizer, evaluation_set)
scores["lora"] = evaluation.score_predictions(evaluation_set, after)
metrics = evaluation.summarise_scores(scores)
choices = ["choice_trained", "choice_untrained", "choice_blind", "choice_general"]
shown = pd.DataFrame(
    {
        f"{name.removeprefix('choice_')}, {system}": vars(metrics.find(system, name))
        for name in choices
        for system in ("base", "lora")
    }
).T
figure = report.plot_intervals(
    shown, "Four-way choices", "share right (95 % interval)", 0.25
)
report.show_figure(
    figure,
    f"Share of four-way choices right, chance dashed: {report.list_rows(shown)}.",
)

# %% [markdown]
# Read it in four pairs. **Trained**: the rise, in a phrasing that was never trained, is
# what was learned. (Does it reach the search of section 6?) **Untrained**: has the model
# become better at terms in general, or only at these? **Blind**: still about chance? Then
# the rise above needs the term. **General**: was anything lost? The paired differences:

# %%
gains = ["gain_trained", "gain_untrained", "gain_general", "general_loss_change"]
gains = {name: str(metrics.find("lora", name)) for name in gains}
pd.Series(gains, name="lora against base").to_frame()

# %% [markdown]
# An interval that contains 0 shows no difference at this size; it does not show that
# there is none. `general_loss_change` is the change of the loss on general sentences as a
# share of the loss before: negative is *better*. [Fine-tuning](glossary.md#fine-tuning)
# on short sentences can make a chat model a better reader of sentences, so this alone
# does not prove that nothing was forgotten; `gain_general` asks for facts.
#
# In its own words, and where it stops:

# %%
answered = evaluation_set.trained[: evaluation_set.generated_answers]
said = pd.DataFrame(
    {
        "definition": [q.choices[q.right] for q in answered],
        "before": [answer.text[:160] for answer in before.answers],
        "after": [answer.text[:160] for answer in after.answers],
    }
)
names = ["definition_loss", "token_f1", "stop_rate", "answer_tokens"]
table = {
    system: {name: str(metrics.find(system, name)) for name in names}
    for system in ("base", "lora")
}
display(pd.DataFrame(table))
said.head(6)

# %% [markdown]
# `definition_loss` is the mean loss per token of the right definition. `token_f1`
# compares words, so a fluent, wrong definition still earns some: read a few. Where an
# answer has the *style* of the ontology and the wrong content, the model has learned to
# sound right, which is worse than not knowing. The stop rate is the share of answers that
# ended within 64 tokens; the base, trained to chat at length, is often cut off. EOS is
# among the labels here. A pipeline that pads with EOS and masks every padding token masks
# the real EOS as well, and the model unlearns to stop.
#
# ## 9 · What the study says
#
# One [seed](glossary.md#seed) and few terms prove little. The study teaches 300 terms
# with three seeds, each term met three times: in one phrasing, in three, or in three
# drawn from all ten. All arms sit one exam of the same kind as above; `search` is section
# 6's rule "most like the term".

# %%
if study:
    wanted = ["choice_trained", "gain_trained", "gain_untrained", "choice_blind"]
    wanted += ["relative_trained", "general_loss_change", "stop_rate"]
    systems = ["search", "base", "lora_dose1", "lora_dose3", "lora"]
    display(
        pd.DataFrame(
            {
                system: {
                    name: str(study.metrics.get((system, name, "", ""), ""))
                    for name in wanted
                }
                for system in systems
            }
        )
    )
else:
    print("not measured yet")

# %%
if study:
    titles = {
        "lora_dose1": "1 phrasing",
        "lora_dose3": "3 phrasings",
        "lora": "3 of 10",
    }
    doses = {
        title: vars(study.find(arm, "gain_trained")) for arm, title in titles.items()
    }
    doses |= {
        f"{titles[arm]}, minus 1": vars(
            study.find(arm, "choice_trained", minus="lora_dose1")
        )
        for arm in ("lora_dose3", "lora")
    }
    beside = study.find("lora", "choice_trained", minus="search")
    doses["3 of 10, minus search"] = vars(beside)
    doses = pd.DataFrame(doses).T
    figure = report.plot_intervals(
        doses, "Gain by phrasings met", "gain in choices of trained terms", 0
    )
    report.show_figure(
        figure,
        "Gain in four-way choices of trained terms, in a phrasing never trained, by "
        f"phrasings met, and paired differences: {report.list_rows(doses)}.",
    )

# %% [markdown]
# In the figure, the first three dots are gains over the base; the next two are paired
# differences between the arms, and answer the question of phrasings. The last sets the
# best-phrased arm against `search`, on the same questions: its interval contains 0, so
# for *choosing*, a small decoder that was taught the terms is not shown to be better than
# an encoder that looks them up. Only the *question* varies here; work that finds
# paraphrases important (Ovadia et al. 2023) varies the text of the fact itself. Hold
# `gain_untrained` against `gain_trained` as well: what both share is general practice
# with such questions, what only the trained terms gain is knowledge of them.
#
# ## 10 · Tracking: two runs in one figure
#
# The run above lies in a folder, ready to be uploaded. A second run has a tenth of the
# [learning rate](glossary.md#learning-rate) and at most eight steps, within which its
# rate falls to zero.

# %%
second_model, _ = models.load_decoder(decoder_name, quantization_config=quantize_config)
second_model = prepare_model_for_kbit_training(second_model, **SAVE)
second_model = models.add_lora(second_model, RECIPE.lora_config("CAUSAL_LM"), seed=SEED)
slow = replace(RECIPE, learning_rate=RECIPE.learning_rate / 10)
second_run = train(
    second_model,
    rows,
    None,
    replace(slow.train_settings(SEED), max_steps=8),
    task=training.ANSWERS,
    output_dir=folder / "slow",
    report_to="wandb",
)
del second_model
free_memory()

# %%
runs = {
    f"rate {RECIPE.learning_rate:g}": (first_run, "lora"),
    f"rate {slow.learning_rate:g}": (second_run, "slow"),
}
figure, axis = plt.subplots(figsize=(report.WIDTH, 3.4))
ends = []
for (title, (run, name)), colour in zip(runs.items(), report.PALETTE, strict=False):
    logged = run.history.dropna(subset="loss")
    axis.plot(logged["step"], logged["loss"], color=colour, label=title)
    ends.append(
        f"{title} {logged['loss'].iloc[0]:.2f} to {logged['loss'].iloc[-1]:.2f}"
    )
    lies = sorted((folder / name).glob("wandb/wandb/offline-run-*"))
    print(
        title, "lies in", lies[-1].parent.relative_to(folder.parent) if lies else name
    )
axis.set(xlabel="step", ylabel="training loss", title="Two tracked runs")
axis.legend()
report.show_figure(
    figure, f"Training loss by step, first to last value: {'; '.join(ends)}."
)

# %% [markdown]
# Drawn are the losses that `train` returns; a test holds them equal to those in the run's
# folder. With an account, `wandb sync` and that folder (`…/offline-run-…`) uploads it;
# with `WANDB_API_KEY` set beforehand, training does so itself. Where `report_to` names
# TensorBoard or trackio, the run goes there instead.
#
# ## 11 · Save, reload, merge
#
# The adapter is the product: small beside the model, useless without the base it was
# trained on. Loaded onto a fresh 4-bit base, it must score as before, up to rounding.
# Merged into the *unquantised* base it need not: it was trained to work on 4-bit weights.

# %% tags=["nbval-check-output"]
adapter = folder / "adapter"
model.save_pretrained(adapter)
tokenizer.save_pretrained(adapter)
fresh, _ = models.load_decoder(decoder_name, quantization_config=quantize_config)
fresh = prepare_model_for_kbit_training(fresh, use_gradient_checkpointing=False)
without = evaluation.score_questions(
    fresh, tokenizer, evaluation_set.trained[:2], False
)
reloaded = PeftModel.from_pretrained(fresh, adapter).eval()
ours = evaluation.score_questions(model, tokenizer, evaluation_set.trained[:2], False)
theirs = evaluation.score_questions(
    reloaded, tokenizer, evaluation_set.trained[:2], False
)
print("reloaded adapter scores as ours:", np.allclose(ours, theirs, atol=1e-5))
print("so does the base without it:", np.allclose(ours, without, atol=1e-5))
del fresh, reloaded
free_memory()

# %%
asked = evaluation_set.trained[:20]
merge_scores = {
    "4 bit + adapter": evaluation.score_questions(model, tokenizer, asked, False)
}
needed = 1e6 * models.estimate_memory(decoder_name, weight_bytes=2, **shape)["weights"]
if profile.quantize and torch.cuda.mem_get_info()[0] < 1.1 * needed:
    print(
        f"Too little free memory to merge into {needed / 1e9:.1f} GB of weights here."
    )
else:
    full, _ = models.load_decoder(decoder_name, **stored)
    merged = PeftModel.from_pretrained(full, adapter).merge_and_unload()
    merge_scores["merged"] = evaluation.score_questions(merged, tokenizer, asked, False)
    merged = merged.to(torch.bfloat16)
    merged.save_pretrained(folder / "merged", max_shard_size="2GB")
for name, found in merge_scores.items():
    hits = np.mean(found.argmax(1) == [q.right for q in asked])
    apart = np.abs(found - merge_scores["4 bit + adapter"]).max()
    print(
        f"{name}: {hits:.2f} of {len(asked)} right, scores differ by up to {apart:.2f}"
    )
for name in ("adapter", "merged"):
    size = sum(f.stat().st_size for f in (folder / name).glob("*.safetensors")) / 1e6
    print(f"{name}: {size:.0f} MB")

# %% [markdown]
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
# ## 12 · Ask it yourself
#
# The base and the adapter answer the same question. The box needs a running kernel; the
# function does the same.


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
# The same without a notebook, with the same functions, on a file of your own:
#
# ```
# python -m lessons_lib finetune --data my.json --ask "What is …?"
# ```
#
# ## 13 · What was measured

# %%
speed = evaluation.measured_once(first_run.tokens_per_second)
metrics.add("lora", "tokens_per_second", speed)
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
# ## Recap
#
# 1. NF4 stores a weight as one of sixteen levels times its block's scale, 4.5 bits in all
#    and 4.127 with double quantisation; our levels equal bitsandbytes'. In training
#    layers are unpacked to be used: it saves memory, not time.
# 2. A fact becomes a prompt, an answer and EOS; what is learned is counted, not searched.
# 3. LoRA trains on top of frozen 4-bit weights; the run tracks itself without an account.
# 4. What was learned shows in trained terms, in a new phrasing, against hard wrong
#    answers; the blind question, the untrained terms and the general ones say what it is
#    worth.
# 5. The adapter belongs to the base it was trained on, with a card that says so.
#
# ## Quiz
#
# Answer first, then run the cell.
#
# 1. A layer has 4096 × 11008 weights. How many MB in NF4 with double quantisation?
# 2. Which level stands for a weight of 0.5 in a block whose largest weight is 1?
# 3. A row has a prompt of 40 tokens and an answer of 9, then EOS. At how many positions
#    are logits computed?
# 4. 21 of 60 choices are right. Is that better than chance?

# %% tags=["nbval-check-output"]
print(f"1. {4096 * 11008 * double / 8 / 1e6:.1f} MB")
print(f"2. {float(LEVELS[(LEVELS - 0.5).abs().argmin()]):.4f}")
print("3.", 9 + 1)
interval = evaluation.wilson_interval([True] * 21 + [False] * 39)
print(
    f"4. {interval}: the interval",
    "contains" if interval.low < 0.25 else "excludes",
    ".25",
)

# %% [markdown]
# **Next.** With `LESSONS_PROFILE=gpu` this notebook trains Llama-2-7B in 4 bit (or an
# open model where you have no access); its numbers stay blank until somebody has measured
# them. Lesson 05 asks whether fine-tuning was the right way at all, or looking the answer
# up. The graded assignment of this lesson will ask you to build NF4, the masks and the
# choice by [likelihood](glossary.md#likelihood).
