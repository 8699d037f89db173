#!/usr/bin/env bash
# transformers 5.24.0: FLUX.1's two tokenizer classes, built without vocabulary files, are no error.
#
# Every argument of both constructors is optional. What comes back without them is no error: it is
# complete and usable, has the special tokens alone, and reads every word alike, with 104 tokens for
# T5 and 2 for CLIP, where FLUX.1's own tokenizers of these classes have 32,100 and 49,408. So a
# program must count a tokenizer's tokens to know that it has its vocabulary.
#
# Output seen with transformers 5.24.0 and Python 3.11:
#   T5TokenizerFast() 104 tokens; man and sky read alike: True
#   CLIPTokenizer() 2 tokens; man and sky read alike: True
#
# Exits with 1 if that changes. It needs Python 3.11 or newer, pip and a package index.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q "transformers==5.24.0"
cat > "$work/look.py" <<'PY'
import sys

from transformers import CLIPTokenizer, T5TokenizerFast

expected = {T5TokenizerFast: 104, CLIPTokenizer: 2}
same = True


def look(name, tokenizer, tokens):
    global same
    alike = tokenizer("man").input_ids == tokenizer("sky").input_ids
    print(f"{name} {len(tokenizer)} tokens; man and sky read alike: {alike}")
    same &= len(tokenizer) == tokens and alike


names = {T5TokenizerFast: "T5TokenizerFast", CLIPTokenizer: "CLIPTokenizer"}
for kind, tokens in expected.items():
    look(f"{names[kind]}()", kind(), tokens)
sys.exit(0 if same else 1)
PY
HF_HUB_OFFLINE=1 "$work/venv/bin/python" "$work/look.py" 2>/dev/null
