"""Flags with which a user settles what files do not say; `readers.stated` takes their values. Quick to load."""

from __future__ import annotations

import argparse

ORIENTATIONS = (
    "as-stored",
    "mirrored",
    "turned-180",
    "upside-down",
    "transposed",
    "turned-left",
    "transverse",
    "turned-right",
)
"""How stored pixels lie, in the order of the EXIF numbers 1 to 8: `turned-left` must be turned right to stand."""

PATIENT_FROM = ("auto", "header", "folder", "file")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags; `readers.stated.from_options` takes their values, except that of `--patient-from`."""
    group = parser.add_argument_group("what files do not say, or say wrongly")
    group.add_argument(
        "--view", metavar="VIEW", help="anterior or posterior; of files with two views anterior,posterior (in order)"
    )
    group.add_argument(
        "--pixel-mm", type=float, metavar="MM", help="pixel size of files that state none, or one that no camera has"
    )
    group.add_argument("--orientation", choices=ORIENTATIONS, help="how the stored pixels lie")
    group.add_argument(
        "--inverted",
        action=argparse.BooleanOptionalAction,
        help="of scans whose background is brighter than the patient: take maximum - value, or take them as they are",
    )
    group.add_argument(
        "--energy-window", type=int, metavar="N", help="of files with several (default: the one with the photopeak)"
    )
    group.add_argument(
        "--patient-from",
        choices=PATIENT_FROM,
        default="auto",
        help="how patients are identified (auto: the DICOM header, else the path of the file without the view)",
    )
