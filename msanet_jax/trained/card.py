"""The model card: what a model is, what it was trained on, how it scored, and what it is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msanet_jax.runs.notices import NOTICE

_SCORES = (
    ("DSC, pooled over all pixels", "dsc_pooled"),
    ("precision, pooled", "precision_pooled"),
    ("recall, pooled", "recall_pooled"),
    ("DSC, mean over images with lesion", "dsc_mean"),
    ("surface DSC, mean over images with lesion", "nsd_mean"),
    ("average precision over pixels", "average_precision"),
    ("expected calibration error over pixels", "ece"),
    ("lesions found", "lesion_recall"),
    ("lesions found, shorter than 15 mm", "lesion_recall_small"),
    ("lesions found, 15 to 30 mm", "lesion_recall_medium"),
    ("lesions found, longer than 30 mm", "lesion_recall_large"),
    ("false positives per image", "false_positives_per_image"),
    ("FROC score", "froc_score"),
    ("images", "images"),
    ("images without lesion", "images_without_lesion"),
)

_SIMULATED = (
    "**Simulated scans.** The scores say how well the network finds simulated lesions in simulated scans. They are not "
    "comparable with the 0.6671 of the MSA-Net paper, and say nothing on how it does on patients."
)


def model_card(
    manifest: Mapping[str, Any], scores: Sequence[Mapping[str, Any]], *, dataset: str, whole: bool = False
) -> str:
    """Markdown from an exported model's manifest and the metrics.json of its runs (or of the whole).

    Args:
      manifest: of the exported model.
      scores: the metrics.json of every run that has one, or one of the whole.
      dataset: the data set's name in the recipe.
      whole: whether the scores are those of the whole.
    """
    simulated = dataset.startswith("phantom_bone/")
    members = manifest["provenance"].get("members", [manifest["provenance"]])
    lines = [
        "# Model card",
        "",
        f"**{NOTICE}** {'Trained on simulated scans only. ' if simulated else ''}Not a medical device; nobody has "
        "tested it on patients for any purpose. Made by `msanet export`; figures come from the runs themselves.",
        "",
        "## What it is",
        "",
        *_what(manifest, members),
        "",
        "## Training data",
        "",
        *_data(members, simulated),
        "",
        "## Scores",
        "",
        *_scores(scores, len(members), whole=whole, simulated=simulated),
        "",
        "## Limits",
        "",
        *_limits(manifest["input"]["field"], simulated),
        "",
        "## Use",
        "",
        "`msanet predict scan.dcm --model=FILE.msanet --out=RESULTS`; docs/outputs.md describes the results and has a "
        "Python snippet that needs JAX and NumPy only.",
        "",
    ]
    return "\n".join(lines)


def _what(manifest: Mapping[str, Any], members: Sequence[Mapping[str, Any]]) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in manifest["versions"].items() if version)
    shapes = {
        side: f"`[{', '.join(str(length) for length in manifest[side]['shape'])}]`" for side in ("input", "output")
    }
    number = "one network" if len(members) == 1 else f"the mean of {len(members)} networks"
    check = manifest.get("check", {})
    parameters = " + ".join(f"{count:,}" for count in manifest["parameters"])
    lines = [
        f"Generator `{members[0].get('model', 'msanet')}` ({number}), {parameters} parameters, weights kept as "
        f"{manifest['weights']}.",
        "",
        f"- In: {manifest['input']['what']}, {shapes['input']}.",
        f"- Out: {manifest['output']['what']}, {shapes['output']}. Lesion is what exceeds {manifest['threshold']:g}.",
        f"- Program for {', '.join(manifest['platforms'])}, {manifest['program_bytes'] / 1e6:.1f} MB; made with "
        f"{versions}.",
    ]
    if check:
        lines.append(
            f"- Largest absolute difference of probability to the checkpoint, {check['fields']} simulated fields on "
            f"{check['device']}: {check['max_abs_difference']:.1g}. Other platforms were compiled for, not run."
        )
    for member in members:
        variants = f" with `{member['variants']}`" if member.get("variants") else ""
        lines.append(
            f"- Run `{member['checkpoint']}`: recipe of `{member.get('model', 'msanet')}`{variants}, seed "
            f"{member.get('seed')}, step {member.get('step')}, recipe's SHA-256 `{member['config_sha256'][:16]}`."
        )
    return lines


def _data(members: Sequence[Mapping[str, Any]], simulated: bool) -> list[str]:
    names = ", ".join(sorted({f"`{member['dataset']}`" for member in members}))
    if simulated:
        return [
            f"{names}: PhantomBone, virtual lung-cancer patients with exact lesion masks, split by patient. No "
            "patient's data. Its data card travels in the file (data_card.md)."
        ]
    return [f"{names}: a data set of the user's own; see data_card.md in the file."]


def _scores(scores: Sequence[Mapping[str, Any]], members: int, *, whole: bool, simulated: bool) -> list[str]:
    if not scores:
        return ["The run has not been scored."]
    # Imported scans may be simulated ones; the run's own note says what its scores are.
    notes = [_SIMULATED] if simulated else [*dict.fromkeys(score["note"] for score in scores if "note" in score)]
    lines = [line for note in notes for line in (note, "")]
    if members > 1 and not whole:
        lines += [f"Single networks ({len(scores)} of {members}); their mean was not scored.", ""]
    for score in scores:
        split = score.get("split", "test")
        test, baseline = score[split], score.get("threshold_baseline", {})
        lines += [f"| {split} patients | score | 95 % interval | best single threshold |", "|---|---|---|---|"]
        for label, key in _SCORES:
            if key not in test:
                continue
            interval = test.get("intervals", {}).get(key)
            bounds = f"{_number(interval[0])} to {_number(interval[1])}" if interval else ""
            single = _number(baseline[key]) if key in baseline else ""
            lines.append(f"| {label} | {_number(test[key])} | {bounds} | {single} |")
        lines.append("")
    lines.append("Definitions: docs/metrics.md. Intervals: bootstrap over patients.")
    return lines


def _limits(field: str, simulated: bool) -> list[str]:
    outside = "- Segments the thorax field only: lesions of skull, pelvis and limbs outside it are not seen."
    limits = [
        *([outside] if field == "thorax" else []),
        "- Small and faint lesions are often missed (see the table); healthy hot spots (joints, degenerative spine, "
        "kidneys, injection site) may be marked.",
        "- Expects raw counts of one planar view. Smoothed, rescaled or 8 bit pictures are accepted with a warning, "
        "and nothing is known of how it does on them.",
        "- The probability is the network's output, not calibrated on patients.",
    ]
    if simulated:
        limits.append(
            "- Simulated training data: other tracers, cameras, body shapes, treatments and diseases than the "
            "simulator's are unknown to it."
        )
    return limits


def _number(value: Any) -> str:
    if value is None:
        return "undefined"
    return f"{value:.3f}" if isinstance(value, float) else f"{value}"
