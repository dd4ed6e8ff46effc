"""What all pictures of scores share: the note below them, colours, and files that are never half-written."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from data_pipeline.files import write_bytes

# Okabe and Ito's palette: told apart with any colour vision.
BLUE, ORANGE, GREEN, YELLOW, PURPLE = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7"


def save(figure: Figure, path: Path) -> None:
    """Writes a PNG."""
    picture = io.BytesIO()
    FigureCanvasAgg(figure).print_png(picture)
    write_bytes(path, picture.getvalue())
