"""What gives access to a Label Studio server: its URL and a token, checked before use.

A personal access token is a JSON web token (RFC 7519) that is good for years and only buys
access tokens, each good for minutes; a legacy token goes along with every request as it is.
"""

from __future__ import annotations

import os
import re
from base64 import urlsafe_b64decode
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from labelkit.errors import InvalidInput, ServiceError
from labelkit.files import parse_json, refuse_special
from labelkit.label_studio.bounds import receive
from labelkit.label_studio.failures import NEW_TOKEN, Failures, read_json
from labelkit.progress import say

if TYPE_CHECKING:
    import httpx

# An access token is renewed so long before its end: it must not end on its way to the server.
EARLY = timedelta(seconds=30)


class Credentials:
    """What authorises requests to a server as one user of it, from any thread.

    Args:
        http: Sends what renews the access token.
        url: Where Label Studio is served, with a slash at its end.
        token: A personal access token, or a legacy one.
        failures: Makes errors of what the server answers.
        deadline_s: How long to wait for a new access token, in seconds.

    Raises:
        ServiceError: If the token has expired, or does not say when it ends.
    """

    def __init__(
        self,
        http: httpx.Client,
        url: str,
        token: str,
        failures: Failures,
        *,
        deadline_s: float = 60.0,
    ) -> None:
        self._deadline_s = deadline_s
        self._http, self._url, self._token, self._failures = http, url, token, failures
        self._access_token, self._ends_at = "", datetime.min.replace(tzinfo=UTC)
        self._lock = Lock()
        claims = _read_claims(token)
        self._is_legacy = claims is None
        if claims is not None:
            self._check_end(claims)

    def header(self, what: str) -> str:
        """Return the value of the header Authorization, with an access token that is not ending.

        Args:
            what: What is asked with it, as it follows "cannot".

        Raises:
            ServiceError: If the server does not renew the access token.
        """
        if self._is_legacy:
            return f"Token {self._token}"
        with self._lock:
            if self._ends_at - datetime.now(UTC) < EARLY:
                self._renew(what)
            return f"Bearer {self._access_token}"

    def _check_end(self, claims: dict[str, Any]) -> None:
        end = _end(claims)
        if end is None:
            problem = "the token does not say when it ends"
        elif end < datetime.now(UTC):
            problem = "the token has expired"
        else:
            return
        raise ServiceError(f"cannot log in to {self._url}: {problem}; {NEW_TOKEN}")

    def _renew(self, what: str) -> None:
        # Whatever goes wrong here, what is asked was not sent yet.
        with self._failures.catch(what):
            answer = receive(
                self._http, "POST", f"{self._url}api/token/refresh/",
                deadline_s=self._deadline_s, json={"refresh": self._token},
            )  # fmt: skip
        body = read_json(answer)
        access_token = body.get("access") if isinstance(body, dict) else None
        if answer.status_code != 200 or not isinstance(access_token, str):
            raise self._failures.explain(what, answer)
        # Of one that does not say when it ends nothing is known: it serves this request only.
        end = _end(_read_claims(access_token) or {})
        self._access_token = access_token
        self._ends_at = end or datetime.min.replace(tzinfo=UTC)


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
    refuse_special(file)
    try:
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise InvalidInput(f"cannot read the token file {file}: {reason}; {NEW_TOKEN}") from None
    if file.stat().st_mode & 0o077:
        say(f"the token file {file} can be read by others; chmod 600 it")
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
    well = re.fullmatch(r"https?://[^\s?#\\]+", url, re.IGNORECASE) and url.isprintable()
    if not host or not well:
        raise InvalidInput(
            f"{url!r} is no URL of Label Studio; give it like http://localhost:8080 or "
            "https://example.org/label-studio"
        )
    return url.rstrip("/") + "/"


def find_origin(url: str) -> str:
    """Return scheme, host and port as browsers compare them.

    Example:
        >>> find_origin("HTTPS://Example.org:443/ls/")
        'https://example.org'
    """
    parts = urlsplit(url)
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = "" if parts.port in (None, usual) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def is_loopback(url: str) -> bool:
    """Tell whether a URL stays on this machine.

    Example:
        >>> [is_loopback(url) for url in ("http://localhost:8080", "http://[::1]/", "http://a.b")]
        [True, True, False]
    """
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _read_claims(token: str) -> dict[str, Any] | None:
    """Return what a JSON web token says of itself, unverified; None where it is none."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        header, claims = (parse_json(urlsafe_b64decode(f"{part}==")) for part in parts[:2])
    except ValueError:
        return None
    return claims if isinstance(header, dict) and isinstance(claims, dict) else None


def _end(claims: dict[str, Any]) -> datetime | None:
    """Return when a token ends; None where it does not say it, or names no time."""
    try:
        return datetime.fromtimestamp(claims["exp"], UTC)
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return None
