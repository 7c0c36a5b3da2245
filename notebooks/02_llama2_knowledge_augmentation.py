# %% [markdown]
# # Lesson 02 · Teaching a Llama medical terms, in 4 bit
#
# **You will be able to**
#
# 1. quantise weights to NF4 by hand, and say what 4 bits cost in error, memory and speed;
# 2. turn facts of your own into training rows: prompt, mask, end of answer;
# 3. train LoRA on a 4-bit model, and track the run without an account;
# 4. measure what was learned, what was not, and what was lost, with questions whose wrong
#    answers are hard;
# 5. save, reload, merge and document the adapter.
#
# **You need** Python, lesson 04's idea of LoRA, and lesson 01's of a decoder.
#
# **Words that come back.** *Quantisation*: storing each weight as one of a few levels.
# *NF4*: sixteen levels, placed where normally distributed weights are. *Block*: the 64
# weights that share one scale. *Perplexity*: how many tokens a model seems to choose
# among. *Chat template*: the text with which a model was trained to tell who speaks.
# *EOS*: the token that ends an answer. *Mask*: which tokens the loss looks at.
# *Distractor*: a wrong answer on offer. *Forgetting*: what a model could do before
# training and cannot after. *Adapter*: the numbers LoRA trains.

# %%
import time
from pathlib import Path

from lessons_lib import decoders, dialogs, evaluation, knowledge, models, plots, results

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import transformers
from bitsandbytes import functional as bnb
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from IPython.display import display
from peft import LoraConfig, PeftModel, prepare_model_for_kbit_training
from scipy.stats import norm
from transformers import BitsAndBytesConfig

from lessons_lib import widgets
from lessons_lib.machine import choose_precision
from lessons_lib.profiles import load_profile
from lessons_lib.speed import compute_in
from lessons_lib.training import TrainSettings, train

LESSON = "02_llama2_knowledge_augmentation"
SEED = 0
profile = load_profile(LESSON)
models.quiet_libraries()
plots.use_course_style()
pd.set_option("display.precision", 3, "display.max_colwidth", 90)

# %% [markdown]
# ## What runs here
#
# The title's Llama-2 belongs to the `gpu` profile. `laptop` takes a small model of the same
# architecture from the Python package index, `smoke` a tiny random one, to test the code.

# %%
decoder_name = decoders.choose_decoder(profile.decoder, profile.stand_in)
published = results.find_results(LESSON, "laptop")
study = results.find_results(LESSON, "study")
print(f"profile  {profile.name}")
print(f"decoder  {decoder_name}")
print(f"terms    {profile.terms}: {profile.trained_terms} to teach")
print(f"numbers  {choose_precision().dtype}: {choose_precision().reason}")
if published:
    print(f"laptop   {published.seconds:.0f} s and {published.peak_rss_mb:,.0f} MB on")
    print(
        f"         {published.machine['cpu']}, {published.machine['threads']} threads"
    )

# %% [markdown]
# In the laptop profile the decoder is
# [SmolLM2-135M-Instruct](https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct)
# (Apache-2.0): Llama's layers, 135 million weights instead of 7 billion. Its packaged
# weights were stored in 4 bit once already and are unpacked here, so "fp32" below means
# *unpacked* weights, and every error in section 2 is an **added** one. The terms come
# from the Human Phenotype Ontology (release 2025-01-16; its licence and citation are in
# `data/cards/hpo.md`). Nothing in this lesson is medical advice.
#
# ## 1 · Four bits, by hand
#
# Trained weights of a layer look like draws from a normal distribution. With 4 bits there
# are 16 levels; QLoRA (Dettmers et al. 2023) puts them at quantiles of that
# distribution, so that each level is used about equally often: eight steps for positive
# numbers, seven for negative ones, and an exact zero. The outermost quantile cannot be
# 1 (that is infinitely far out), so bitsandbytes takes 0.9677083.

