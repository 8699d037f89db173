"""Which graph encoder the adapter has, and how it is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from sgflux.settings.checks import (
    ConfigError,
    Count,
    Must,
    NotNegative,
    Share,
    expect_defaults,
    settings,
)
from sgflux.settings.flat import Input

EncoderKind = Literal["native", "cgip"]
BOX_SETTINGS = ("read_boxes", "box_positions", "box_attention", "box_map")
"""Settings by which boxes reach the model, each in its way."""

BOX_SETTINGS_OF_TOKENS = ("box_positions", "box_attention", "box_map")
"""Those of them that concern the three graph tokens of a triple."""

_OWN = (
    "freeze_graph_encoder",
    "number_triples",
    "graph_encoder_dim",
    "graph_encoder_layers",
    *BOX_SETTINGS,
)
_EVEN = Must("be an even number of at least 2", lambda value: value >= 2 and value % 2 == 0)


@settings
class GraphEncoderSettings:
    """Which graph encoder the adapter has, and how it is trained."""

    graph_encoder: EncoderKind | None = None
    """Graph encoder: 'native' reads any words, 'cgip' is SGDiff's. By default it is 'cgip' if
    --cgip-ckpt is given, and 'native' otherwise."""
    cgip_ckpt: Input[Path | None] = None
    """Checkpoint of SGDiff's encoder (sip_vg.pt), from which the cgip encoder is loaded."""
    vocab_path: Input[Path | None] = None
    """File vocab.json that the cgip checkpoint was trained with."""
    oov: Literal["error", "skip", "map"] = "error"
    """Treatment of objects that the cgip encoder lacks: 'error' stops the run, 'skip' leaves out
    what names them, and 'map' uses --oov-map."""
    oov_map: Input[Path | None] = None
    """With --oov map: JSON file that maps an object to the object of the cgip encoder that stands
    for it."""
    train_graph_encoder: bool = False
    """Train the cgip encoder further. Without this flag it stays as published."""
    freeze_graph_encoder: bool = False
    """Ablation: keep the native encoder at its random initial weights."""
    number_triples: bool = True
    """Number the native encoder's triples in the order in which texts state them.
    --no-number-triples is an ablation."""
    graph_encoder_dim: Annotated[int, _EVEN] = 256
    """Width of the native graph encoder, an even number."""
    graph_encoder_layers: Count = 2
    """Number of rounds of message passing in the native graph encoder."""
    read_boxes: bool = False
    """Let the native encoder read a box of each object, as far as boxes are known."""
    box_positions: bool = False
    """Give the graph's tokens the places of the objects' boxes in the attention to the image, as
    far as boxes are known."""
    box_attention: bool = False
    """Let each image token attend to the graph's tokens only as far as it lies in the boxes of
    their objects, as far as boxes are known."""
    box_map: bool = False
    """Tell each image token which objects' boxes it lies in, and at which place within them, as far
    as boxes are known. The setting needs --box-attention."""
    boxes_dropout: Share = 0.5
    """Probability that an example is read without its boxes in training, so that the adapter also
    draws without any. The setting belongs to --read-boxes, --box-positions and --box-attention."""
    boxes_jitter: NotNegative = 0.03
    """Standard deviation of the noise on the boxes that are read in training, as a share of the
    picture for centers and of the box for its sides. The setting belongs to --read-boxes,
    --box-positions and --box-attention."""

    def __post_init__(self) -> None:
        """Check that every value given has an effect."""
        if self.kind == "native":
            names = ("cgip_ckpt", "vocab_path", "oov", "oov_map", "train_graph_encoder")
            expect_defaults(self, "with the native graph encoder", *names)
        else:
            when = "with the cgip graph encoder, which stays as published"
            expect_defaults(self, when, *_OWN)
        if self.box_map and not self.box_attention:
            raise ConfigError("box_map needs box_attention: both read the same regions")
        if (self.oov == "map") != (self.oov_map is not None):
            raise ConfigError("oov 'map' and oov_map belong together: give both or neither")
        if self.graph_encoder == "cgip" and self.cgip_ckpt is None:
            raise ConfigError("graph_encoder 'cgip' needs cgip_ckpt, SGDiff's sip_vg.pt")

    def check_boxes(self) -> None:
        """Check that the settings about boxes in training have an effect.

        Raises:
            ConfigError: naming one that has none.
        """
        if not self.takes_layouts:
            when = f"without {' or '.join(BOX_SETTINGS)}"
            expect_defaults(self, when, "boxes_dropout", "boxes_jitter")

    @property
    def takes_layouts(self) -> bool:
        """Whether boxes reach the model."""
        return any(getattr(self, name) for name in BOX_SETTINGS)

    @property
    def kind(self) -> EncoderKind:
        """The graph encoder, after the default is applied."""
        if self.graph_encoder is not None:
            return self.graph_encoder
        return "native" if self.cgip_ckpt is None else "cgip"
