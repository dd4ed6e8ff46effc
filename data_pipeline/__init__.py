"""Scans from files and from the simulator to batches; knows nothing of networks."""

import os

# Before anything imports TensorFlow, which otherwise starts with half a page about itself, or JAX, whose compiler calls
# what takes two minutes an error ("Very slow compile?"). What users must know is raised or ends the process, which it
# tells at this level, too. TensorFlow only feeds data here: its accelerated convolutions, which say so whatever the
# level, are not used.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
