#!/usr/bin/env python
"""The original command line of the training script: a thin front of ``sgflux train``.

    python scripts/train/train_flux_graph_lora_diffusion.py \
        --train-jsonl data/train.jsonl --val-jsonl data/validation.jsonl --output-dir runs/first \
        --epochs 20 --batch-size 2 --lora-rank 16

Also under ``accelerate launch``. ``--help`` lists all flags.
"""

from __future__ import annotations

from sgflux.commands.train import main

if __name__ == "__main__":
    raise SystemExit(main())
