import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from line_neurons.agent.errors import UsageError
from line_neurons.tools.targets.latents.formats import AutoencoderRequest, open_autoencoder

LIBRARIES = np.load(Path(__file__).with_name("library_encoders.npz"))
CASES = sorted({name.partition("/")[0] for name in LIBRARIES.files} - {"x"})
X = torch.from_numpy(LIBRARIES["x"])
D, K = 8, 24


class Config:
    """The object that Prisma pickles with its weights."""


def state_of(case):
    start = f"{case}/state/"
    return {
        name.removeprefix(start): torch.from_numpy(LIBRARIES[name])
        for name in LIBRARIES.files
        if name.startswith(start)
    }


def about(case):
    return json.loads(str(LIBRARIES[f"{case}/about"]))


def written(folder, case):
    """Write a case as its library does; return where, and what the user has to say."""
    state, said = state_of(case), about(case)
    if case.startswith("saev"):
        with (folder / "sae.pt").open("wb") as file:
            file.write(json.dumps(said["header"]).encode() + b"\n")
            torch.save(state, file)
        return folder / "sae.pt", {}
    if case.startswith("prisma"):
        config = Config()
        vars(config).update(said["config"], dtype=torch.float32)
        torch.save({"cfg": config, "state_dict": state}, folder / "weights.pt")
        return folder / "weights.pt", {}
    if case.startswith("dictionary"):
        torch.save(state, folder / "ae.pt")
        (folder / "config.json").write_text(json.dumps(said.get("config", {})))
        return folder, {} if "Jump" in case or said else {"activation": None}
    if case.startswith("overcomplete"):
        torch.save(state, folder / "sae.pt")
        return folder / "sae.pt", {"activation": said["given"] or None}
    save_file(state, folder / "sae_weights.safetensors")
    (folder / "cfg.json").write_text(json.dumps(said["config"]))
    return folder, {}


@pytest.mark.parametrize("case", CASES)
def test_latents_are_those_of_the_librarys_own_encoder(case, tmp_path):
    place, said = written(tmp_path, case)
    sae = open_autoencoder(AutoencoderRequest(str(place), **said))
    np.testing.assert_allclose(sae.encode(X), LIBRARIES[f"{case}/expected"], rtol=1e-6, atol=1e-6)
    assert (sae.width, sae.units) == (D, K)
    assert sae.library.split("_")[0].split("-")[0].casefold() in {case.split()[0].split("-")[0], "plain tensors"}
    again = open_autoencoder(AutoencoderRequest(str(place), **said))
    assert again.digest == sae.digest
    assert sae.decode(sae.encode(X)).shape == X.shape


def test_what_a_configuration_says_of_tokens_layer_and_model_is_read(tmp_path):
    sae = open_autoencoder(AutoencoderRequest(str(written(tmp_path, "prisma relu")[0])))
    assert (sae.tokens, sae.layer, sae.model) == ("patches", "9", "open-clip:laion/CLIP-ViT-B-32")