# %% tags=["nbval-check-output"]
OUTERMOST = 0.9677083
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
    return (blocks / scales)[..., None].sub(LEVELS).abs().argmin(-1), scales


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
stored = {"dtype": torch.bfloat16} if profile.name == "gpu" else {}
decoder, tokenizer = decoders.load_decoder(decoder_name, **stored)
weights = decoder.get_decoder().layers[1].mlp.up_proj.weight.detach().float().cpu()
ours = dequantize(*quantize(weights), weights.shape)
theirs = bnb.dequantize_4bit(*bnb.quantize_4bit(weights, quant_type="nf4"))
del decoder  # the memory is needed below
error = (ours - weights).pow(2).mean().sqrt() / weights.std()
print("shape", tuple(weights.shape))
print(
    f"largest difference from bitsandbytes' result: {(ours - theirs).abs().max():.1e}"
)
print(f"root mean square error: {error:.3f} standard deviations of the weights")
figure, axis = plt.subplots(figsize=(plots.WIDTH, 3))
blocks = weights.reshape(-1, BLOCK)
axis.hist((blocks / blocks.abs().amax(1, keepdim=True)).flatten().numpy(), 101)
for level in LEVELS:
    axis.axvline(float(level), color=plots.PALETTE[1], linewidth=1)
axis.set(xlabel="weight / scale of its block", ylabel="weights", title="NF4's levels")
plots.show_figure(
    figure,
    "Histogram of a layer's weights divided by their block's scale, a bell around zero "
    "with two spikes at minus and plus one; sixteen lines mark NF4's levels, dense near "
    "zero and sparse outside.",
)

# %% [markdown]
# The two spikes are each block's own largest weight. Storage: 4 bits a weight, and 32 bits
# of scale a block. *Double quantisation* stores the scales in 8 bits too, 256 of them
# sharing one fp32 scale of their own.

# %% tags=["nbval-check-output"]
plain = 4 + 32 / BLOCK
double = 4 + 8 / BLOCK + 32 / (BLOCK * 256)
print(f"NF4:                      {plain:.3f} bits a weight")
print(f"NF4, double quantisation: {double:.3f} bits a weight")

# %% [markdown]
# ## 2 · What it costs
#
# The same model in five formats. Two helpers: the bytes of the weights with their scales,
# and the weights as they are *used*. What a linear layer makes of the unit vectors is its
# weight matrix, in whatever format that is kept.


# %%
def count_bytes(model) -> int:
    """Bytes of a model's weights, with the scales that 4-bit and 8-bit ones need."""
    total = sum(parameter.nbytes for parameter in model.parameters())
    for module in model.modules():
        if isinstance(module, Linear4bit):
            state = module.weight.quant_state
            total += state.absmax.nbytes
            total += state.state2.absmax.nbytes if state.nested else 0
        elif isinstance(module, Linear8bitLt):
            total += module.weight.SCB.nbytes
    return total


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
if profile.name == "gpu":  # 27 GB would not fit
    del FORMATS["fp32"]
texts = knowledge.choose_texts(profile.texts, profile.text_rows)
formats, kept = {}, {}
for name, options in FORMATS.items():
    candidate, _ = decoders.load_decoder(decoder_name, **options)
    kept[name] = read_weights(candidate)
    first = next(iter(kept.values()))
    began = time.perf_counter()
    losses = decoders.score_texts(candidate, tokenizer, texts[:16], progress=False)
    formats[name] = {
        "weights, MB": count_bytes(candidate) / 1e6,
        "perplexity": np.exp(losses.mean()),
        "weight error": float((kept[name] - first).pow(2).mean().sqrt() / first.std()),
        "seconds to read": time.perf_counter() - began,
    }
del candidate, kept
pd.DataFrame(formats).T

# %% [markdown]
# The weight error is in standard deviations of the weights. Embeddings stay as they are
# in the 4-bit and 8-bit formats, which is why the whole shrinks less than its layers.
# Perplexities of 16 sentences are coarse; what counts is their *order* and that all
# formats read the same sentences. int8's speed and bf16's depend on what the processor
# offers; without such instructions they are slower than fp32, not faster.
#
# ## 3 · What Llama-2-7B would need
#
# Nothing has to be downloaded to know: a configuration is enough.

