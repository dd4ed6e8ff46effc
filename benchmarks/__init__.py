"""Development only, never installed: opponents, devices, compilation for machines that are not here."""