def test_prismas_configuration_may_stand_beside_the_weights(tmp_path):
    torch.save(state_of("prisma topk"), tmp_path / "weights.pt")
    (tmp_path / "config.json").write_text(json.dumps(about("prisma topk")["config"]))
    sae = open_autoencoder(AutoencoderRequest(str(tmp_path)))
    np.testing.assert_allclose(sae.encode(X), LIBRARIES["prisma topk/expected"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("header", "activation"),
    [
        ({"d_vit": D, "exp_factor": 3, "sparsity_coeff": 1.0}, "relu"),
        ({"schema": 1, "cls": "TopK", "cfg": {"d_vit": D, "top_k": 4}}, "topk"),
        ({"schema": 1, "cfg": {"activation": {"cls": "TopK", "params": {"top_k": 4}}}}, "topk"),
        ({"schema": 2, "cfg": {"activation": {"cls": "Relu", "params": {}}}}, "relu"),
        ({"schema": 4, "cfg": {"activation": {"cls": "BatchTopK", "params": {"top_k": 4}}}}, "threshold"),
    ],
)
def test_all_schemas_of_saev_are_read(header, activation, tmp_path):
    with (tmp_path / "sae.pt").open("wb") as file:
        file.write(json.dumps(header).encode() + b"\n")
        torch.save(state_of("saev BatchTopK"), file)
    sae = open_autoencoder(AutoencoderRequest(str(tmp_path / "sae.pt")))
    assert sae.activation.name == activation
    # What was written before the schemas subtracts b_dec.
    assert (sae.before is not None) == ("schema" not in header)
    assert open_autoencoder(AutoencoderRequest(str(tmp_path / "sae.pt"), minus_b_dec=False)).before is None


def plain(**changes):
    generator = torch.Generator().manual_seed(2)
    tensors = {
        "W_enc": torch.randn(D, K, generator=generator), "b_enc": torch.randn(K, generator=generator),
        "W_dec": torch.randn(K, D, generator=generator), "b_dec": torch.randn(D, generator=generator),
    }  # fmt: skip
    return {name: value for name, value in {**tensors, **changes}.items() if value is not None}


@pytest.mark.parametrize(
    ("activation", "formula"),
    [
        ("relu", lambda h: h.relu()),
        ("topk:3", lambda h: h.relu() * (h >= h.topk(3).values[:, -1:])),
        ("batchtopk:0.5", lambda h: h * (h > 0.5)),
        ("tanh-relu", lambda h: h.relu().tanh()),
    ],
)
@pytest.mark.parametrize("minus", [None, True])
def test_plain_tensors_are_read_as_the_user_says(activation, formula, minus, tmp_path):
    tensors = plain()
    save_file(tensors, tmp_path / "own.safetensors")
    sae = open_autoencoder(AutoencoderRequest(str(tmp_path / "own.safetensors"), activation, minus))
    values = X - tensors["b_dec"] if minus else X
    np.testing.assert_allclose(
        sae.encode(values * 0 + X), formula(values @ tensors["W_enc"] + tensors["b_enc"]), atol=1e-5
    )


def test_the_input_is_limited_shifted_and_scaled_as_a_file_says(tmp_path):
    tensors = plain()
    save_file(tensors, tmp_path / "own.safetensors")
    mean, scale = torch.randn(D), torch.tensor([2.5])
    np.savez(tmp_path / "input.npz", mean=mean.numpy(), scale=scale.numpy(), clamp=np.array([1.5], np.float32))
    sae = open_autoencoder(
        AutoencoderRequest(str(tmp_path / "own.safetensors"), "relu", scaling=tmp_path / "input.npz")
    )
    due = ((X.clamp(-1.5, 1.5) - mean) / scale) @ tensors["W_enc"] + tensors["b_enc"]
    np.testing.assert_allclose(sae.encode(X), due.relu(), atol=1e-5)
    unscaled = open_autoencoder(AutoencoderRequest(str(tmp_path / "own.safetensors"), "relu"))
    assert unscaled.digest != sae.digest


@pytest.mark.parametrize(
    ("tensors", "said", "message"),
    [
        ({"weights": torch.ones(3)}, {}, "no sparse autoencoder: it has no W_enc"),
        (plain(), {}, "does not say how its encoder ends.*--sae-activation"),
        (plain(), {"activation": "topk:30"}, "keeps 30 latents of a token, and has 24"),
        (plain(), {"activation": "softmax"}, "'softmax' is no activation"),
        (plain(), {"activation": "batchtopk"}, "has no threshold.*batchtopk:THRESHOLD"),
        (plain(W_dec=torch.ones(D, K)), {"activation": "relu"}, "the decoder of .* 8 x 24.*needs 24 x 8"),
        (plain(b_dec=None), {"activation": "relu", "minus_b_dec": True}, "no b_dec to subtract"),
        (plain(b_enc=torch.full((K,), float("nan"))), {"activation": "relu"}, "not finite"),
        (
            {f"{part}.{name}": value for part in "ab" for name, value in plain().items()},
            {"activation": "relu"},
            "holds 2 autoencoders: a, b.*--sae .*#a",
        ),
        (plain(group_sizes=torch.tensor([8, 16]), threshold=torch.tensor(-1.0)), {}, "has no threshold"),
        (
            {
                "encoder.weight": torch.ones(K, D), "encoder.bias": torch.ones(K),
                "decoder.weight": torch.ones(D, K), "b_dec": torch.ones(D), "k": torch.tensor(4),
                "threshold": torch.tensor(0.5),
            },
            {},
            "may be a TopK or a BatchTopK.*config.json",
        ),
        (
            {
                "dictionary._weights": torch.ones(K, D), "encoder.final_block.0.weight": torch.ones(K, D),
                "encoder.final_block.0.bias": torch.ones(K),
            },
            {},
            "state dict of overcomplete, which does not say",
        ),
    ],
)  # fmt: skip
def test_what_is_missing_or_does_not_fit_is_refused_with_the_remedy(tensors, said, message, tmp_path):
    save_file({name: value.contiguous() for name, value in tensors.items()}, tmp_path / "own.safetensors")
    with pytest.raises(UsageError, match=f"(?s){message}"):
        open_autoencoder(AutoencoderRequest(str(tmp_path / "own.safetensors"), **said))


def test_one_of_several_autoencoders_of_a_file_is_chosen_by_its_prefix(tmp_path):
    first, second = plain(), plain(b_enc=torch.zeros(K))
    save_file(
        {
            f"{part}.{name}": value.clone()
            for part, one in (("a", first), ("b", second))
            for name, value in one.items()
        },
        tmp_path / "own.safetensors",
    )
    sae = open_autoencoder(AutoencoderRequest(f"{tmp_path}/own.safetensors#b", "relu"))
    np.testing.assert_allclose(sae.encode(X), (X @ second["W_enc"]).relu(), atol=1e-5)


class Evil:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code of the file ran')",))


def test_code_of_a_file_never_runs(tmp_path):
    torch.save({"cfg": Evil(), "state_dict": plain()}, tmp_path / "weights.pt")
    sae = open_autoencoder(AutoencoderRequest(str(tmp_path / "weights.pt"), "relu"))
    assert sae.units == K
    (tmp_path / "whole.pkl").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(UsageError):
        open_autoencoder(AutoencoderRequest(str(tmp_path / "whole.pkl"), "relu"))
    (tmp_path / "long.pt").write_bytes(b"{" + b" " * 100_000)
    with pytest.raises(UsageError, match="first line is longer"):
        open_autoencoder(AutoencoderRequest(str(tmp_path / "long.pt"), "relu"))


def test_a_place_that_does_not_exist_or_has_several_files_is_refused(tmp_path):
    with pytest.raises(UsageError, match="there is no sparse autoencoder"):
        open_autoencoder(AutoencoderRequest(str(tmp_path / "none.pt")))
    for name in "ab":
        save_file(plain(), tmp_path / f"{name}.safetensors")
    with pytest.raises(UsageError, match=r"has 2 files: a\.safetensors, b\.safetensors"):
        open_autoencoder(AutoencoderRequest(str(tmp_path)))
