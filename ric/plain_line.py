"""Untrusted text, such as an id or a label, as one line that shows all its characters."""

from __future__ import annotations

import re

# Controls (C0, DEL, C1), ends of lines and paragraphs, Unicode's Bidi_Control, which reorders what
# stands around it, and lone surrogates, as in the name of a file that is not UTF-8.
NOT_PLAIN = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def plain_line(text: str) -> str:
    r"""Escape control characters and line breaks: `\n`, `\x1b`."""
    return NOT_PLAIN.sub(lambda odd: odd[0].encode("unicode_escape").decode(), text)


def is_plain_line(text: str) -> bool:
    """Tell whether a text is one line without control characters."""
    return NOT_PLAIN.search(text) is None
