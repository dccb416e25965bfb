"""The table of docs/networks.md is what the networks are."""

import sys

import pytest

from conftest import ROOT

sys.path.insert(0, str(ROOT / "Testing" / "tools"))
import update_networks_page as page


def test_the_table_is_what_is_computed():
    """Within rounding, and what releases of torch count and keep differently."""
    written, found = page.cells(page.PAGE.read_text(encoding="utf-8")), page.table()
    assert [row[:2] for row in written] == [row[:2] for row in found]
    for mine, theirs in zip(written, found, strict=True):
        for a, b in zip(mine[2:], theirs[2:], strict=True):
            assert bool(a) == bool(b) and (not a or float(a) == pytest.approx(float(b), rel=0.02, abs=0.11)), mine
