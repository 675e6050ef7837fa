"""Graphics cards: their bf16 matrix rates and memory, as their makers publish them.

Rates are of dense matrices with float32 sums; a data sheet that only states a rate with sparsity
is halved.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ric.errors import RicError

# The share of a published rate that a whole command is assumed to reach: decoding pictures, small
# layers and memory traffic take the rest. Nothing was measured on a card.
SHARE_OF_CARD = 0.3
# The share of a rate measured on this machine's CPU: 68 to 85 % in docs/fitting.md.
SHARE_OF_CPU = 0.7


class Card(NamedTuple):
    """A graphics card.

    Attributes:
        name: As it is sold.
        teraflops: Dense bf16 matrix products, 10^12 FLOP a second.
        gigabytes: Its memory, as it is sold: units of 2^30 bytes.
    """

    name: str
    teraflops: float
    gigabytes: float


CARDS = (
    Card("RTX 3090", 71, 24),
    Card("RTX 4080", 97.5, 16),
    Card("RTX 4090", 165.2, 24),
    Card("RTX 5090", 209.5, 32),
    Card("RTX A6000", 154.8, 48),
    Card("RTX 6000 Ada", 364, 48),
    Card("A10", 125, 24),
    Card("L4", 121, 24),
    Card("L40S", 362, 48),
    Card("A100 40GB", 312, 40),
    Card("A100 80GB", 312, 80),
    Card("H100 PCIe", 756, 80),
    Card("H100 SXM", 989, 80),
    Card("H200", 989, 141),
)


def find_card(name: str) -> Card:
    """Find a card by name; spaces, case and what precedes its number may be left out.

    Raises:
        RicError: there is none of that name, or there are several.
    """
    asked = _plain(name)
    exact = [card for card in CARDS if _plain(card.name) == asked]
    found = exact or [card for card in CARDS if asked and asked in _plain(card.name)]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(card.name for card in found or CARDS)
    problem = f"{name!r} may be several cards." if found else f"No card {name!r} in the table."
    raise RicError(problem, f"Choose one of: {listed}.")


def _plain(name: str) -> str:
    return re.sub(r"nvidia|geforce|[\s_-]", "", name.lower())
