"""What every result says of its data: simulated, imported, research only."""

from __future__ import annotations

from typing import Any


def notice(provenance: dict[str, Any]) -> str:
    """What must be said beside every result of a model."""
    simulated = str(provenance.get("dataset", "")).startswith("phantom_bone/")
    return "Research software, not for diagnosis." + (" Trained on simulated scans." if simulated else "")


def public_dataset_name(dataset: str) -> str:
    """A data set's name; of a folder of one's own only the last part, for the rest may name people."""
    return dataset if dataset.startswith("phantom_bone/") else dataset.replace("\\", "/").rstrip("/").split("/")[-1]


NOTE_SIMULATED = (
    "Simulated scans (PhantomBone): not comparable with the 0.6671 that the paper reports on clinical scans. "
    "Research software, not for diagnosis."
)


NOTE_IMPORTED = (
    "Imported scans, scored against the masks that came with them: other patients, scanners and readers than the "
    "paper's, so not comparable with its 0.6671. Research software, not for diagnosis."
)


def note(*, simulated: bool) -> str:
    """What stands beside every score of a data set."""
    return NOTE_SIMULATED if simulated else NOTE_IMPORTED


def footer(*, simulated: bool) -> str:
    """The line below every picture of scores."""
    what = (
        "simulated scans, not comparable with clinical scores" if simulated else "scores on one set of scans and masks"
    )
    return f"{what} - research software, not for diagnosis"
