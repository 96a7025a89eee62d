"""Models of others as ours: the same logits, every tensor accounted for, and nothing believed unseen."""

import json
import warnings
from dataclasses import replace

import pytest
import torch
from foundry_testing.gguf_files import write_gguf
from foundry_testing.transformers_folders import (
    FAMILIES,
    LLAMA3_ROPE,
    loaded,
    make_model,
    our_logits,
    save_folder,
    some_ids,
    their_logits,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from robot_foundry.runtime.errors import FoundryError, FoundryWarning
from robot_foundry.trainer.models.layers.attention import RopeScaling
from robot_foundry.trainer.models.layers.initial import allocated
from robot_foundry.trainer.models.llm import LLM
from robot_foundry.trainer.pretrained.reading import read_pretrained


@pytest.fixture
def llama(tmp_path):
    return save_folder(make_model("llama"), tmp_path / "llama")


def restate(folder, **stated):
    """Change what config.json says; None takes a key out."""
    file = folder / "config.json"
    values = {**json.loads(file.read_text()), **stated}
    file.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))


def change_tensors(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_transformers(family, tmp_path):
    theirs = make_model(family)
    pretrained = read_pretrained(save_folder(theirs, tmp_path))

    ids = some_ids()
    torch.testing.assert_close(
        our_logits(loaded(pretrained), ids), their_logits(theirs, ids), rtol=0, atol=1e-5
    )


def test_a_folder_in_parts_is_the_same_model(llama, tmp_path):
    parts = save_folder(make_model("llama"), tmp_path / "parts", max_shard_size="10KB")
    assert len(list(parts.glob("*.safetensors"))) > 3

    whole, again = read_pretrained(llama), read_pretrained(parts)
    assert again.config == whole.config
    assert all(torch.equal(again.tensor(name), whole.tensor(name)) for name in whole.shapes)


def test_configs_of_older_releases_say_the_same(tmp_path):
    folder = save_folder(make_model("llama3"), tmp_path)
    now = read_pretrained(folder).config
    scaling = {key: value for key, value in LLAMA3_ROPE.items() if key != "rope_theta"}
    restate(folder, rope_parameters=None, rope_theta=500000.0, rope_scaling=scaling)

    assert read_pretrained(folder).config == now
    assert now.decoder.rope_scaling == RopeScaling(8.0, 1.0, 4.0, 16)


def test_half_precision_is_read_as_it_is(tmp_path):
    theirs = make_model("qwen3").bfloat16()
    pretrained = read_pretrained(save_folder(theirs, tmp_path))

    embedding = pretrained.tensor("decoder.embedding.weight")
    assert embedding.dtype == torch.float32
    assert torch.equal(embedding, theirs.model.embed_tokens.weight.detach().float())


def test_the_map_tells_what_became_of_every_tensor(tmp_path):
    folder = save_folder(make_model("smollm2"), tmp_path)

    def add(tensors):
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)

    change_tensors(folder, add)
    pretrained = read_pretrained(folder)

    accounted = {*pretrained.source_of.values(), *pretrained.unused}
    assert accounted == load_file(folder / "model.safetensors").keys()
    told = pretrained.told()
    assert "model.layers.N.mlp.up_proj.weight → decoder.blocks.N.mlp.up.weight (56×32) × 3" in told
    assert "lm_head.weight: is model.embed_tokens.weight" in told
    assert "model.layers.0.self_attn.rotary_emb.inv_freq: follows from rope_theta" in told


def test_tensors_that_are_missing_and_left_over_are_all_listed(llama):
    def swap(tensors):
        tensors["model.layers.1.mlp.gate.weight"] = tensors.pop("model.layers.1.mlp.gate_proj.weight")
        tensors["model.layers.2.self_attn.q_proj.bias"] = torch.zeros(32)
        tensors["model.norm.weight"] = torch.ones(33)

    change_tensors(llama, swap)

    with pytest.raises(FoundryError) as error:
        read_pretrained(llama)
    assert "model.layers.1.mlp.gate_proj.weight is not there, for decoder.blocks.1.mlp.gate" in str(
        error.value
    )
    assert "model.layers.1.mlp.gate.weight (56, 32) is there and becomes nothing" in str(error.value)
    assert "model.layers.2.self_attn.q_proj.bias (32,) is there and becomes nothing" in str(error.value)
    assert "model.norm.weight is (33,) there, and (32,) for decoder.norm.weight" in str(error.value)


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({"model_type": "lama"}, "'lama' is none of llama, qwen2, qwen3, arcee, did you mean 'llama'?"),
        ({"model_type": None}, "has no model_type"),
        ({"hidden_size": None}, "has no hidden_size, it must be a whole number above 0"),
        ({"hidden_size": "32"}, 'hidden_size must be a whole number above 0, not "32"'),
        ({"num_hidden_layers": True}, "num_hidden_layers must be a whole number above 0, not true"),
        ({"num_hidden_layers": 10**9}, "says it has 1000000000 layers, and holds 30 tensors"),
        ({"vocab_size": 10**12}, "model.embed_tokens.weight is (96, 32) there, and (1000000000000, 32)"),
        ({"tie_word_embeddings": "no"}, 'tie_word_embeddings must be true or false, not "no"'),
        ({"attention_bias": True, "mlp_bias": True}, "mlp_bias: our MLPs have no biases"),
        ({"hidden_act": "gelu_new"}, "hidden_act: gelu_new is none of silu"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_type: yarn is none of default, llama3"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "our rotary positions turn all of a head"),
        ({"rope_parameters": [1]}, "rope_parameters must be a mapping, not [1]"),
        ({"layer_types": ["sliding_attention"] * 3}, "our decoder attends to all that came before"),
        ({"quantization_config": {"bits": 4}}, "its weights are quantised"),
        ({"num_attention_heads": 3}, "no multiple"),
    ],
)
def test_what_our_decoder_is_not_is_refused_by_its_key(llama, stated, said):
    restate(llama, **stated)
    with pytest.raises(FoundryError) as error:
        read_pretrained(llama)
    assert said in str(error.value)


