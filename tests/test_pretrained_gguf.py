"""GGUF files as models of ours: the logits of the model they were made of, and tensors as they were."""

import pytest
import torch
from foundry_testing.gguf_files import write_gguf
from foundry_testing.transformers_folders import (
    LLAMA3_ROPE,
    loaded,
    make_model,
    our_logits,
    some_ids,
    their_logits,
)

from robot_foundry.runtime.errors import FoundryError
from robot_foundry.trainer.models.layers.attention import RopeScaling
from robot_foundry.trainer.pretrained.reading import read_pretrained


@pytest.mark.parametrize(
    ("family", "arch"),
    [("llama", None), ("smollm2", None), ("qwen2", None), ("qwen3", None), ("qwen2", "llama")],
)
def test_logits_of_a_gguf_are_those_of_the_model_it_was_made_of(family, arch, tmp_path):
    theirs = make_model(family)
    pretrained = read_pretrained(write_gguf(theirs, tmp_path / "model.gguf", arch=arch))

    ids = some_ids()
    torch.testing.assert_close(
        our_logits(loaded(pretrained), ids), their_logits(theirs, ids), rtol=0, atol=1e-5
    )
    assert pretrained.tokenizer is None


def test_rotary_factors_of_a_gguf_become_their_scaling(tmp_path):
    rope = {**LLAMA3_ROPE, "original_max_position_embeddings": 8192}
    theirs = make_model("llama3", rope_parameters=rope, max_position_embeddings=16384)
    pretrained = read_pretrained(write_gguf(theirs, tmp_path / "model.gguf"))

    assert pretrained.config.decoder.rope_scaling == RopeScaling(8.0, 1.0, 4.0, 8192)
    assert pretrained.unused == {"rope_freqs.weight": "is in rope_scaling"}
    ids = some_ids()
    torch.testing.assert_close(
        our_logits(loaded(pretrained), ids), their_logits(theirs, ids), rtol=0, atol=1e-5
    )
    odd = make_model("llama3")  # stretched from 16 tokens on: as no Llama that was published
    with pytest.raises(FoundryError, match="slows rotary positions as no Llama does"):
        read_pretrained(write_gguf(odd, tmp_path / "odd.gguf"))


def test_quantised_tensors_of_a_gguf_are_near_those_they_were(tmp_path):
    theirs = make_model("qwen2")
    pretrained = read_pretrained(write_gguf(theirs, tmp_path / "model.gguf", quantise=True))

    ours = pretrained.tensor("decoder.embedding.weight")
    meant = theirs.model.embed_tokens.weight.detach()
    assert 0 < (ours - meant).abs().max() < meant.abs().max() / 200


def test_a_gguf_that_lacks_a_tensor_or_is_of_another_kind_is_refused(tmp_path):
    model = make_model("llama")
    with pytest.raises(FoundryError, match="blk.1.ffn_up.weight is not there, for decoder.blocks.1.mlp.up"):
        read_pretrained(write_gguf(model, tmp_path / "a.gguf", without=["blk.1.ffn_up.weight"]))
    with pytest.raises(FoundryError, match="rope.scaling.type is linear"):
        read_pretrained(write_gguf(model, tmp_path / "b.gguf", **{"rope.scaling.type": "linear"}))
