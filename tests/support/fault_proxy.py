"""A reverse proxy in front of a real server that fails in the ways that networks do.

    with fault_proxy(server.url) as proxy:
        proxy.fail("POST", "/import", drop)
        ...
        assert proxy.count("POST", "/import") == 1

A fault is a function of the request; it answers it, or not.
"""

import http.client
import re
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

# What holds for one connection only.
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host"}


@dataclass(frozen=True)
class Seen:
    """A request as it came in; ``headers`` under small letters."""

    method: str
    path: str
    headers: dict


class Request(BaseHTTPRequestHandler):
    """One request, for faults: :meth:`ask` the real server, :meth:`reply`, :meth:`hang_up`."""

    def handle_any(self):
        proxy = self.server.proxy
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        fault = proxy.note(Seen(self.command, self.path, headers))
        if not self.path.startswith(proxy.prefix + "/"):
            fault = html(404)
        (fault or forward)(self)

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = do_OPTIONS = handle_any

    def ask(self):
        """The real server's status, headers and body."""
        target = urlsplit(self.server.proxy.target)
        connection = http.client.HTTPConnection(target.hostname, target.port, timeout=60)
        kept = {k: v for k, v in self.headers.items() if k.lower() not in HOP_BY_HOP}
        path = self.path.removeprefix(self.server.proxy.prefix)
        try:
            connection.request(self.command, path, self.body or None, kept)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def reply(self, status, headers, body):
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def hang_up(self):
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_):
        """Nothing: a test's output is its own."""


def forward(request):
    """No fault."""
    request.reply(*request.ask())


def drop(request):
    """The server does it, its reply is lost."""
    request.ask()
    request.hang_up()


def bad_gateway(request):
    """The server does it, the proxy says 502."""
    request.ask()
    html(502)(request)


def html(status):
    """A proxy's own page, with the cookies such pages set."""
    page = b"<!doctype html><html><body>Please log in, csrftoken=abc</body></html>"
    cookies = [("Content-Type", "text/html"), ("Set-Cookie", "sessionid=secret; HttpOnly")]
    return lambda request: request.reply(status, cookies, page)


def json(status, text):
    """Some other service's answer."""
    kind = [("Content-Type", "application/json")]
    return lambda request: request.reply(status, kind, text.encode())


def redirect(url):
    """Sends on to somewhere else."""
    return lambda request: request.reply(302, [("Location", url)], b"")


def delay(seconds):
    """Answers late."""

    def fault(request):
        time.sleep(seconds)
        forward(request)

    return fault


def rewrite(pattern, replacement):
    """Asks the server for something else."""

    def fault(request):
        request.path = re.sub(pattern, replacement, request.path)
        forward(request)

    return fault


class FaultProxy:
    """The proxy's address, what it saw, and what is to fail."""

    def __init__(self, url, target, prefix):
        self.url, self.target, self.prefix = url + prefix, target, prefix
        self.seen, self._faults, self._lock = [], [], threading.Lock()

    def fail(self, method, pattern, fault, times=1):
        """Let the next requests of this method and a path with this pattern fail."""
        with self._lock:
            self._faults += [(method, pattern, fault)] * times

    def count(self, method, pattern):
        """How many such requests came."""
        with self._lock:
            return sum(_fits(one, method, pattern) for one in self.seen)

    def note(self, seen):
        """Keep a request; the fault that waits for it, if any, which is used up."""
        with self._lock:
            self.seen.append(seen)
            for index, (method, pattern, fault) in enumerate(self._faults):
                if _fits(seen, method, pattern):
                    del self._faults[index]
                    return fault
        return None


def _fits(seen, method, pattern):
    return seen.method == method and re.search(pattern, seen.path) is not None


@contextmanager
def fault_proxy(target, prefix=""):
    """A proxy on a free loopback port; under ``prefix`` (``/ls``) only, if one is given."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Request)
    proxy = server.proxy = FaultProxy(f"http://127.0.0.1:{server.server_port}", target, prefix)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
