"""Which pages are looked at, and what is done on them."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

# Pages that every check is made on, and those that take longer.
SHORT = ("grid", "one_axis")
LONG = ("repeated", "many_points", "offsets", "chinchilla", "clip", "isoflop")
EVERY = [*SHORT, *(pytest.param(name, marks=pytest.mark.slow) for name in LONG)]
WIDE, PHONE = {"width": 1400, "height": 900}, {"width": 400, "height": 800}


def move(page: "Page", slider: str, value: float) -> None:
    page.eval_on_selector(
        slider,
        "(element, value) => { element.value = value;"
        " element.dispatchEvent(new Event('input', { bubbles: true })); }",
        value,
    )


def answer(page: "Page") -> str:
    return page.inner_text("[role=status]")
