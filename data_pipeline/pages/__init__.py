"""Pages and cards from Jinja templates: one environment, one stylesheet (`templates/page.css`), one palette."""

from __future__ import annotations

import base64
import functools
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from data_pipeline.pages import palette

NOTICE = "Research software, not for diagnosis."
_SHARED = Path(__file__).with_name("templates")


def render(template: Path, *shared: Path, **values: Any) -> str:
    """Fills a template.

    Args:
      template: `NAME.html.jinja`, whose values are escaped, or `NAME.md.jinja`, whose values are not. It can include
        its neighbours and what lies in this room's `templates/`.
      *shared: folders of further templates that it extends or includes.
      **values: its variables. One that is missing is an error.
    """
    return _environment(template.parent, *shared).get_template(template.name).render(values)


@functools.cache
def _environment(*folders: Path) -> Environment:
    environment = Environment(
        loader=FileSystemLoader([*folders, _SHARED]),
        autoescape=lambda name: not (name or "").endswith(".md.jinja"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "number": number,
        "interval": interval_text,
        "p_value": p_value,
        "percent": percent,
        "data_uri": data_uri,
        "script_hash": script_hash,
        "rgb": palette.rgb,
    }
    environment.globals |= {"palette": palette, "notice": NOTICE}
    return environment


def number(value: float | None, digits: int = 3, *, unknown: str = "–", signed: bool = False) -> str:
    """Rounded to `digits` behind the point; `unknown` for None and NaN."""
    if value is None or math.isnan(value):
        return unknown
    return f"{value:{'+' if signed else ''}.{digits}f}"


def interval_text(ends: Sequence[float | None], digits: int = 3) -> str:
    """`low to high`; a dash where an end is None or NaN."""
    known = [end for end in ends if end is not None and not math.isnan(end)]
    return " to ".join(number(end, digits) for end in known) if len(known) == 2 else "–"


def p_value(p: float | None, *, unknown: str = "–") -> str:
    """Three digits; `< 0.001` below."""
    return "< 0.001" if p is not None and p < 0.001 else number(p, unknown=unknown)


def percent(share: float | None) -> str:
    """A change in whole percent, as `+13 %`; empty for None. A small decrease is +0, not -0."""
    return "" if share is None else f"{round(100 * share):+d} %"


def script_hash(script: str) -> Markup:
    """The source that a Content-Security-Policy allows for this script in the page, and for no other."""
    return Markup(f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'")


def data_uri(content: bytes | str, kind: str) -> str:
    """An image that lies in the page itself: `data:image/KIND;base64,...`."""
    data = content.encode() if isinstance(content, str) else content
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
