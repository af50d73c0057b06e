"""Access tokens and requests that are sent again, without a server."""

import json
import time
from base64 import urlsafe_b64encode
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from threading import Barrier

import httpx
import pytest

from labelkit.errors import ServiceError
from labelkit.label_studio import retries
from labelkit.label_studio.access import Credentials
from labelkit.label_studio.client import Client
from labelkit.label_studio.failures import Failures

URL = "http://localhost:8080/ls/"


def make_token(**claims):
    parts = [{"alg": "none"}, claims, {}]
    return ".".join(urlsafe_b64encode(json.dumps(part).encode()).decode() for part in parts)


TOKEN = make_token(exp=2**33)


class Tokens:
    """A server that sells access tokens of so many seconds; ``renewals`` counts them."""

    def __init__(self, lives_s=300.0):
        self.lives_s, self.renewals = lives_s, 0
        self.http = httpx.Client(transport=httpx.MockTransport(self.answer))
        self.credentials = Credentials(self.http, URL, TOKEN, Failures(URL, TOKEN))

    def answer(self, request):
        assert (request.method, str(request.url)) == ("POST", f"{URL}api/token/refresh/")
        assert json.loads(request.content) == {"refresh": TOKEN}
        self.renewals += 1
        time.sleep(0.02)
        claims = {} if self.lives_s is None else {"exp": time.time() + self.lives_s}
        return httpx.Response(200, json={"access": make_token(n=self.renewals, **claims)})


@pytest.mark.parametrize(
    ("lives_s", "renewals"), [(300.0, 1), (35.0, 1), (25.0, 3), (-5.0, 3), (None, 3)]
)
def test_an_access_token_is_used_until_shortly_before_its_end(lives_s, renewals):
    tokens = Tokens(lives_s)
    headers = {tokens.credentials.header("ask") for _ in range(3)}
    assert tokens.renewals == len(headers) == renewals
    assert all(header.startswith("Bearer ey") for header in headers)


def test_threads_that_ask_at_once_renew_once():
    tokens, start = Tokens(), Barrier(8)

    def ask(_):
        start.wait()
        return tokens.credentials.header("ask")

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(ask, range(8)))) == 1
    assert tokens.renewals == 1


@pytest.mark.parametrize("token", ["0" * 40, "a.b.c", "YQ.YQ.YQ", "bnVsbA.bnVsbA.bnVsbA", "é.é.é"])
def test_what_is_no_json_web_token_goes_along_as_it_is(token):
    credentials = Credentials(httpx.Client(), URL, token, Failures(URL, token))
    assert credentials.header("ask") == f"Token {token}"


@pytest.mark.parametrize(
    ("claims", "problem"),
    [
        ({"exp": 10**9}, "the token has expired"),
        *(
            (claims, "the token does not say when it ends")
            for claims in ({}, {"exp": None}, {"exp": "soon"}, {"exp": 10**18}, {"exp": 10**30})
        ),
    ],
)
def test_a_token_that_cannot_be_used_is_refused_before_it_is_sent(claims, problem):
    token = make_token(**claims)
    with pytest.raises(ServiceError) as caught:
        Credentials(httpx.Client(), URL, token, Failures(URL, token))
    message = str(caught.value)
    assert message.startswith(f"cannot log in to {URL}: {problem}; make a personal access token")
    assert token not in message


def refuse(error):
    def answer(request):
        raise error("no way there", request=request)

    return answer


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            lambda request: httpx.Response(401, json={"detail": "It is blacklisted"}),
            "blacklisted",
        ),
        (lambda request: httpx.Response(200, text="<html>"), "with no JSON"),
        (lambda request: httpx.Response(302, headers={"Location": "http://x/"}), "a redirect to"),
        (lambda request: httpx.Response(200, json={}), "not Label Studio's"),
        (lambda request: httpx.Response(200, json={"access": 7}), "not Label Studio's"),
        (lambda request: httpx.Response(200, json=[]), "not Label Studio's"),
        (refuse(httpx.ConnectError), "no connection to"),
        (refuse(httpx.ReadTimeout), "did not answer in time"),
    ],
)
def test_a_renewal_that_fails_is_one_line_and_nothing_else_is_sent(answer, said):
    sent = []

    def note(request):
        sent.append(request.url.path)
        return answer(request)

    http = httpx.Client(transport=httpx.MockTransport(note))
    credentials = Credentials(http, URL, TOKEN, Failures(URL, TOKEN))
    with pytest.raises(ServiceError) as caught:
        credentials.header("import tasks")
    message = str(caught.value)
    assert message.startswith("cannot import tasks: ") and said in message
    # What was asked never went out, so that nothing can have come of it.
    assert "carried it out" not in message and TOKEN not in message and "\n" not in message
    assert sent == ["/ls/api/token/refresh/"]


