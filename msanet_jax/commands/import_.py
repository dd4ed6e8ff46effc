"""msanet import: a folder, zip or DICOMDIR of scans and masks -> a data set folder."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from data_pipeline.errors import ExitCode
from data_pipeline.terminal import scan_flags
from data_pipeline.text import as_line, printable

HELP = "make a data set of your own scans and masks"
DESCRIPTION = (
    "Reads scans (NM DICOM, PNG, TIFF, NPY, NIfTI) and their annotations (mask PNG or NIfTI, DICOM SEG, LabelMe, COCO, "
    "Pascal VOC, nnU-Net) and writes a folder for training: --config.data.dataset=DATASET. Patients get pseudonyms; "
    "names, numbers and dates are not copied. docs/your_data.md describes how masks are matched to scans."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("source", type=Path, metavar="SOURCE", help="folder, zip, DICOMDIR or file; or a data set")
    parser.add_argument("--out", required=True, type=Path, metavar="DATASET", help="folder to make; must not exist")
    parser.add_argument(
        "--format",
        default="auto",
        metavar="NAME",
        help="layout of SOURCE: auto, files, nnunet, bs80k or paraguay (default: auto)",
    )
    parser.add_argument(
        "--to", choices=("dataset", "nnunet"), default="dataset", help="nnunet writes a raw folder for nnU-Net instead"
    )
    parser.add_argument(
        "--labels",
        nargs="+",
        default=[],
        metavar="NAME=KIND",
        help="what a label or number in an annotation means: lesions, benign, reader_1, reader_2 or ignored",
    )
    parser.add_argument(
        "--scans-without-mask",
        choices=("left-out", "no-lesion"),
        default="left-out",
        help="left-out: not used for training and scores; no-lesion: they get an empty mask",
    )
    scan_flags.add_arguments(parser)
    parser.add_argument("--key-file", type=Path, metavar="FILE", help="key of the pseudonyms (default: a new one)")
    parser.add_argument("--validation-share", type=float, default=0.1, metavar="SHARE", help="of the patients")
    parser.add_argument("--test-share", type=float, default=0.3, metavar="SHARE", help="of the patients")
    parser.add_argument("--seed", type=int, default=0, help="of the splits")
    parser.add_argument(
        "--splits-from", type=Path, metavar="OLD", help="data set whose patients stay in train, validation or test"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar, no summary")


def run(options: argparse.Namespace) -> int:
    """Imports; 1 if some files could not be used."""
    from data_pipeline.intake.build import ImportOptions, import_source, parse_labels
    from data_pipeline.intake.nnunet import write_nnunet
    from data_pipeline.readers.stated import from_options

    if options.to == "nnunet":
        cases = write_nnunet(options.source, options.out)
        if not options.quiet:
            print(f"{cases} cases for nnU-Net in {printable(str(options.out))}")
        return 0
    outcome = import_source(
        options.source,
        options.out,
        ImportOptions(
            layout=options.format,
            labels=parse_labels(options.labels),
            scans_without_mask=options.scans_without_mask,
            patient_from=options.patient_from,
            stated=from_options(options),
            key_file=options.key_file,
            validation_share=options.validation_share,
            test_share=options.test_share,
            seed=options.seed,
            splits_from=options.splits_from,
        ),
        progress=not options.quiet,
    )
    for line in outcome.problems:
        print(as_line(line), file=sys.stderr)
    if not options.quiet:
        for line in outcome.notes:
            print(as_line(line))
        print(outcome.summary(options.out))
    return ExitCode.SOME_FAILED if outcome.problems else ExitCode.DONE
