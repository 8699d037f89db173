"""Import this first: the checkout's own sgflux, without an installation and without a hub.

A benchmark needs nothing from a hub, and measures the code that lies beside it.
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
