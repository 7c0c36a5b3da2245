"""Models: the conversion is exact, LoRA moves only what it should, numbers add up."""

import pytest
import torch
from helpers import hash_weights
from peft import LoraConfig
from transformers import AutoModelForSequenceClassification, BertConfig, BertModel, DistilBertModel

from lessons_lib import data, evaluation, models, training
from lessons_lib.assets import cache_folder
from lessons_lib.training.recipe import Recipe, fine_tune_classifier

pytestmark = pytest.mark.usefixtures("each_precision")

LORA = {"task_type": "SEQ_CLS", "r": 4, "target_modules": ["q_lin", "v_lin"]}


@pytest.fixture
def bert():
    torch.manual_seed(0)
    config = BertConfig(vocab_size=99, hidden_size=32, num_hidden_layers=3, num_attention_heads=4)
    config.intermediate_size = 64
    bert = BertModel(config).eval()
    for parameter in bert.parameters():  # biases start at 0 and would hide a forgotten one
        torch.nn.init.normal_(parameter, std=0.2)
    return bert


def test_bert_becomes_the_same_distilbert(bert):
    """Failing means lesson 04 fine-tunes something other than the pretrained encoder."""
    distilbert = DistilBertModel(models.distilbert_config(bert.config)).eval()
    distilbert.load_state_dict(models.convert_bert_weights(bert.state_dict()))
    ids = torch.randint(1, 99, (4, 17))
    mask = (torch.arange(17) < torch.tensor([[17], [9], [3], [12]])).long()
    with torch.no_grad():
        ours, theirs = distilbert(ids, mask)[0], bert(ids, mask)[0]
    assert ((ours - theirs).abs() * mask[..., None]).max() < 1e-5


