"""Scans from files and from the simulator to batches; knows nothing of networks."""

import os

# Before anything imports TensorFlow, which otherwise starts with half a page about itself. It only feeds data here:
# its accelerated convolutions, which say so whatever the level, are not used.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
