"""Which side of the patient faced the camera, from the words in headers and file names."""

from __future__ import annotations

import re

from data_pipeline.scan import View

_WORDS = {
    View.ANTERIOR: {"ant", "anterior", "front", "frontal"},
    View.POSTERIOR: {"post", "posterior", "pos", "pst", "back", "dorsal"},
}
# A view from the side or aslant is neither, whatever else its name says.
_OTHER = {"lat", "lateral", "oblique", "obl", "lao", "rao", "lpo", "rpo", "left", "right"}
_INITIALS = {"A": View.ANTERIOR, "P": View.POSTERIOR}


def view_of_text(text: str) -> View:
    """View named in free text such as `WB_ANT`, `wholeBodyPOST` or `Posterior projection`; UNKNOWN if none or both."""
    words = {word.lower() for word in _words(text)}
    if words & _OTHER:
        return View.UNKNOWN
    found = [view for view, names in _WORDS.items() if words & names]
    return found[0] if len(found) == 1 else View.UNKNOWN


def view_of_file_name(stem: str, folder: str = "") -> View:
    """View named in a file name, else in its folder's; the letter of `A12` or `P12` alone says nothing."""
    view = view_of_text(stem)
    return view if view != View.UNKNOWN else view_of_text(folder)


def without_view(stem: str, folder: str = "") -> str:
    """File name without the words of its view, so that both views of a patient share it.

    In a folder named after a view its initial is such a word: `Anterior/A12` and `Posterior/P12` as in the set of
    IICS-UNA. Elsewhere `P12` is a name of its own: of a patient, more often than not.
    """
    if (match := re.fullmatch(r"([AP])\d+", stem)) and view_of_text(folder) == _INITIALS[match[1]]:
        return stem[1:]
    for word in _words(stem):
        if any(word.lower() in names for names in _WORDS.values()):
            stem = stem.replace(word, "")
    return stem


def _words(text: str) -> list[str]:
    """Splits at everything that is no letter and where lower case turns to upper."""
    return re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", text)
