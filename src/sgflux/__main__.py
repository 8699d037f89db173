"""``python -m sgflux``, which is also what ``accelerate launch -m sgflux`` runs."""

from __future__ import annotations

from sgflux.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
