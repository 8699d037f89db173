"""The text of a model card, in which an export replaces sections.

If one of these failed, an export would cut what somebody wrote into a card.
"""

from __future__ import annotations

from sgflux.models.card_text import without_section

CARD = """# Title

## One

```python
## Two
# a comment
```

## Two

gone

### below it

gone

## Three

kept

## Two

gone
# Another title
"""


def test_a_section_ends_at_the_next_heading_and_code_has_none() -> None:
    text = without_section(CARD, "Two")
    assert "gone" not in text
    kept = ["# Title", "## One", "## Two", "# a comment", "## Three", "# Another title"]
    assert [line for line in text.splitlines() if line.startswith("#")] == kept
    assert without_section(CARD, "Four") == CARD
