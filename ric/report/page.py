"""The pages of a report and of a study: HTML files that ask for nothing from outside their folder.

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
    # file: is this folder's own where it is opened from disk
    return render("page", "img-src 'self' file: data:", mark=Markup(MARK), **contents)


def render(name: str, pictures: str, **contents: Any) -> str:
    """Return a page as HTML, with its own script and its own sheet after that of reports.

    Args:
        name: Of its template, script and sheet.
        pictures: The rule of its Content-Security-Policy for pictures.
        contents: What the template shows.
    """
    sheets = dict.fromkeys(("page.css", f"{name}.css"))
    style = "".join((TEMPLATE / sheet).read_text("utf-8") for sheet in sheets)
    script = (TEMPLATE / f"{name}.js").read_text("utf-8")
    policy = "; ".join(
        [
            "default-src 'none'",
            pictures,
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
    return environment.get_template(f"{name}.html").render(
        policy=policy,
        style=Markup(style),  # our own
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
