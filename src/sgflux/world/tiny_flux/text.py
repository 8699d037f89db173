"""tiny-flux's text side: two small word tokenizers and two small text encoders, made from nothing.

The tokenizers know a few hundred whole words and spell every other word letter by letter, so that
no name is ever "unknown": the bundled world's words are learned with the base, any other word has
its own (untrained, but distinct) features.

Shapes: B prompts, L tokens of T5's sequence, D_t5 = 128 its width, D_clip = 64 the pooled width.
"""

from __future__ import annotations

import string

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

from sgflux.files.reading import table_beside

SEQUENCE_LENGTH = 24
"""Tokens of the bundled base's T5: enough for three statements. Four with twins need 31."""
T5_WIDTH = 128
CLIP_WIDTH = 64


def make_tokenizer(
    world_objects: tuple[str, ...], *, max_length: int, start: bool
) -> PreTrainedTokenizerFast:
    """Make a lower-casing word tokenizer that spells unknown words letter by letter.

    Args:
        world_objects: Names that must be one token each.
        max_length: ``model_max_length`` of the saved tokenizer, in tokens.
        start: Whether a prompt begins with a start token, as for CLIP (T5 has none).
    """
    table = table_beside(__file__)
    words = sorted({*world_objects, *table["template"], *table["everyday"]})
    letters = string.ascii_lowercase + string.digits + string.punctuation
    pieces = ["<pad>", "</s>", "<unk>", "<s>", *words]
    pieces += [letter for letter in letters if letter not in words]
    pieces += ["##" + letter for letter in letters]
    pieces += table["twins"]
    core = Tokenizer(
        models.WordPiece({piece: index for index, piece in enumerate(pieces)}, unk_token="<unk>")
    )
    core.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.decoder = decoders.WordPiece()
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>" if start else "$A </s>",
        special_tokens=[("<s>", core.token_to_id("<s>")), ("</s>", core.token_to_id("</s>"))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_max_length=max_length,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        bos_token="<s>",
        padding_side="right",
    )


def make_text_encoders(
    tokenizer: PreTrainedTokenizerFast, tokenizer_2: PreTrainedTokenizerFast
) -> tuple[CLIPTextModel, T5EncoderModel]:
    """Make untrained text encoders of FLUX's two classes; CLIP pools at its end token."""
    clip = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=CLIP_WIDTH,
            intermediate_size=4 * CLIP_WIDTH,
            projection_dim=CLIP_WIDTH,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=tokenizer.model_max_length,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=tokenizer.bos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    t5 = T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer_2),
            d_model=T5_WIDTH,
            d_kv=32,
            d_ff=2 * T5_WIDTH,
            num_layers=2,
            num_heads=8,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
            eos_token_id=tokenizer_2.eos_token_id,
            pad_token_id=tokenizer_2.pad_token_id,
            decoder_start_token_id=tokenizer_2.pad_token_id,
        )
    )
    # T5's own initialisation draws embeddings of size 1, far above what one layer adds to them.
    t5.shared.weight.data.normal_(0.0, 0.5)
    # Half of the heads begin by looking at one neighbour: the word before, after, and two away.
    # Word order is all that tells "dog above box" from "box above dog", and attention that begins
    # by content alone never finds it (measured: both roles stayed a coin flip for 12,800 steps).
    bias = t5.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight.data
    bias.zero_()
    for head, bucket in enumerate((1, 17, 2, 18)):
        bias[bucket, head] = 6.0
    return clip, t5
