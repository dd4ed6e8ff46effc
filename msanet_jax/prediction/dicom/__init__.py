"""Results as DICOM, for the archive that has the scan."""
