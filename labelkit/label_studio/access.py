"""What gives access to a Label Studio server: its URL and a token, checked before use."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from labelkit.errors import InvalidInput
from labelkit.label_studio.failures import NEW_TOKEN


def read_token(file: Path | None = None) -> str:
    """Read the token for Label Studio from a file or the environment.

    Args:
        file: Where the token lies; without it LABEL_STUDIO_API_KEY counts, then the file that
            LABEL_STUDIO_API_KEY_FILE names.

    Returns:
        The token.

    Raises:
        InvalidInput: If there is none, or it cannot be read or be a token.
    """
    if file is None:
        token = os.environ.get("LABEL_STUDIO_API_KEY", "").strip()
        if token:
            return check_token(token, "LABEL_STUDIO_API_KEY")
        named = os.environ.get("LABEL_STUDIO_API_KEY_FILE", "").strip()
        if not named:
            raise InvalidInput(f"there is no token for Label Studio: {NEW_TOKEN}")
        file = Path(named).expanduser()
    try:
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise InvalidInput(f"cannot read the token file {file}: {reason}; {NEW_TOKEN}") from None
    return check_token(token, f"the token file {file}")


def check_token(token: str, source: str = "the token") -> str:
    """Return the token, if it can be one.

    Raises:
        InvalidInput: If it is empty or holds what no token has; it is not in the message.
    """
    if not token.strip():
        raise InvalidInput(f"{source} is empty; {NEW_TOKEN}")
    if not re.fullmatch("[!-~]+", token):
        raise InvalidInput(
            f"{source} holds blanks, line breaks or letters that no token has; copy the token alone"
        )
    return token


def check_url(url: str) -> str:
    """Return the URL with one slash at its end: without it a sub-path would be lost.

    Raises:
        InvalidInput: If it is no http or https URL, or holds a user name or password.
    """
    url = url.strip()
    try:
        parts = urlsplit(url)
        # A port that is no number raises.
        host = parts.hostname if parts.port != 0 else None
    except ValueError:
        host = None
    if "@" in url:
        raise InvalidInput("the URL of Label Studio holds a user name or password; leave it out")
    if not host or not re.fullmatch(r"https?://[^\s?#\\]+", url, re.IGNORECASE):
        raise InvalidInput(
            f"{url!r} is no URL of Label Studio; give it like http://localhost:8080 or "
            "https://example.org/label-studio"
        )
    return url.rstrip("/") + "/"
