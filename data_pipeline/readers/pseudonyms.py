"""Names for patients that only the owner of a key can trace back."""

from __future__ import annotations

import contextlib
import contextvars
import hashlib
import hmac
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from data_pipeline.errors import RequestError
from data_pipeline.reading import read_text

KEY_FILE = "pseudonym.key"


_KEY_CHARACTERS_MIN = 8


def read_or_draw_key(file: Path | None) -> tuple[str, bool]:
    """Key of the pseudonyms, and whether it was drawn here and must be kept with the set.

    Args:
      file: of the user; without it, the environment's key, else a new one.

    Raises:
      RequestError: the file cannot be read or is too short to keep a secret.
    """
    if file is None:
        own = os.environ.get(KEY_VARIABLE)
        return (own, False) if own else (secrets.token_hex(32), True)
    try:
        key = read_text(file, remedy="name a text file").strip()
    except RequestError as error:
        raise RequestError(f"--key-file={error}") from None
    if len(key) < _KEY_CHARACTERS_MIN:
        raise RequestError(f"--key-file={file}: {len(key)} characters are no secret; use 32 or more random ones")
    return key, False


KEY_VARIABLE = "MSANET_PSEUDONYM_KEY"
"""Environment variable with a site's own key for pseudonyms."""


_DEFAULT_KEY = "msanet-jax"


_key: contextvars.ContextVar[str | None] = contextvars.ContextVar("pseudonym key", default=None)


def pseudonym(identity: str) -> str:
    """Names a patient without saying who it is: HMAC-SHA256 of the identity, 12 hexadecimal digits.

    A patient has the same pseudonym in every file. Short patient numbers can be guessed back by whoever knows the key:
    set `MSANET_PSEUDONYM_KEY` to a secret of your own before results leave the hospital.
    """
    return "p" + keyed_digest(identity).hex()[:12]


def keyed_digest(identity: str) -> bytes:
    """HMAC-SHA256 of `identity` under the site's key, 32 bytes."""
    return hmac.new(
        (own_key() or _DEFAULT_KEY).encode(), identity.encode("utf-8", "surrogateescape"), hashlib.sha256
    ).digest()


def own_key() -> str | None:
    """The site's own key of pseudonyms; None where they are made with the one that everybody can read here."""
    return _key.get() or os.environ.get(KEY_VARIABLE) or None


@contextlib.contextmanager
def pseudonym_key(key: str) -> Iterator[None]:
    """Within the context, pseudonyms are made with `key`, whatever the environment says."""
    token = _key.set(key)
    try:
        yield
    finally:
        _key.reset(token)