# %%
LLAMA_2_7B = transformers.LlamaConfig(
    hidden_size=4096,
    intermediate_size=11008,
    num_hidden_layers=32,
    num_attention_heads=32,
    vocab_size=32000,
)
LORA = {
    "r": 16,
    "lora_alpha": 32,
    "target_modules": "all-linear",
    "task_type": "CAUSAL_LM",
}
shape = {"lora": LoraConfig(**LORA), "batch_size": 1, "tokens": 512}
needs = {
    "LoRA on bf16": models.estimate_memory(LLAMA_2_7B, weight_bytes=2, **shape),
    "LoRA on NF4, double": models.estimate_memory(
        LLAMA_2_7B, weight_bytes=2, linear_bytes=double / 8, **shape
    ),
}
needs = pd.DataFrame(needs).T / 1000
needs["measured by torchtune"] = [15.57, 9.29]
needs.round(2)

# %% [markdown]
# In GB. The last column is peak memory *reserved* in
# [torchtune's tutorial](https://docs.pytorch.org/torchtune/stable/tutorials/qlora_finetune.html)
# for LoRA and QLoRA of Llama-2-7B: another rank, batch and length, and reserved is more
# than used. So hold the orders of magnitude against each other, not the digits. The
# 4-bit weights alone come to about 3.9 GB, as QLoRA's users report.
#
# ## 4 · Facts to teach
#
# A file of facts is a JSON list; this one was written for the course. Other field names
# work too: `question`/`answer`, `prompt`/`response`, `instruction`/`input`/`output`, or
# chat `messages`.

# %% tags=["nbval-check-output"]
sample = Path("../data/samples/medical_terms.json")
print(sample.read_text(encoding="utf-8")[:210], "…")
facts = dialogs.read_dialogs(sample)
print(len(facts), "facts; the first is asked as:", facts[0].question)

# %% tags=["nbval-check-output"]
# What a bad row says: where it stands, and the remedy.
broken = Path("../build/broken.json")
broken.parent.mkdir(exist_ok=True)
broken.write_text('[{"term": "Ataxia", "definition": "…"}, {"term": "Coma"}]')
try:
    dialogs.read_dialogs(broken)
except dialogs.DataError as problem:
    print(str(problem).replace(str(broken), broken.name))

# %% [markdown]
# The facts of this run: terms of the ontology whose definition shares no word stem with
# the term. "Abnormal cry: an anomaly of crying" would be answered by matching words. One
# random group is taught; another is never taught, and asked all the same.

# %%
terms = knowledge.read_terms(profile.terms)
clear = (
    knowledge.drop_giveaways(terms) if profile.terms == knowledge.ONTOLOGY else terms
)
sizes = {"trained": profile.trained_terms, "untrained": profile.untrained_terms}
groups = knowledge.split_terms(clear, sizes, seed=SEED)
print(f"{len(terms):,} facts read, {len(clear):,} without a giveaway")
print({name: len(group) for name, group in groups.items()})
pd.DataFrame(
    [(fact.term or fact.question, fact.answer) for fact in groups["trained"][:5]],
    columns=["term", "definition"],
)

# %% [markdown]
# ## 5 · From a fact to a training row
#
# One function renders prompts, for training and for asking, with the model's own chat
# template. The answer's tokens are appended, then EOS. Where the prompt ends is *counted*:
# searching for a marker's text fails when tokens merge across it, and then every label
# is masked.

# %%
fact = groups["trained"][0]
row = dialogs.encode_dialogs([fact], tokenizer, profile.max_tokens)[0]
prompt = [i for i, label in zip(*row.values(), strict=True) if label == -100]
answer = [label for label in row["labels"] if label != -100]
print("read, not learned:", repr(tokenizer.decode(prompt)))
print("learned:          ", repr(tokenizer.decode(answer)))

