"""What every result says of its data: simulated, imported, research only."""

from __future__ import annotations

from typing import Any

from data_pipeline.pages import NOTICE

_SCORES_SIMULATED = (
    f"Simulated scans (PhantomBone): not comparable with the 0.6671 that the paper reports on clinical scans. {NOTICE}"
)
_SCORES_IMPORTED = (
    "Imported scans, scored against the masks that came with them: other patients, scanners and readers than the "
    f"paper's, so not comparable with its 0.6671. {NOTICE}"
)


def model_notice(provenance: dict[str, Any]) -> str:
    """What must be said next to every result of a model."""
    simulated = str(provenance.get("dataset", "")).startswith("phantom_bone/")
    return NOTICE + (" Trained on simulated scans." if simulated else "")


def scores_notice(*, simulated: bool) -> str:
    """What must be said next to every score of a data set."""
    return _SCORES_SIMULATED if simulated else _SCORES_IMPORTED


def picture_notice(*, simulated: bool) -> str:
    """The line below every picture of scores."""
    what = (
        "simulated scans, not comparable with clinical scores" if simulated else "scores on one set of scans and masks"
    )
    return f"{what} - research software, not for diagnosis"


def public_dataset_name(dataset: str) -> str:
    """A data set's name; of a folder of one's own only the last part, for the rest may name people."""
    return dataset if dataset.startswith("phantom_bone/") else dataset.replace("\\", "/").rstrip("/").split("/")[-1]
