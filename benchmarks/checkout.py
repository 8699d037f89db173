"""Make the checkout's own sgflux importable, and keep the hub's libraries offline.

Benchmarks import this module first. They measure the code of their checkout, which need not be
installed, and need nothing from a hub.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if str(ROOT / "src") not in sys.path:
    sys.path.insert(0, str(ROOT / "src"))
