"""A failed request as one line: what was asked, what went wrong, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from labelkit.errors import InvalidInput, ServiceError

if TYPE_CHECKING:
    import httpx

NEW_TOKEN = (
    "make a personal access token in Label Studio (Account & Settings > Personal Access Token) and "
    "put it into LABEL_STUDIO_API_KEY or a file"
)
DOUBT = "; Label Studio may have carried it out all the same"
_SECRET = re.compile(r"eyJ[\w-]+\.[\w.-]+|(?:sessionid|csrftoken)\S*", re.IGNORECASE)


class Failures:
    """Failed requests to a server, each as one error without token, cookie or web page.

    Args:
        url: Where Label Studio is served, with a slash at its end.
        token: What no line may hold.

    Example:
        >>> import httpx
        >>> answer = httpx.Response(404, json={"detail": "No Task matches the given query."})
        >>> print(Failures("http://localhost:8080/", "abc").explain("change task 3", answer))
        cannot change task 3: http://localhost:8080/ answered 404, No Task matches the given
        query; it is gone, or of an organisation that the token's user is not in; a new project
        is made with labelkit review init
    """

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._token = token

    @contextmanager
    def catch(self, what: str, where: str = "", *, once: bool = False) -> Iterator[None]:
        """Turn whatever httpx raises into one line without what it holds.

        Args:
            what: What is asked, as it follows "cannot".
            where: Who is asked, by default Label Studio.
            once: Whether it creates something, so that a lost reply leaves a doubt.

        Raises:
            ServiceError: If the request fails.
            InvalidInput: If it cannot be sent as it is.
        """
        import httpx

        where = where or self._url
        doubt = DOUBT if once else ""
        try:
            yield
        except httpx.TimeoutException as error:
            doubt = "" if isinstance(error, httpx.ConnectTimeout) else doubt
            failure = f"{where} did not answer in time; see whether it is busy and try again{doubt}"
        except httpx.ConnectError as error:
            advice = "see that it is running there"
            if where == self._url:
                advice += f": {self._url}health opens in a browser"
            if "CERTIFICATE" in str(error).upper():
                advice = "name the file of its certificate authority in SSL_CERT_FILE"
            failure = f"no connection to {where} ({self._clean(str(error))}); {advice}"
        except (httpx.InvalidURL, httpx.UnsupportedProtocol):
            failure = f"{where} is no http or https URL; correct it"
        except httpx.HTTPError as error:
            reason = self._clean(str(error)) or type(error).__name__
            failure = f"the connection to {where} failed ({reason}); try again{doubt}"
        except (TypeError, ValueError, OverflowError) as error:
            raise InvalidInput(
                f"cannot {what}: a value cannot be sent ({self._clean(str(error))}); correct it"
            ) from None
        else:
            return
        raise ServiceError(f"cannot {what}: {failure}") from None

    def explain(
        self, what: str, answer: httpx.Response, *, hint: str = "", once: bool = False
    ) -> ServiceError:
        """Make the error for an answer that is not the one asked for.

        Args:
            what: What was asked, as it follows "cannot".
            answer: The response.
            hint: What to do where the server finds fault with the request itself.
            once: Whether it may have created something.

        Returns:
            The error, for the caller to raise.
        """
        status, body = answer.status_code, read_json(answer)
        detail = self._clean(_first_problem(body))
        if answer.is_redirect:
            there = answer.headers.get("location", "").partition("?")[0]
            reply, advice = f", a redirect to {self._clean(there)}", "give the URL it leads to"
        elif body is None:
            reply, advice = " with no JSON", _advise_page(self._url, status)
        elif answer.is_success:
            reply, advice = " with JSON that is not Label Studio's", "see that this is its URL"
        else:
            reply = f", {detail}" if detail else ""
            advice = hint if hint and status == 400 else _advise(self._url, status, detail)
        doubt = DOUBT if once and status >= 500 else ""
        return ServiceError(f"cannot {what}: {self._url} answered {status}{reply}; {advice}{doubt}")

    def _clean(self, text: str) -> str:
        """Return one short line of what a server said, with no full stop, page, token or cookie."""
        if re.search("<html|<!doctype", text, re.IGNORECASE):
            return ""
        text = _SECRET.sub("[hidden]", text.replace(self._token, "[hidden]"))
        text = " ".join(text.split()).rstrip(".")
        return text if len(text) <= 300 else f"{text[:299]}…"


def _advise(url: str, status: int, detail: str) -> str:
    """Say what to do about a status; ``detail`` is what Label Studio said of it."""
    detail = detail.lower()
    if status == 401:
        legacy = "this is a legacy token; " if "legacy" in detail else ""
        clock = "set this machine's clock, or " if "not valid" in detail else ""
        return f"{legacy}{clock}{NEW_TOKEN}"
    if status == 403:
        if "reserved network" in detail:
            return "start Label Studio with SSRF_PROTECTION_ENABLED=false, or use another address"
        return "the token's user may not do this: use the token of one who may"
    if status == 404:
        return (
            "it is gone, or of an organisation that the token's user is not in; a new project is "
            "made with labelkit review init"
        )
    if status == 429:
        return "wait a minute and try again"
    if status >= 500:
        return f"look into Label Studio's log, see {url}health, and try again"
    return "correct what was sent and try again"


def _advise_page(url: str, status: int) -> str:
    """Say what to do about a web page where JSON was expected."""
    if status == 404:
        return f"the project is gone, or Label Studio is not at this URL: see {url}health"
    if status == 413:
        return "send less at a time, or raise the limit of the proxy before it"
    if status >= 500:
        return f"see that Label Studio runs behind its proxy, look into its log, see {url}health"
    return "see that this is Label Studio's URL, with its sub-path, and no proxy's login page"


def read_json(answer: httpx.Response) -> Any:
    """Return a response's body, an empty dict where nothing came, None where it is no JSON."""
    if answer.status_code == 204:
        return {}
    try:
        return answer.json()
    except (ValueError, RecursionError):
        return None


def _first_problem(body: object) -> str:
    """Return the first validation error with the field it is about, or else the detail."""
    if not isinstance(body, dict):
        return ""
    errors = body.get("validation_errors")
    for field, value in errors.items() if isinstance(errors, dict) else [("", errors)]:
        if text := _first_text(value):
            return text if field in ("", "non_field_errors") else f"{field}: {text}"
    return _first_text(body.get("detail"))


def _first_text(value: object) -> str:
    """Return the first text in nested lists and dicts."""
    if isinstance(value, str):
        return value
    parts = value.values() if isinstance(value, dict) else value
    return next(filter(None, map(_first_text, parts)), "") if isinstance(parts, Iterable) else ""
