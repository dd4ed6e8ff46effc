"""Which side of the patient faced the camera, from the words in headers and file names."""

from __future__ import annotations

import re

from data_pipeline.scan import View

_CERTAIN = {
    "ant": View.ANTERIOR,
    "anterior": View.ANTERIOR,
    "posterior": View.POSTERIOR,
}
# Words with other meanings too: post injection, back pain, frontal bone.
_GUESSES = {
    "post": View.POSTERIOR,
    "pst": View.POSTERIOR,
    "back": View.POSTERIOR,
    "dorsal": View.POSTERIOR,
    "front": View.ANTERIOR,
    "frontal": View.ANTERIOR,
    "ventral": View.ANTERIOR,
}
# What may stand beside a view without giving its word another meaning.
_NEUTRAL = {"view", "views", "projection", "proj", "image", "img", "images", "wb", "whole", "body", "wholebody"} | {
    "bone",
    "scan",
    "scans",
    "planar",
    "static",
    "camera",
    "detector",
    "det",
    "nm",
    "counts",
    "mask",
    "label",
    "seg",
}
_UNITS_OF_TIME = {"h", "hr", "hrs", "hour", "hours", "std", "min", "mins", "minutes", "d", "day", "days"} | {
    "week",
    "weeks",
    "month",
    "months",
}
# `pos` is positive as often as posterior: it names no view, but two views of a patient may differ in it.
_STRIPPED = {*_CERTAIN, *_GUESSES, "pos"}
# A view from the side or aslant is neither, whatever else its name says.
_SIDE = {"left", "right"}
_OTHER = {"lat", "lats", "lateral", "laterals", "llat", "rlat", "oblique", "obl", "lao", "rao", "lpo", "rpo"}
_INITIALS = {"A": View.ANTERIOR, "P": View.POSTERIOR}


def view_of_text(text: str) -> View:
    """View named in free text such as `WB_ANT`, `wholeBodyPOST` or `Posterior projection`; UNKNOWN if none or both."""
    return view_and_guess(text)[0]


def view_and_guess(text: str) -> tuple[View, str]:
    """The view of `view_of_text`, and the word that it rests on where that word has other meanings too.

    `post` counts where nothing but words such as `view` follows and no time goes before (`3h post injection`,
    `POST CHEMO`), `back`, `front` and their like where nothing but such words stands beside them.
    """
    words = [word.lower() for word in _words(text)]
    if set(words) & (_OTHER | _SIDE):
        return View.UNKNOWN, ""
    certain = {_CERTAIN[word] for word in words if word in _CERTAIN}
    guesses = {word: _GUESSES[word] for number, word in enumerate(words) if _may_be_a_view(words, number)}
    found = certain | set(guesses.values())
    if len(found) != 1:
        return View.UNKNOWN, ""
    return found.pop(), "" if certain else next(iter(guesses))


def _may_be_a_view(words: list[str], number: int) -> bool:
    """Whether one of `_GUESSES` can be meant as a view, by the words around it."""
    word = words[number]
    if word not in _GUESSES:
        return False
    before, behind = words[:number], words[number + 1 :]
    beside = behind if word in ("post", "pst") else before + behind
    return set(beside) <= _NEUTRAL | _GUESSES.keys() | _CERTAIN.keys() and not (set(before[-1:]) & _UNITS_OF_TIME)


def other_projection(text: str) -> str:
    """The word by which a text names a lateral or oblique view; empty if there is none."""
    return next((word for word in _words(text) if word.lower() in _OTHER), "")


def file_view_and_guess(stem: str, folder: str = "") -> tuple[View, str]:
    """As `view_and_guess`, of a file name, else of its folder's; the letter of `A12` or `P12` alone says nothing."""
    found = view_and_guess(stem)
    return found if found[0] != View.UNKNOWN else view_and_guess(folder)


def guess_note(word: str) -> tuple[str, ...]:
    """The sentence that names a guess of `view_and_guess`; none without one."""
    return (f'view taken from the word "{word}"; --view= settles it',) if word else ()


def without_view(stem: str, folder: str = "") -> str:
    """File name without the words of its view, so that both views of a patient share it.

    In a folder named after a view its initial is such a word: `Anterior/A12` and `Posterior/P12` as in the set of
    IICS-UNA. Elsewhere `P12` is a name of its own: of a patient, more often than not.
    """
    if (match := re.fullmatch(r"([AP])\d+", stem)) and view_of_text(folder) == _INITIALS[match[1]]:
        return stem[1:]
    return _WORD.sub(lambda match: "" if match[0].lower() in _STRIPPED else match[0], stem)


_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def _words(text: str) -> list[str]:
    """Splits at everything that is no letter and where lower case turns to upper."""
    return _WORD.findall(text)