def test_layers_without_positions_are_not_taken_for_others(tmp_path):
    folder = save_folder(make_model("llama"), tmp_path)
    restate(folder, model_type="smollm3", no_rope_layers=[1, 1, 0])
    with pytest.raises(FoundryError, match="'smollm3' is none of"):
        read_pretrained(folder)


def test_keys_that_are_not_heeded_are_told(llama):
    before = read_pretrained(llama).config
    restate(llama, logit_softcap=30.0)
    with pytest.warns(FoundryWarning, match="not heeded: logit_softcap"):
        assert read_pretrained(llama).config == before


def test_nothing_is_told_of_what_transformers_writes(llama):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        read_pretrained(llama)
    assert told == []


def test_an_output_that_is_not_the_tied_embedding_is_refused(tmp_path):
    folder = save_folder(make_model("qwen2"), tmp_path)
    change_tensors(folder, lambda tensors: tensors.update({"lm_head.weight": torch.ones(96, 32)}))
    with pytest.raises(FoundryError, match="says tie_word_embeddings, and its lm_head.weight is not"):
        read_pretrained(folder)


def test_a_model_of_another_shape_is_not_filled(llama):
    pretrained = read_pretrained(llama)
    wider = replace(pretrained.config, decoder=replace(pretrained.config.decoder, mlp_hidden=64))
    model = allocated(lambda: LLM(wider), "cpu")
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)

    with pytest.raises(FoundryError, match=r"mlp.up.weight is \(56, 32\) there, and \(64, 32\)"):
        pretrained.load(model)
    assert not any(parameter.any() for parameter in model.parameters())


def test_pickled_weights_are_never_read(llama):
    (llama / "model.safetensors").rename(llama / "pytorch_model.bin")
    with pytest.raises(FoundryError, match="pytorch_model.bin, which is pickled and never read"):
        read_pretrained(llama)


@pytest.mark.parametrize("part", ["../model.safetensors", "/etc/passwd", "a.bin", 7])
def test_an_index_names_files_of_its_folder_alone(llama, part):
    index = {"weight_map": {"model.norm.weight": part}}
    (llama / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(FoundryError, match="names no safetensors of its folder"):
        read_pretrained(llama)


def test_an_index_that_is_not_of_its_parts_is_refused(tmp_path):
    folder = save_folder(make_model("llama"), tmp_path, max_shard_size="10KB")
    file = folder / "model.safetensors.index.json"
    index = json.loads(file.read_text())
    moved = index["weight_map"].pop("model.norm.weight")
    file.write_text(json.dumps(index))
    with pytest.raises(FoundryError, match="do not hold the same tensors: model.norm.weight"):
        read_pretrained(folder)

    index["weight_map"]["model.norm.weight"] = moved
    file.write_text(json.dumps(index))
    (folder / moved).unlink()
    with pytest.raises(FoundryError, match=f"lacks {moved}"):
        read_pretrained(folder)


def test_whole_numbers_are_no_weights(llama):
    change_tensors(
        llama, lambda tensors: tensors.update({"model.norm.weight": torch.ones(32, dtype=torch.int8)})
    )
    with pytest.raises(FoundryError, match="model.norm.weight is stored as I8"):
        read_pretrained(llama)


def test_the_id_is_of_all_bytes(llama):
    before = read_pretrained(llama).id
    assert read_pretrained(llama).id == before
    restate(llama, rms_norm_eps=1e-5)
    config_changed = read_pretrained(llama).id
    change_tensors(llama, lambda tensors: tensors["model.norm.weight"].mul_(2))
    assert len({before, config_changed, read_pretrained(llama).id}) == 3


@pytest.mark.parametrize("name", ["nothing", "config.json", "a.gguf"])
def test_what_is_no_model_is_said_so(tmp_path, name):
    (tmp_path / "config.json").write_text("[1")
    with pytest.raises(FoundryError, match="is neither a folder|is no|there is no file|cannot be read"):
        read_pretrained(tmp_path / name)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """Bytes of a GGUF and of a folder's two files, and where to put changed ones."""
    folder = tmp_path_factory.mktemp("damaged")
    model = make_model("llama", num_hidden_layers=1)
    gguf = write_gguf(model, folder / "model.gguf")
    save_folder(model, folder)
    return [gguf, folder / "model.safetensors", folder / "config.json"], [
        (folder / name).read_bytes() for name in ("model.gguf", "model.safetensors", "config.json")
    ]


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damaged_files_give_errors_of_ours_or_a_model(damaged, data):
    paths, whole = damaged
    number = data.draw(st.integers(0, 2))
    content = bytearray(whole[number])
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content)))]
    else:
        head = min(len(content), 4000)
        for place in data.draw(st.lists(st.integers(0, head - 1), min_size=1, max_size=4)):
            content[place] = data.draw(st.integers(0, 255))
    for path, intact in zip(paths, whole, strict=True):
        path.write_bytes(intact)
    paths[number].write_bytes(content)
    where = paths[0] if number == 0 else paths[0].parent

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            pretrained = read_pretrained(where)
            shapes = {name: tuple(pretrained.tensor(name).shape) for name in pretrained.shapes}
        except FoundryError:
            return
    assert shapes == dict(pretrained.shapes)