@pytest.mark.parametrize(
    ("method", "times"), [("GET", 3), ("PATCH", 3), ("DELETE", 3), ("POST", 1)]
)
def test_only_what_creates_is_sent_once(method, times, pauses, monkeypatch):
    sent = []

    def answer(request):
        if request.url.path.endswith("refresh/"):
            return httpx.Response(200, json={"access": make_token(exp=2**33)})
        sent.append(request.method)
        return httpx.Response(503, json={"detail": "later"})

    monkeypatch.setattr(
        httpx, "Client", partial(httpx.Client, transport=httpx.MockTransport(answer))
    )
    client = Client(URL, TOKEN)
    with pytest.raises(ServiceError, match="answered 503") as caught:
        client._ask("do it", method, "api/projects/")
    assert sent == [method] * times and len(pauses) == times - 1
    assert ("carried it out" in str(caught.value)) == (method == "POST")


class Flaky:
    """Answers one thing after the other: statuses, and errors to raise."""

    def __init__(self, *answers, **headers):
        self.answers, self.headers, self.sent = list(answers), headers, 0

    def __call__(self):
        self.sent += 1
        answer = self.answers.pop(0)
        if isinstance(answer, int):
            return httpx.Response(answer, headers=self.headers)
        raise answer


@pytest.fixture
def pauses(monkeypatch):
    slept = []
    monkeypatch.setattr("labelkit.label_studio.retries.time.sleep", slept.append)
    return slept


REFUSED, CUT_OFF = httpx.ConnectError("refused"), httpx.RemoteProtocolError("cut off")


@pytest.mark.parametrize(
    ("answers", "sent"),
    [
        ([200], 1), ([404], 1), ([302], 1), ([500, 200], 2), ([502, 503, 200], 3),
        ([500, 500, 500, 200], 3), ([408, 409, 429, 200], 3), ([REFUSED, 200], 2),
        ([CUT_OFF, 500, 404], 3),
    ],
)  # fmt: skip
def test_what_may_pass_is_sent_three_times(answers, sent, pauses):
    flaky = Flaky(*answers)
    assert retries.send(flaky, retries=2).status_code == answers[sent - 1]
    assert flaky.sent == sent and len(pauses) == sent - 1
    for attempt, pause in enumerate(pauses):
        assert 0.9 * 2**attempt <= pause <= 1.1 * 2**attempt


@pytest.mark.parametrize("error", [REFUSED, CUT_OFF])
def test_an_error_that_stays_is_raised(error, pauses):
    flaky = Flaky(error, error, error, 200)
    with pytest.raises(type(error)):
        retries.send(flaky, retries=2)
    assert flaky.sent == 3


@pytest.mark.parametrize("error", [httpx.ReadTimeout("late"), httpx.ReadError("gone")])
def test_other_errors_are_raised_at_once(error, pauses):
    flaky = Flaky(error, 200)
    with pytest.raises(type(error)):
        retries.send(flaky, retries=2)
    assert flaky.sent == 1 and not pauses


@pytest.mark.parametrize("answer", [500, REFUSED])
def test_without_retries_a_request_is_sent_once(answer, pauses):
    flaky = Flaky(answer, 200)
    if isinstance(answer, int):
        assert retries.send(flaky, retries=0).status_code == answer
    else:
        with pytest.raises(httpx.ConnectError):
            retries.send(flaky, retries=0)
    assert flaky.sent == 1 and not pauses


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("7", 7, 7), ("100", 60, 60), ("0", 0.9, 1.1), ("-3", 0.9, 1.1), ("soon", 0.9, 1.1),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.9, 1.1), ("", 0.9, 1.1),
        ("Wed, 21 Oct 2099 07:28:00 GMT", 60, 60),
        ("Wed, 21 Oct 9999 23:28:00 -2359", 60, 60), ("Wed, 21 Oct 0001 00:00:00 +2359", 0.9, 1.1),
    ],
)  # fmt: skip
def test_a_server_says_how_long_to_wait(text, low, high, pauses):
    retries.send(Flaky(429, 200, **{"Retry-After": text}), retries=2)
    assert len(pauses) == 1 and low <= pauses[0] <= high


def test_a_date_without_a_zone_is_of_greenwich():
    soon = (datetime.now(UTC) + timedelta(seconds=30)).strftime("%a, %d %b %Y %H:%M:%S -0000")
    pause = retries.pause_s(0, httpx.Response(503, headers={"Retry-After": soon}))
    assert 25 < pause <= 30