# %% tags=["nbval-check-output"]
print("the answer's end is learned:", answer[-1] == tokenizer.eos_token_id)
twice = (
    tokenizer.bos_token_id is not None and prompt[:2] == [tokenizer.bos_token_id] * 2
)
print("a doubled beginning-of-text token:", twice)
masked = dialogs.Dataset.from_list([{"input_ids": [5, 6], "labels": [-100, -100]}])
try:
    dialogs.check_labels(masked)
except dialogs.DataError as problem:
    print(problem)

# %% [markdown]
# Two savings that change no gradient. A row's **logits** are needed only where the next
# token is learned; over a vocabulary of tens of thousands the rest would cost a third of
# the time. And what all rows **begin** with (the system message) is read once: rows lie in
# one sequence, and a mask lets each see that beginning and itself. A batch of two:

# %% tags=["nbval-check-output"]
tiny = [
    {"input_ids": [1, 2, 3, 4], "labels": [-100, -100, 3, 4]},
    {"input_ids": [1, 2, 7], "labels": [-100, -100, 7]},
]
batch = dialogs.flatten_batch(tiny)
print("tokens   ", batch["input_ids"][0].tolist())
print("positions", batch["position_ids"][0].tolist())
print(batch["attention_mask"][0, 0].int().numpy())
print(
    "logits at", batch["logits_to_keep"].tolist(), "for", batch["labels"][1:].tolist()
)

# %% [markdown]
# The facts are taught in ten phrasings of the question, and asked in one that is never
# trained.

# %%
TIMES = 5  # how often each fact is met
taught = knowledge.phrase_terms(groups["trained"], knowledge.PHRASINGS, TIMES)
rows = dialogs.encode_dialogs(taught, tokenizer, profile.max_tokens)
lengths = [len(ids) for ids in rows["input_ids"]]
print(f"{len(rows)} rows, {sum(lengths):,} tokens; in training:")
for phrasing in knowledge.PHRASINGS[:4]:
    print("   ", phrasing.format(fact.term))
print("in the exam:\n   ", knowledge.HELD_OUT.format(fact.term))

# %% [markdown]
# ## 6 · The exam, before
#
# A generated answer is hard to mark by machine, so the main measure is a **choice**: which
# of four definitions does the model find likeliest, a token, as the answer? Chance is .25.
# What a sceptic asks:
#
# - *Are the wrong answers easy?* They are the three definitions nearest to the right one,
#   by a sentence encoder's vectors.
# - *Does it just prefer definitions it has seen?* A trained term's wrong answers are
#   trained definitions as well.
# - *Does it need the term at all?* "Blind", the same question is asked without it; the
#   score must be about chance.

# %%
exam = knowledge.build_exam(
    groups, profile.encoder, texts=texts, written=profile.written
)
question = exam.trained[0]
print(question.question)
for number, choice in enumerate(question.choices):
    print("  →" if number == question.right else "   ", choice)

# %% [markdown]
# The model in 4 bit, in plain sight:

# %%
QUANTIZE = {**NF4, "bnb_4bit_use_double_quant": True}
quantize_config = BitsAndBytesConfig(
    **QUANTIZE, bnb_4bit_compute_dtype=choose_precision().torch_dtype
)
model, tokenizer = decoders.load_decoder(
    decoder_name, quantization_config=quantize_config
)
before = knowledge.sit_exam(model, tokenizer, exam)
marks = {"base": knowledge.mark_sitting(exam, before)}
metrics = knowledge.report_marks(marks)
pd.DataFrame({name: vars(metric) for name, metric in metrics.items()}).T

# %% [markdown]
# `choice_blind` should lie at .25, and `choice_general` (capitals, opposites, tools) shows
# that the model does know things. `relative_trained` marks the same scores differently: a
# definition counts by how much *likelier the term makes it*, so that a definition which
# is likely anyway gains nothing. It is the kinder measure of what a model knows.

# %% [markdown]
# ## 7 · Training in 4 bit
#
# `prepare_model_for_kbit_training` freezes the 4-bit weights and keeps what is left (norms,
# embeddings) in fp32; LoRA goes on all linear layers. Gradients reach LoRA alone:

# %% tags=["nbval-check-output"]
linear = sum(isinstance(module, torch.nn.Linear) for module in model.modules())
in_4_bit = sum(isinstance(module, Linear4bit) for module in model.modules())
print("linear layers not in 4 bit:", linear - in_4_bit, "(the output layer)")
model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
model = models.add_lora(model, LoraConfig(**LORA), seed=SEED)
trained = [name for name, p in model.named_parameters() if p.requires_grad]
print("all trained parameters are LoRA's:", all("lora_" in name for name in trained))
in_4_bit_now = sum(isinstance(module, Linear4bit) for module in model.modules())
print("layers in 4 bit before and after:", in_4_bit == in_4_bit_now)

# %% [markdown]
# `report_to` names a tracker: "none", "wandb", "trackio" or "tensorboard". Weights & Biases
# never asks anything here: without `WANDB_API_KEY` the run stays in a folder, offline.

# %%
SETTINGS = {"learning_rate": 1.5e-3, "epochs": 1, "batch_size": 12, "warmup": 0.06}
folder = Path(f"../build/runs/{LESSON}")
first_run = train(
    model,
    rows,
    None,
    TrainSettings(**SETTINGS, seed=SEED),
    output_dir=folder / "lora",
    report_to="wandb",
)
count = models.count_parameters(model)
print(f"{first_run.steps} steps in {first_run.seconds:.0f} s,", end=" ")
print(f"{first_run.tokens_per_second:,.0f} tokens/s")
print(f"{count.lora:,} trained parameters; peak memory {first_run.peak_mb:,.0f} MB")

# %% [markdown]
# ## 8 · The exam, after
#
# The same questions, with the adapter. `compute_in` lends the exam the same fast layers
# that training used; it changes no result beyond rounding.

# %%
model.eval()
with compute_in(model, choose_precision()):
    after = knowledge.sit_exam(model, tokenizer, exam)
marks["lora"] = knowledge.mark_sitting(exam, after)
metrics = knowledge.report_marks(marks)
choices = ["choice_trained", "choice_untrained", "choice_blind", "choice_general"]
shown = pd.DataFrame(
    {
        f"{name.removeprefix('choice_')}, {system}": vars(metrics[f"{system}.{name}"])
        for name in choices
        for system in ("base", "lora")
    }
).T
figure = plots.plot_intervals(
    shown, "Four-way choices", "share right (95 % interval)", 0.25
)
plots.show_figure(
    figure,
    f"Share of four-way choices right, chance dashed at 0.25: {plots.list_rows(shown)}.",
)

# %% [markdown]
# Read it in four pairs. **Trained**: the rise, in a phrasing that was never trained, is
# what was learned. **Untrained**: has the model become better at terms in general, or
# only at these? **Blind**: still about chance? Then the rise above needs the term.
# **General**: what was lost. The paired differences:

# %%
gains = {
    name.removeprefix("lora."): vars(metric)
    for name, metric in metrics.items()
    if "gain_" in name or name.endswith("_change")
}
gains = pd.DataFrame(gains).T
gains

# %% [markdown]
# An interval that contains 0 is no finding. `general_loss_change` is the change of the loss
# on general sentences as a share of the loss before: negative is *better*. Fine-tuning
# on short sentences can make a chat model a better reader of sentences, so this alone
# does not prove that nothing was forgotten; `gain_general` asks for facts.
#
# In its own words, and where it stops:

# %%
said = pd.DataFrame(
    {
        "definition": [q.choices[q.right] for q in exam.trained[: exam.written]],
        "before": [answer.text[:160] for answer in before.answers],
        "after": [answer.text[:160] for answer in after.answers],
    }
)
names = ["definition_loss", "token_f1", "stop_rate", "answer_tokens"]
table = {
    system: {name: str(metrics[f"{system}.{name}"]) for name in names}
    for system in ("base", "lora")
}
display(pd.DataFrame(table))
said.head(6)

