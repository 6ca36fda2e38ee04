import json

import numpy as np
import pytest

from line_neurons.agent.errors import MissingPartError, UsageError
from line_neurons.agent.settings import Settings
from line_neurons.tools.guidance.text_encoders import open_text_encoder


@pytest.fixture
def folder(tmp_path):
    """A tiny random encoder with a tokenizer of single letters, as sentence-transformers lays it out."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    vocabulary = {"[PAD]": 0, "[UNK]": 1, **{chr(97 + at): at + 2 for at in range(26)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    fast.save_pretrained(tmp_path)
    config = BertConfig(
        vocab_size=28, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    BertModel(config).save_pretrained(tmp_path, safe_serialization=True)
    (tmp_path / "1_Pooling").mkdir()
    return tmp_path


def pool(folder, **modes):
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(modes))


def test_a_folder_of_sentence_transformers_pools_as_it_says(folder):
    settings, found, prints = Settings(text_encoder=str(folder)), {}, set()
    for name in ("mean_tokens", "cls_token"):
        pool(
            folder, word_embedding_dimension=8, **{f"pooling_mode_{name}": True, "pooling_mode_max_tokens": False}
        )
        encoder = open_text_encoder(settings, folder)
        found[name] = encoder.encode(["ab", "a"])
        prints.add(encoder.fingerprint)
        assert np.linalg.norm(found[name], axis=1) == pytest.approx([1, 1])
    assert not np.allclose(found["mean_tokens"], found["cls_token"])
    assert len(prints) == 2


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: pool(folder, pooling_mode_lasttoken=True), "pools by pooling_mode_lasttoken"),
        (
            lambda folder: (folder / "modules.json").write_text(
                '[{"type": "sentence_transformers.models.Dense"}]'
            ),
            "has a layer 'Dense'",
        ),
        (lambda folder: (folder / "1_Pooling" / "config.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "model.safetensors").unlink(), "lacks model.safetensors"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused(folder, spoil, said):
    spoil(folder)
    with pytest.raises(UsageError, match=said) as caught:
        open_text_encoder(Settings(text_encoder=str(folder)), folder)
    assert "--text-encoder" in caught.value.remedy


def test_an_encoder_that_is_not_installed_names_the_remedy(tmp_path):
    with pytest.raises(MissingPartError, match="the text encoder minilm is not installed") as caught:
        open_text_encoder(Settings(), tmp_path)
    assert caught.value.remedy.startswith("line assets install minilm, or name another one with --text-encoder")


def test_an_unknown_encoder_lists_the_forms(tmp_path):
    with pytest.raises(ValueError, match="'bert' is none of minilm, generator, ollama:NAME and a folder"):
        Settings(text_encoder="bert")
    with pytest.raises(UsageError, match="there is no text encoder '/nowhere/bert'") as caught:
        open_text_encoder(Settings(text_encoder="/nowhere/bert"), tmp_path)
    assert "minilm, generator, ollama:NAME, FOLDER" in caught.value.remedy
