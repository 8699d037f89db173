"""Our parts of a pipeline are the pipeline's own.

If one of these failed, a part of the base would differ from diffusers' own: another scheduler,
tokenizer or precision, and pictures that plain diffusers does not draw.
"""

import hashlib
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import FluxPipeline
from torch.nn import functional as F

from sgflux.bases import hub
from sgflux.bases.flux1.latents import image_ids, pack_latents, text_ids, unpack_latents
from sgflux.bases.flux1.load import (
    load_autoencoder,
    load_scheduler,
    load_text_encoders,
    load_transformer,
    model_identity,
)
from sgflux.bases.hub import BUNDLED_MODEL, resolve_model_id
from sgflux.errors import SgfluxError
from sgflux.graphs.names import names_in_context
from sgflux.models.block_range import default_block_range, validate_block_range
from sgflux.settings.model_source import ModelSource
from tests.helpers.flux import make_flux_folder, make_transformer


@pytest.fixture(scope="module")
def pipeline(flux_folder: Path) -> FluxPipeline:
    return FluxPipeline.from_pretrained(flux_folder)


def test_the_miniature_depends_on_its_seed_alone(flux_folder: Path, tmp_path: Path) -> None:
    def digest(folder: Path) -> str:
        files = sorted(folder.rglob("*.safetensors"))
        return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()

    assert digest(make_flux_folder(tmp_path / "same")) == digest(flux_folder)
    assert digest(make_flux_folder(tmp_path / "other", seed=1)) != digest(flux_folder)


def test_text_features_are_those_of_flux_pipeline(
    flux_folder: Path, pipeline: FluxPipeline
) -> None:
    encoders = load_text_encoders(ModelSource(model_id=str(flux_folder)), max_sequence_length=12)
    prompts = ["a photo of man riding horse", "", "zebra"]
    with torch.no_grad():  # as FluxPipeline itself runs it; the kernels differ otherwise
        hidden, pooled, ids = pipeline.encode_prompt(prompts, max_sequence_length=12)
    ours = encoders.encode(prompts)
    assert torch.equal(ours["hidden"], hidden)
    assert torch.equal(ours["pooled"], pooled)
    assert torch.equal(text_ids(12), ids)
    assert hidden.shape == (3, 12, 32)
    assert pooled.shape == (3, 24)


def test_text_length_defaults_to_the_tokenizers_and_is_bounded_by_it(flux_folder: Path) -> None:
    assert load_text_encoders(ModelSource(model_id=str(flux_folder))).max_sequence_length == 32
    for length in (0, 33):
        with pytest.raises(SgfluxError, match=f"between 1 and 32.*got {length}"):
            load_text_encoders(ModelSource(model_id=str(flux_folder)), max_sequence_length=length)


def test_a_name_is_the_mean_over_its_own_tokens_read_alone(flux_folder: Path) -> None:
    encoders = load_text_encoders(ModelSource(model_id=str(flux_folder)))
    names = ["man", "sitting on", "zebra", "looking"]
    features = encoders.encode_names(names)
    assert features.dtype == torch.float32
    for name, feature in zip(names, features, strict=True):
        ids = encoders.tokenizer_2(name, return_tensors="pt").input_ids
        assert ids[0, -1] == encoders.tokenizer_2.eos_token_id
        hidden = encoders.text_encoder_2(ids)[0][0, :-1].mean(dim=0)
        embedded = encoders.text_encoder_2.get_input_embeddings()(ids)[0, :-1].mean(dim=0)
        expected = sum(F.layer_norm(part, part.shape) for part in (hidden, embedded))
        torch.testing.assert_close(feature, expected)
    with pytest.raises(SgfluxError, match=r"'qqqq.*at most 32"):
        encoders.encode_names(["man", "q" * 40])


def test_a_marked_name_is_read_as_the_prompt_of_its_statement_has_it(flux_folder: Path) -> None:
    encoders = load_text_encoders(ModelSource(model_id=str(flux_folder)))
    marked = names_in_context("man", "sitting on", "horse")
    features = encoders.encode_names([*marked, "man"])
    hidden = encoders.encode(["a photo of man sitting on horse"])["hidden"][0]
    # a photo of | man | sitting on | horse: one token a word
    expected = (hidden[3], hidden[4:6].mean(dim=0), hidden[6])
    for feature, part in zip(features, expected, strict=False):
        torch.testing.assert_close(feature, part)
    assert names_in_context("box", "around/near", "cup")[0] == "⟦box⟧ near cup"
    with pytest.raises(SgfluxError, match="not within the text encoder's 32 tokens"):
        encoders.encode_names(names_in_context("q" * 40, "on", "man")[2:])


def test_autoencoder_gives_the_posterior_and_decodes_as_the_pipeline_does(
    flux_folder: Path, pipeline: FluxPipeline
) -> None:
    autoencoder = load_autoencoder(ModelSource(model_id=str(flux_folder)))
    assert autoencoder.downsample == 4
    images = torch.rand(2, 3, 32, 48) * 2 - 1
    mean, std = autoencoder.posterior(images)
    with torch.no_grad():
        distribution = pipeline.vae.encode(images).latent_dist
    assert mean.shape == (2, 16, 8, 12)
    assert torch.equal(mean, distribution.mean)
    assert torch.equal(std, distribution.std)
    torch.testing.assert_close(autoencoder.scale(mean), (mean - 0.1) * 0.9)
    with torch.no_grad():
        decoded = pipeline.vae.decode(mean, return_dict=False)[0]
    expected = pipeline.image_processor.postprocess(decoded, output_type="pt")
    torch.testing.assert_close(autoencoder.decode(autoencoder.scale(mean)), expected)