# %% [markdown]
# `definition_loss` is the mean loss a token of the right definition. `token_f1` compares
# words, so a fluent, wrong definition still earns some: read a few. Where an answer has
# the *style* of the ontology and the wrong content, the model has learned to sound
# right, which is worse than not knowing. The stop rate is 1 only because EOS is
# learned: had we padded with EOS and masked the padding, it would be masked too.
#
# ## 9 · What the study says
#
# One seed and few terms prove little. The study teaches 300 terms with three seeds, in 1,
# 3 or 10 phrasings, each term met equally often, and asks the same exam.

# %%
if study:
    wanted = ["choice_trained", "gain_trained", "gain_untrained", "choice_blind"]
    wanted += ["relative_trained", "general_loss_change", "stop_rate", "seconds"]
    systems = ["base", "lora_dose1", "lora_dose3", "lora"]
    display(
        pd.DataFrame(
            {
                system: {
                    name: str(study.metrics.get(f"{system}.{name}", ""))
                    for name in wanted
                }
                for system in systems
            }
        )
    )
    doses = pd.DataFrame(
        {
            f"{dose} phrasing{'s' * (dose > 1)}": vars(
                study.metrics[f"{system}.gain_trained"]
            )
            for dose, system in ((1, "lora_dose1"), (3, "lora_dose3"), (10, "lora"))
        }
    ).T

# %%
if study:
    figure = plots.plot_intervals(
        doses, "Gain by number of phrasings", "gain in choices of trained terms", 0
    )
    plots.show_figure(
        figure,
        "Gain in four-way choices of trained terms, in a phrasing never trained, by "
        f"number of phrasings: {plots.list_rows(doses)}.",
    )

# %% [markdown]
# (`lora` has all ten phrasings.) Do the intervals of the doses overlap? With few meetings
# a term, other questions' wording can matter less than the literature's larger models
# suggest (Ovadia et al. 2023). And hold `gain_untrained` against `gain_trained`: the
# difference between them is knowledge of *these* terms; the rest is a habit.
#
# ## 10 · Tracking: two runs in one figure
#
# The run above lies in a folder, ready to be uploaded. A second, short run has a tenth of
# the learning rate.

# %%
second_model, _ = decoders.load_decoder(
    decoder_name, quantization_config=quantize_config
)
second_model = prepare_model_for_kbit_training(
    second_model, use_gradient_checkpointing=False
)
second_model = models.add_lora(second_model, LoraConfig(**LORA), seed=SEED)
slow = {**SETTINGS, "learning_rate": SETTINGS["learning_rate"] / 10}
second_run = train(
    second_model,
    rows,
    None,
    TrainSettings(**slow, seed=SEED, max_steps=10),
    output_dir=folder / "slow",
    report_to="wandb",
)
del second_model

# %%
runs = {
    f"rate {SETTINGS['learning_rate']:g}": (first_run, "lora"),
    f"rate {slow['learning_rate']:g}": (second_run, "slow"),
}
figure, axis = plt.subplots(figsize=(plots.WIDTH, 3.4))
ends = []
for (title, (run, name)), colour in zip(runs.items(), plots.PALETTE, strict=False):
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
plots.show_figure(
    figure, f"Training loss by step, first to last value: {'; '.join(ends)}."
)

# %% [markdown]
# With an account, `wandb sync` and the folder of a run (`build/runs/…/wandb/wandb/
# offline-run-…`) uploads it; with `WANDB_API_KEY` set beforehand, training does so
# itself. TensorBoard and trackio write beside it when `report_to` names them.
#
# ## 11 · Save, reload, merge
#
# The adapter is the product: a few megabytes, useless without the base it was trained on.
# Loaded onto a fresh 4-bit base, it must answer as before, to the last digit. Merged
# into the *unquantised* base it will not: it was trained to work on 4-bit weights.

