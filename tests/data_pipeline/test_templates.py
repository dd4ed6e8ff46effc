"""Templates: what is escaped, what is missing, how numbers are written, and that one palette is used."""

from __future__ import annotations

import re
from pathlib import Path

import jinja2
import pytest

from data_pipeline.pages import data_uri, interval_text, number, p_value, render
from data_pipeline.pages.palette import BLUE, ORANGE, rgb

ROOT = Path(__file__).parents[2]


def test_values_are_escaped_in_html_alone(tmp_path: Path) -> None:
    (tmp_path / "a.html.jinja").write_text('<p title="{{ text }}">{{ text }}</p>\n')
    (tmp_path / "a.md.jinja").write_text("{{ text }}\n")
    assert render(tmp_path / "a.html.jinja", text='<b>&"') == '<p title="&lt;b&gt;&amp;&#34;">&lt;b&gt;&amp;&#34;</p>\n'
    assert render(tmp_path / "a.md.jinja", text='<b>&"') == '<b>&"\n'


def test_what_is_missing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.md.jinja").write_text("{{ there }} {{ missing }}")
    with pytest.raises(jinja2.UndefinedError, match="'missing' is undefined"):
        render(tmp_path / "a.md.jinja", there=1)


def test_pages_fetch_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.html.jinja").write_text(
        '{% extends "page.html.jinja" %}{% block title %}{{ name }}{% endblock %}{% block body %}x{% endblock %}'
    )
    text = render(tmp_path / "a.html.jinja", name="<i>")
    assert "<title>&lt;i&gt;</title>" in text
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    assert f'content="{policy}"' in text
    assert f"--false: {ORANGE}" in text and "{{" not in text


def test_numbers() -> None:
    assert [number(value, 2) for value in (0.125, None, float("nan"), 3)] == ["0.12", "–", "–", "3.00"]
    assert number(0.5, 1, signed=True) == "+0.5" and number(None, unknown="") == ""
    assert interval_text([0.1, 0.25], 2) == "0.10 to 0.25" and interval_text([0.1, None]) == "–"
    assert [p_value(p) for p in (0.0009, 0.001, None, float("nan"))] == ["< 0.001", "0.001", "–", "–"]
    assert data_uri("<svg/>", "svg+xml") == "data:image/svg+xml;base64,PHN2Zy8+"
    assert rgb(BLUE) == (0, 114, 178)


def test_colours_of_the_palette_stand_there_alone() -> None:
    """Okabe and Ito's colours are written in one file."""
    palette = {"0072b2", "d55e00", "009e73", "e69f00", "cc79a7", "56b4e9"}
    for folder in ("msanet_jax", "data_pipeline", "benchmarks", "docs"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".jinja", ".css", ".js") and path.name != "palette.py":
                found = {colour.lower() for colour in re.findall(r"#([0-9a-fA-F]{6})\b", path.read_text())}
                assert not found & palette, path
