"""What holds for every test: nothing is fetched, and no test takes more than its share of CPU."""

from __future__ import annotations

import gc
import os
import tempfile
from pathlib import Path

from hypothesis import settings

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny tensors: a second thread only gets in the way
# Digests of models are remembered for this session alone, not in the home of whoever tests.
os.environ["SGFLUX_DIGEST_CACHE"] = str(Path(tempfile.mkdtemp(prefix="sgflux-tests-")) / "d.json")
# How long an example takes says something of the machine, not of the code.
settings.register_profile("sgflux", deadline=None)
settings.load_profile("sgflux")


def pytest_collection_finish() -> None:
    """Collections of garbage leave out the libraries and the collected tests, which all stay."""
    gc.collect()
    gc.freeze()