# %% tags=["nbval-check-output"]
adapter = folder / "adapter"
model.save_pretrained(adapter)
tokenizer.save_pretrained(adapter)
fresh, _ = decoders.load_decoder(decoder_name, quantization_config=quantize_config)
without = knowledge.score_questions(fresh, tokenizer, exam.trained[:2], False)
reloaded = PeftModel.from_pretrained(fresh, adapter).eval()
ours = knowledge.score_questions(model, tokenizer, exam.trained[:2], False)
theirs = knowledge.score_questions(reloaded, tokenizer, exam.trained[:2], False)
print("reloaded adapter scores as ours:", np.allclose(ours, theirs, atol=1e-5))
print("so does the base without it:", np.allclose(ours, without, atol=1e-5))
del fresh, reloaded

# %%
full, _ = decoders.load_decoder(decoder_name, **stored)
merged = PeftModel.from_pretrained(full, adapter).merge_and_unload()
merged.to(torch.bfloat16).save_pretrained(folder / "merged")
sizes = {
    name: sum(f.stat().st_size for f in (folder / name).glob("*.safetensors")) / 1e6
    for name in ("adapter", "merged")
}
merged = merged.to(stored.get("dtype", torch.float32))
asked = exam.trained[:20]
right = [q.right for q in asked]
for name, which in (("4 bit + adapter", model), ("merged", merged)):
    scores = knowledge.score_questions(which, tokenizer, asked, False)
    print(f"{name}: {np.mean(scores.argmax(1) == right):.2f} of {len(asked)} right")
print({name: f"{size:.0f} MB" for name, size in sizes.items()})

# %% [markdown]
# A model card goes with the adapter: base, data and licence, numbers.

# %%
card = results.write_card(
    adapter,
    base=decoder_name,
    data=f"{len(groups['trained'])} facts of {profile.terms}",
    licence="that of the base model and of the data, see data/cards/",
    metrics={name: m for name, m in metrics.items() if "choice" in name},
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
    prompt = [decoders.render_chat(tokenizer, question)]
    options = {"max_new_tokens": 48, "progress": False}
    with model.disable_adapter():
        base = decoders.generate_answers(model, tokenizer, prompt, **options)[0]
    tuned = decoders.generate_answers(model, tokenizer, prompt, **options)[0]
    return f"base     {base.text}\n\nadapter  {tuned.text}"


example = f"What is {groups['trained'][0].term or 'that'}?"
widgets.text_playground(ask_both, example, "Question")

# %% [markdown]
# The same without a notebook, with the same functions, on a file of your own:
#
# ```
# python -m lessons_lib finetune --data my.json --ask "What is …?"
# ```
#
# ## 13 · What was measured

# %%
run_results = results.collect_results(
    LESSON,
    profile.name,
    [SEED],
    {
        **metrics,
        "lora.tokens_per_second": evaluation.Metric(
            *[first_run.tokens_per_second] * 3, n=1
        ),
    },
    ("base.choice_trained", "lora.choice_trained"),
)
print(results.write_results(run_results).name, f"{run_results.seconds:.0f} s")

# %% [markdown]
# ## Recap
#
# 1. NF4 stores a weight as one of sixteen levels times its block's scale, 4.5 bits in
#    all and 4.127 with double quantisation; ours equals bitsandbytes'.
# 2. A fact becomes a prompt, an answer and EOS; what is learned is counted, not searched.
# 3. LoRA trains on top of frozen 4-bit weights; the run tracks itself without an account.
# 4. What was learned shows in trained terms, in a new phrasing, against hard wrong answers;
#    the blind question, the untrained terms and the general ones say what it is worth.
# 5. The adapter belongs to the base it was trained on, with a card that says so.
#
# ## Quiz
#
# Answer first, then run the cell.
#
# 1. A layer has 4096 × 11008 weights. How many MB in NF4 with double quantisation?
# 2. Which level stands for a weight of 0.5 in a block whose largest weight is 1?
# 3. A row has a prompt of 40 tokens and an answer of 9, then EOS. How many logits?
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
# **Next.** With `LESSONS_PROFILE=gpu` this notebook trains Llama-2-7B in 4 bit (or an open
# model where you have no access); its numbers stay blank until somebody has measured
# them. Lesson 05 (in the making) asks whether fine-tuning was the right way at all, or
# looking the answer up. The graded assignment of this lesson will ask you to build NF4,
# the masks and the choice by likelihood.
