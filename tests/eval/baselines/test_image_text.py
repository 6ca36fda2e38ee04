import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

from line_neurons.agent.errors import BackendError, MissingPartError, UsageError
from line_neurons.eval.baselines.image_text import embed_images, embed_texts, open_encoder
from line_neurons.tools.cache.activation_cache import Cache
from support.tiny_pipelines import CONTEXT, WIDTH, tokenizer

SIDE = {"hidden_size": WIDTH, "intermediate_size": 37, "num_attention_heads": 4, "num_hidden_layers": 2}


def save_clip(folder, seed=0):
    """A tiny CLIP with random weights, as transformers saves one."""
    torch.manual_seed(seed)
    special = {"bos_token_id": 512, "eos_token_id": 513, "pad_token_id": 513}
    text = {**SIDE, **special, "vocab_size": 514, "max_position_embeddings": CONTEXT}
    vision = {**SIDE, "image_size": 16, "patch_size": 8}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH))
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}).save_pretrained(folder)
    return model.eval()


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """The folder of a tiny CLIP, and the model in it."""
    folder = tmp_path_factory.mktemp("clip")
    return folder, save_clip(folder)


def sample_images(count=3):
    made = []
    for seed in range(count):
        pixels = np.random.default_rng(seed).integers(0, 255, (20, 24, 3), np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        made.append(buffer.getvalue())
    return made


def test_images_and_texts_are_embedded_as_the_model_itself_does(clip):
    folder, model = clip
    encoder = open_encoder(f"hf:{folder}", device="cpu")
    images, texts = encoder.images(sample_images()), encoder.texts(["cat", "a dog"])
    processor = CLIPImageProcessor.from_pretrained(folder)
    opened = [Image.open(io.BytesIO(one)) for one in sample_images()]
    with torch.inference_mode():
        whole = model(
            pixel_values=processor(opened, return_tensors="pt").pixel_values,
            **tokenizer()(["cat", "a dog"], padding=True, return_tensors="pt"),
        )
    np.testing.assert_allclose(images, whole.image_embeds, atol=1e-5)
    np.testing.assert_allclose(texts, whole.text_embeds, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(images, axis=1), 1, atol=1e-5)


def test_pixels_and_files_of_the_same_image_are_the_same(clip):
    encoder = open_encoder(f"hf:{clip[0]}", device="cpu")
    pixels = np.asarray(Image.open(io.BytesIO(sample_images(1)[0])))
    np.testing.assert_allclose(encoder.images([pixels]), encoder.images(sample_images(1)), atol=1e-6)


def test_long_texts_are_cut_and_no_texts_are_none(clip):
    encoder = open_encoder(f"hf:{clip[0]}", device="cpu")
    assert encoder.texts(["word " * 500]).shape == (1, WIDTH)
    assert len(encoder.texts([])) == len(encoder.images([])) == 0


def test_the_fingerprint_is_that_of_the_weights(clip, tmp_path):
    save_clip(tmp_path / "same")
    save_clip(tmp_path / "other", seed=1)
    one, same, other = (
        open_encoder(f"hf:{folder}", device="cpu").fingerprint
        for folder in (clip[0], tmp_path / "same", tmp_path / "other")
    )
    assert one == same != other


def test_models_of_open_clip_are_opened_from_a_file(tmp_path):
    open_clip = pytest.importorskip("open_clip")
    vision = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16}
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
    (tmp_path / "tiny.json").write_text(json.dumps({"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(tmp_path)
    model = open_clip.create_model("tiny").eval()
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    encoder = open_encoder(f"open_clip:tiny/{tmp_path}/weights.pt", device="cpu")
    with torch.inference_mode():
        expected = model.encode_text(open_clip.get_tokenizer("tiny")(["cat"]), normalize=True)
    np.testing.assert_allclose(encoder.texts(["cat"]), expected, atol=1e-5)
    assert encoder.images(sample_images()).shape == (3, 16)


class Part:
    """A control set without classes, of two parts."""

    fingerprint = "two parts"
    total = 2
    size = len(sample_images())

    def classes(self):
        return ()

    def chunks(self, start=0):
        from line_neurons.agent.ports import ControlChunk

        for images in (sample_images()[:2], sample_images()[2:])[start:]:
            yield ControlChunk(tuple(images), (-1,) * len(images))


def test_embeddings_are_kept_in_the_bank(clip, tmp_path):
    encoder = open_encoder(f"hf:{clip[0]}", device="cpu")
    with_bank = embed_images(encoder, Part(), Cache(tmp_path))
    texts = embed_texts(encoder.fingerprint, ["cat"], Cache(tmp_path), encoder.texts)
    np.testing.assert_allclose(with_bank, encoder.images(sample_images()), atol=1e-5)

    class Gone:
        fingerprint = encoder.fingerprint

    bank = Cache(tmp_path)
    np.testing.assert_array_equal(embed_images(Gone(), Part(), bank), with_bank)
    np.testing.assert_array_equal(embed_texts(encoder.fingerprint, ["cat"], bank, None), texts)


@pytest.mark.parametrize(
    ("spec", "error", "said"),
    [
        ("clip", UsageError, "'clip'"),
        ("hf:", UsageError, "'hf:'"),
        ("hf:nobody/no-such-model", MissingPartError, "nobody/no-such-model"),
        ("open_clip:ViT-B-16/openai", MissingPartError, "open_clip"),
    ],
)
def test_what_is_not_here_is_named(spec, error, said, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(error, match=said):
        open_encoder(spec)


def test_a_folder_of_another_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UsageError, match="holds no image-text encoder"):
        open_encoder(f"hf:{tmp_path}").texts(["cat"])


def test_a_image_that_cannot_be_decoded_is_one_line(clip):
    with pytest.raises(BackendError, match="cannot be decoded"):
        open_encoder(f"hf:{clip[0]}", device="cpu").images([b"no picture"])
