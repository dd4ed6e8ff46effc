"""The machine a run is on: hosts, cores, memory pages, kept programs, versions."""
