#!/usr/bin/env bash
# diffusers 0.42.1: FluxPipeline's warning of a cut T5 prompt names words that T5 has read.
#
# T5 reads max_sequence_length tokens of a prompt (512 by default, 256 for FLUX.1-schnell), CLIP 77.
# FluxPipeline.encode_prompt warns that a part "was truncated because `max_sequence_length` is set
# to 256 tokens", and quotes the part from CLIP's 77th token on: 179 words that T5 did read come
# first. At a max_sequence_length below 77 the quoted part is empty or too short, although words are
# lost. A user who shortens a prompt until nothing is quoted leaves out words that T5 would read.
# sgflux quotes what T5 does not read, and only that.
#
# Output seen with diffusers 0.42.1, transformers 5.24.0, torch 2.14.1 and Python 3.11:
#   300 words, T5 reads 255 of them: quoted from word 77 on, 224 words
#   70 words, T5 reads 31 of them: quoted ['']
#
# Exits with 1 if that changes. It needs Python 3.11 or newer, pip, a package index and some GB of
# disk for PyTorch; it runs on the CPU in seconds, with text encoders of random weights.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q "diffusers==0.42.1" "transformers==5.24.0" "torch==2.14.1"
cat > "$work/look.py" <<'PY'
import ast
import logging
import sys

import torch
from diffusers import FluxPipeline
from diffusers.utils import logging as diffusers_logging
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

said = []


class Listener(logging.Handler):
    def emit(self, record):
        said.append(record.getMessage())


diffusers_logging.set_verbosity_warning()
diffusers_logging.add_handler(Listener())
words = [f"w{number}" for number in range(1, 301)]
pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((f"▁{word}", -1.0) for word in words)]
of_t5 = T5TokenizerFast(vocab=pieces, extra_ids=0, model_max_length=512)
of_clip = CLIPTokenizer(
    vocab={"<|startoftext|>": 0, "<|endoftext|>": 1, "a</w>": 2}, merges=[], model_max_length=77
)
torch.manual_seed(0)
t5 = T5Config(vocab_size=len(of_t5), d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
clip = CLIPTextConfig(
    vocab_size=3,
    hidden_size=8,
    intermediate_size=8,
    num_hidden_layers=1,
    num_attention_heads=2,
    eos_token_id=1,
)
pipeline = FluxPipeline(
    scheduler=None,
    vae=None,
    text_encoder=CLIPTextModel(clip),
    tokenizer=of_clip,
    text_encoder_2=T5EncoderModel(t5),
    tokenizer_2=of_t5,
    transformer=None,
)


def quoted(count, length):
    """What the only warning quotes of a prompt of so many words."""
    said.clear()
    with torch.no_grad():
        pipeline.encode_prompt(
            "a", prompt_2=" ".join(words[:count]), device="cpu", max_sequence_length=length
        )
    (line,) = said
    head, part = line.split(" tokens: ")
    assert head.endswith(f"`max_sequence_length` is set to  {length}"), line
    return ast.literal_eval(part)


(long,) = quoted(300, 256)
first, count = words.index(long.split()[0]) + 1, len(long.split())
print(f"300 words, T5 reads 255 of them: quoted from word {first} on, {count} words")
short = quoted(70, 32)
print(f"70 words, T5 reads 31 of them: quoted {short}")
sys.exit(0 if (first, count, short) == (77, 224, [""]) else 1)
PY
HF_HUB_OFFLINE=1 "$work/venv/bin/python" "$work/look.py" 2>/dev/null
