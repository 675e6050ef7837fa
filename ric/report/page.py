"""The page of a report: one HTML file that asks for nothing from outside its folder.

Every text of the runs is escaped: jinja2 escapes what stands in the page, and `as_script` what its
script reads. A Content-Security-Policy allows this file's own script and sheet, by their hashes,
and pictures of the folder; nothing else is loaded, and nothing is sent.
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

TEMPLATE = Path(__file__).parent / "template"
MARK = '<meta name="generator" content="ric report">'  # tells a report from another page


def render_page(**contents: Any) -> str:
    """Return the page as HTML.

    Args:
        contents: What `template/page.html` shows, and `gallery`, what its script reads, or None.
    """
    style, script = ((TEMPLATE / name).read_text("utf-8") for name in ("page.css", "page.js"))
    policy = "; ".join(
        [
            "default-src 'none'",
            "img-src 'self' file: data:",  # file: is this folder's own where it is opened from disk
            f"style-src 'sha256-{_digest(style)}'",
            f"script-src 'sha256-{_digest(script)}'",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["as_script"] = as_script
    return environment.get_template("page.html").render(
        policy=policy,
        mark=Markup(MARK),  # our own
        style=Markup(style),
        script=Markup(script),
        **contents,
    )


def as_script(value: object) -> Markup:
    """Return JSON that can stand in a script element: no text in it can end the element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
