"""From scans to segmentations and the files of `msanet predict`."""