def test_real_encoder_becomes_the_same_distilbert():
    """Failing means the packaged weights do not convert exactly (skipped where never fetched)."""
    folder = cache_folder() / "all-MiniLM-L6-v2"
    if not folder.is_dir():
        pytest.skip("the packaged encoder is not in the cache")
    bert = BertModel.from_pretrained(folder).eval()
    model, tokenizer = models.load_classifier("packaged:all-MiniLM-L6-v2", seed=0)
    texts = ["A fine film.", "Slow, and yet I would not have missed a minute of it."]
    batch = tokenizer(texts, padding=True, return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad():
        ours, theirs = model.distilbert(**batch)[0], bert(**batch)[0]
    assert ((ours - theirs).abs() * batch["attention_mask"][..., None]).max() < 1e-5


def test_two_builds_of_one_seed_are_equal():
    """Failing means a seed does not fix head and adapter, and nobody can repeat a result."""

    def build(seed):
        model = models.load_classifier("tiny", seed=seed)[0]
        torch.rand(3)  # what happens in between must not matter
        return hash_weights(models.add_lora(model, LoraConfig(**LORA), seed=seed))

    assert build(1) == build(1)
    assert build(1) != build(2)


def test_training_moves_lora_and_head_alone(tokens, reviews, tmp_path):
    """Failing means the frozen weights are not frozen, or the head is not trained."""
    recipe = Recipe(learning_rate=1e-2, epochs=1, batch_size=8)
    before = models.load_classifier("tiny", seed=0, dropout=0.0)[0]
    before = models.add_lora(before, recipe.lora_config(), seed=0).state_dict()
    tuned = fine_tune_classifier(
        recipe, "tiny", reviews, max_tokens=48, seed=0, output_dir=tmp_path, progress=False
    )
    after = tuned.model.state_dict()
    moved = {name for name in after if not torch.equal(after[name], before[name])}
    trainable = {name for name in after if "lora_" in name or "modules_to_save" in name}
    assert moved == trainable


def test_parameters_are_counted_apart():
    """Failing means a table sells the head's parameters as LoRA's, or hides them."""
    model = models.add_lora(models.load_classifier("tiny", seed=0)[0], LoraConfig(**LORA), seed=0)
    count = models.count_parameters(model)
    assert count.lora == 2 * 2 * 4 * (32 + 32)  # layers × targets × rank × (in + out)
    assert count.head == 32 * 32 + 32 + 32 * 2 + 2
    assert count.base_trainable == 0


def test_untouched_adapter_changes_nothing(tokens):
    """Failing means training does not start at the pretrained model."""
    model = models.load_classifier("tiny", seed=0)[0]
    before = evaluation.predict(model, tokens["test"])
    after = evaluation.predict(models.add_lora(model, LoraConfig(**LORA), seed=0), tokens["test"])
    assert (before == after).all()


def test_memory_estimate_knows_lora_from_full():
    """Failing means the estimate printed before loading misleads."""
    full = models.estimate_memory("tiny", lora=None, batch_size=8, tokens=32)
    lora = models.estimate_memory("tiny", lora=LoraConfig(**LORA), batch_size=8, tokens=32)
    count = models.count_parameters(models.load_classifier("tiny", seed=0)[0])
    assert full["optimizer"] == pytest.approx(count.total * 8 / 1e6)
    assert lora["optimizer"] < full["optimizer"] / 5
    assert lora["activations"] == full["activations"] > 0


def test_mean_pooling_ignores_padding(tokens):
    """Failing means a text's prediction depends on its neighbours in the batch."""
    model = models.load_classifier("tiny", seed=0, pooling="mean")[0]
    one = evaluation.predict(model, tokens["test"], batch_size=1)
    many = evaluation.predict(model, tokens["test"], batch_size=24)
    assert abs(one - many).max() < 2e-2  # bf16


def test_mean_pooling_survives_saving(tokens, tmp_path):
    """Failing means a saved model's head reads another state than it was trained on."""
    model = models.load_classifier("tiny", seed=0, pooling="mean")[0]
    model.save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert isinstance(again, models.MeanPooledClassifier)
    ours = evaluation.predict(model, tokens["test"])
    assert (evaluation.predict(again, tokens["test"]) == ours).all()
    first_token = models.load_classifier("tiny", seed=0)[0]
    assert abs(evaluation.predict(first_token, tokens["test"]) - ours).max() > 1e-4


def test_embedding_a_mean_pooled_model_averages_once(tokens):
    """Failing means vectors of a fine-tuned model are averages of averages."""
    model = models.load_classifier("tiny", seed=0, pooling="mean")[0]
    plain = models.load_classifier("tiny", seed=0)[0]
    ours = evaluation.embed(model.base_model, tokens["test"])
    assert (ours == evaluation.embed(plain.base_model, tokens["test"])).all()


def test_wrong_order_of_classes_is_refused():
    """Failing means a model that calls good bad is scored without a word."""
    model = models.load_classifier("tiny", seed=0, class_names=["Negative", "Neutral", "Positive"])[
        0
    ]
    models.check_class_names(model, ["negative", "neutral", "positive"])
    for names in (["positive", "negative", "neutral"], ["negative", "positive"]):
        with pytest.raises(models.ModelError, match="Neutral.*Remedy.*class_names"):
            models.check_class_names(model, names)


def test_decoder_in_4_bit_learns_three_classes_with_a_head(tmp_path):
    """Failing means the gpu profile's classifier is not in 4 bit, trains its frozen weights, or
    loses its head; or that a text's class depends on the padding of its batch."""
    splits = data.load_reviews(
        "samples:news", train_rows=24, validation_rows=12, test_rows=12, neutral=True, seed=0
    )
    recipe = Recipe(
        learning_rate=1e-2,
        rank=4,
        alpha=8,
        targets=("q_proj", "v_proj"),
        epochs=1,
        batch_size=8,
        quantize="nf4",
    )
    tuned = fine_tune_classifier(
        recipe,
        "tiny:decoder",
        splits,
        max_tokens=64,
        seed=0,
        output_dir=tmp_path,
        progress=False,
    )
    models.check_class_names(tuned.model, splits["train"].features["label"].names)
    names = {type(module).__name__ for module in tuned.model.modules()}
    assert "Linear4bit" in names
    assert tuned.count.base_trainable == 0
    assert tuned.count.head == 3 * tuned.model.config.hidden_size
    tokens = training.tokenize_reviews(splits["test"], tuned.tokenizer, 64)
    one, many = (evaluation.predict(tuned.model, tokens, batch_size=size) for size in (1, 12))
    assert abs(one - many).max() < 2e-2


def test_missing_hub_model_names_the_remedy():
    """Failing means no network ends in a traceback without a way out."""
    with pytest.raises(models.ModelError, match=r"Remedy: .*HF_TOKEN.*LESSONS_PROFILE=laptop"):
        models.load_classifier("nobody/no-such-model", seed=0)


def test_model_of_a_local_folder_is_loaded(tmp_path):
    """Failing means the Hub path of the gpu profile is broken."""
    model, tokenizer = models.load_classifier("tiny", seed=0)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again, tokenizer = models.load_classifier(str(tmp_path), seed=5)
    assert hash_weights(again) == hash_weights(model)
    assert tokenizer("a fine film")["input_ids"][0] == tokenizer.cls_token_id


def test_tiny_tokenizer_fits_the_tiny_models():
    """Failing means a smoke run asks the tiny model for a token that it has no vector for."""
    vocabulary = models.load_tokenizer("tiny").get_vocab()
    assert vocabulary["[PAD]"] == 0
    assert len(vocabulary) <= models.load_classifier("tiny", seed=0)[0].config.vocab_size


def test_a_bert_of_the_hub_trains_without_dropout(tmp_path):
    """Failing means the gpu profile's BERT drops out at random where the recipe says 0."""
    config = BertConfig(
        vocab_size=400,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=64,
    )
    BertModel(config).save_pretrained(tmp_path)
    models.load_tokenizer("tiny").save_pretrained(tmp_path)
    model = models.load_classifier(str(tmp_path), seed=0, dropout=0.0)[0]
    assert {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)} == {0.0}
    assert model.config.attention_probs_dropout_prob == 0.0


def test_a_decoder_with_a_head_keeps_no_cache():
    """Failing means classifying with a large decoder fills a GPU with states that nobody reads."""
    model = models.load_classifier("tiny:decoder", seed=0)[0]
    ids = torch.tensor([[5, 6, 7]])
    assert model(input_ids=ids).past_key_values is None