def test_packing_and_positions_are_those_of_flux_pipeline() -> None:
    latents = torch.randn(2, 16, 8, 12)
    packed = pack_latents(latents)
    assert torch.equal(packed, FluxPipeline._pack_latents(latents, 2, 16, 8, 12))
    assert torch.equal(unpack_latents(packed, 8, 12), latents)
    theirs = FluxPipeline._unpack_latents(packed, 8 * 4, 12 * 4, vae_scale_factor=4)
    assert torch.equal(unpack_latents(packed, 8, 12), theirs)
    expected = FluxPipeline._prepare_latent_image_ids(1, 4, 6, "cpu", torch.float32)
    assert torch.equal(image_ids(4, 6), expected)
    with pytest.raises(ValueError, match="7 by 12"):
        pack_latents(torch.zeros(1, 16, 7, 12))
    with pytest.raises(ValueError, match="24 tokens do not fill latents of 8 by 8"):
        unpack_latents(packed, 8, 8)


def test_everything_is_loaded_frozen(flux_folder: Path) -> None:
    transformer = load_transformer(ModelSource(model_id=str(flux_folder)), dtype=torch.bfloat16)
    encoders = load_text_encoders(ModelSource(model_id=str(flux_folder)), dtype=torch.bfloat16)
    assert transformer.dtype == encoders.text_encoder_2.dtype == torch.bfloat16
    for module in (transformer, encoders.text_encoder, encoders.text_encoder_2):
        assert not module.training
        assert not any(parameter.requires_grad for parameter in module.parameters())
    assert load_scheduler(ModelSource(model_id=str(flux_folder))).scheduler.config.shift == 1.0


def test_the_same_model_has_the_same_identity_in_either_precision(flux_folder: Path) -> None:
    identity = model_identity(load_transformer(ModelSource(model_id=str(flux_folder))))
    assert identity == model_identity(
        load_transformer(ModelSource(model_id=str(flux_folder)), dtype=torch.bfloat16)
    )
    assert identity["num_layers"] == 8
    assert identity["inner_dim"] == identity["joint_attention_dim"] == 32
    other = model_identity(make_transformer(seed=1))
    assert {name for name in other if other[name] != identity[name]} == {"fingerprint"}


@pytest.mark.parametrize(
    ("layers", "expected"), [(19, (7, 13)), (8, (3, 6)), (5, (2, 4)), (2, (1, 2)), (1, (0, 1))]
)
def test_default_blocks_are_the_middle_third(layers: int, expected: tuple[int, int]) -> None:
    assert default_block_range(layers) == expected
    validate_block_range(*expected, layers)


@pytest.mark.parametrize(("start", "end"), [(3, 3), (-1, 2), (7, 9), (5, 4)])
def test_a_block_range_outside_the_model_is_refused(start: int, end: int) -> None:
    with pytest.raises(SgfluxError, match=rf"{start}\.\.{end}.*<= 8"):
        validate_block_range(start, end, 8)


def test_what_cannot_be_loaded_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flux_folder: Path
) -> None:
    assert resolve_model_id(flux_folder) == str(flux_folder)
    assert resolve_model_id("black-forest-labs/FLUX.1-schnell").startswith("black-forest-labs/")
    with pytest.raises(SgfluxError, match="'/no/such/folder' does not exist"):
        resolve_model_id("/no/such/folder")
    with pytest.raises(SgfluxError, match=r"no model_index\.json"):
        resolve_model_id(str(tmp_path))
    with pytest.raises(SgfluxError, match=r"'flux1\.safetensors' is a file"):
        resolve_model_id("flux1.safetensors")
    with pytest.raises(SgfluxError, match=r"'nobody/nothing' cannot be loaded.*allow downloads"):
        load_transformer(ModelSource(model_id="nobody/nothing"))
    monkeypatch.setattr(hub, "_BUNDLED_FOLDER", tmp_path / "tiny-flux")
    with pytest.raises(SgfluxError, match="bundled model is missing"):
        resolve_model_id(BUNDLED_MODEL)
    monkeypatch.setattr(hub, "_BUNDLED_FOLDER", flux_folder)
    assert resolve_model_id(BUNDLED_MODEL) == str(flux_folder)


@pytest.mark.parametrize("part", ["text_encoder", "text_encoder_2", "vae", "transformer"])
def test_a_part_that_is_cut_off_is_no_traceback(
    flux_folder: Path, tmp_path: Path, part: str
) -> None:
    """The loaders of Python's users, who have no dry run."""
    shutil.copytree(flux_folder, tmp_path / "model")
    (weights,) = (tmp_path / "model" / part).glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-10])
    load = {"vae": load_autoencoder, "transformer": load_transformer}.get(part, load_text_encoders)
    with pytest.raises(SgfluxError, match="cannot be loaded"):
        load(ModelSource(model_id=str(tmp_path / "model")))
