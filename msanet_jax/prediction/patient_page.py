"""The page of one patient: pictures, lesions, change; one HTML file that needs nothing else, one A4 page in print."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_ROWS_MAX = 18
_STYLE = """
@page { size: A4; margin: 10mm }
@media print { body { zoom: .86; padding: 0 } }
body { font: 13px/1.4 "DejaVu Sans", Verdana, sans-serif; color: #212529;
  max-width: 186mm; margin: 0 auto; padding: 4mm }
h1 { font-size: 19px; margin: 0 } h2 { font-size: 14px; margin: 5mm 0 1.5mm }
.notice { background: #fff3bf; border: 1px solid #f08c00; padding: 1.5mm 3mm; margin: 2mm 0 4mm; font-weight: bold }
.views { display: flex; gap: 4mm } figure { margin: 0; flex: 1; max-width: 50% } img { width: 100%; display: block }
figcaption, .faint, td.faint { color: #868e96; font-size: 11px } .figures b { font-size: 17px; color: #d9480f }
.figures { display: flex; gap: 9mm; margin: 1mm 0 3mm }
p { margin: 1mm 0 } table { border-collapse: collapse; width: 100% } .faint { margin: 1.5mm 0 0 }
th { text-align: right; color: #868e96; font-weight: normal; font-size: 11px; border-bottom: 1px solid #ced4da }
td { text-align: right; padding: .35mm 0; font-variant-numeric: tabular-nums; font-size: 12px }
th:first-child, td:first-child { text-align: left }
"""


def patient_sheet(
    patient: Mapping[str, Any], scans: Sequence[tuple[str, Mapping[str, Any]]], pictures: Mapping[str, bytes]
) -> str:
    """HTML of a patient.

    Args:
      patient: of `patient_record`.
      scans: (stem, record) of every scan.
      pictures: PNG by stem.
    """
    comparison = patient["comparison"]
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f"<title>{escape(patient['patient_pseudonym'])}</title><style>{_STYLE}</style></head><body>",
        f"<h1>Patient {escape(patient['patient_pseudonym'])}</h1>",
        f'<div class="notice">Research use only, not for diagnosis. {escape(_more(patient["notice"]))}</div>',
        _figures(patient, scans),
        f'<div class="views">{"".join(_picture(stem, record, pictures) for stem, record in scans)}</div>',
        _lesions(patient, scans),
        _change(comparison) if comparison else "",
        _notes(patient, scans),
        "</body></html>\n",
    ]
    return "".join(parts)


def _more(notice: str) -> str:
    return notice.partition("diagnosis.")[2].strip()


def _figures(patient: Mapping[str, Any], scans: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    both = " (seen in both views counted once)" if patient["view_pairs"] else ""
    fraction = patient["lesion_area_fraction"]
    shown = "unknown" if fraction is None else f"{100 * fraction:.2f} %"
    count = patient["lesion_count"]
    return (
        f'<div class="figures"><div><b>{count}</b> lesion{"s" if count != 1 else ""} marked{both}</div>'
        f"<div><b>{shown}</b> lesion area fraction (uncalibrated, no bone scan index)</div></div>"
    )


def _picture(stem: str, record: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    if stem not in pictures:
        return ""
    data = base64.b64encode(pictures[stem]).decode()
    caption = f"{record['view']}: {record['lesion_count']} marked, {record['counts_total'] / 1e6:.2f} M counts"
    return (
        f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(caption)}<br>{escape(stem)}</figcaption></figure>"
    )


def _lesions(patient: Mapping[str, Any], scans: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    partner = {
        (pair[side], match[side]): f"{match[other]} {other}"
        for pair in patient["view_pairs"]
        for match in pair["matched"]
        for side, other in (("anterior", "posterior"), ("posterior", "anterior"))
    }
    rows = [(stem, record, lesion) for stem, record in scans for lesion in record["lesions"]]
    if not rows:
        return "<h2>Lesions</h2><p>Nothing is marked.</p>"
    # With more lesions than fit, the largest are shown.
    shown = sorted(rows, key=lambda row: -row[2]["area_px"])[:_ROWS_MAX]
    shown.sort(key=lambda row: (row[0], row[2]["id"]))
    heads: tuple[str, ...] = (
        "view, number",
        "length mm",
        "area mm²",
        "mean uptake",
        "max. uptake",
        "probability",
        "also seen as",
    )
    changes = _changes(patient["comparison"])
    body = "".join(
        _row(
            f"{record['view']} {lesion['id']}",
            _value(lesion["major_axis_mm"], 0),
            _value(lesion["area_mm2"], 0),
            _value(lesion["uptake_mean"], 1),
            _value(lesion["uptake_max"], 1),
            _value(lesion["probability_max"], 2),
            partner.get((stem, lesion["id"]), ""),
            *(changes.get((record["view"], lesion["id"]), ("", "", "")) if changes else ()),
        )
        for stem, record, lesion in shown
    )
    heads += ("earlier", "area", "mean uptake") if changes else ()
    more = f'<p class="faint">The {len(shown)} largest of {len(rows)} marks.</p>' if len(rows) > len(shown) else ""
    return f"<h2>Lesions</h2><table>{_head(heads)}{body}</table>{more}"


def _changes(comparison: Mapping[str, Any] | None) -> dict[tuple[str, int], tuple[str, str, str]]:
    """(view, number) -> number earlier, change of area, change of mean uptake."""
    found: dict[tuple[str, int], tuple[str, str, str]] = {}
    for view in comparison["views"] if comparison else []:
        found |= {(view["view"], number): ("new", "", "") for number in view["new"]}
        for match in view["matched"]:
            changes = (_percent(match["area_change"]), _percent(match["uptake_mean_change"]))
            found[view["view"], match["now"]] = (str(match["earlier"]), *changes)
    return found


def _change(comparison: Mapping[str, Any]) -> str:
    parts = ["<h2>Change since the earlier scan</h2>"]
    for view in comparison["views"]:
        parts.append(
            f"<p>{escape(view['view'])}: {len(view['matched'])} lesions matched, {len(view['new'])} new"
            f"{_list(view['new'])}, {len(view['gone'])} gone{_list(view['gone'])}; lesion area fraction "
            f"{_percent(view['lesion_area_fraction_change']) or 'change undefined'}.</p>"
        )
    notes = " ".join(f"{note}." for note in comparison["notes"])
    text = " ".join([notes, comparison["rule"], comparison["limits"]]).strip()
    parts.append(f'<p class="faint">{escape(text)}</p>')
    return "".join(parts)


def _notes(patient: Mapping[str, Any], scans: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    warnings = dict.fromkeys(f"{record['view']}: {warning}" for _, record in scans for warning in record["warnings"])
    record = scans[0][1]
    provenance = record["provenance"]
    name = provenance.get("file") or provenance.get("checkpoint")
    made = (
        f"Lesion: probability above {record['threshold']:g}; probability is the network's, not calibrated. Uptake: "
        f"counts over the body's ordinary level. Model {name}, step {provenance.get('step')}, msanet-jax "
        f"{provenance['versions'].get('msanet-jax')}."
    )
    lines = [*warnings, patient["burden_note"], made]
    return "<h2>Notes</h2>" + "".join(f'<p class="faint">{escape(line)}</p>' for line in lines)


def _head(cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<th>{escape(cell)}</th>' for cell in cells)}</tr>"


def _row(*cells: str) -> str:
    return f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"


def _value(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    # As a whole number: a small decrease is +0, not -0.
    return "" if value is None else f"{round(100 * value):+d} %"


def _list(ids: Sequence[int]) -> str:
    return f" ({', '.join(str(number) for number in ids)})" if ids else ""
