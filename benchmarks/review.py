"""What the bridge to Label Studio adds to the server's own time, and its memory.

python benchmarks/review.py [--print]

Needs a Label Studio: `make label-studio`, or the one LABELKIT_LABEL_STUDIO names. Each figure
is of a whole `labelkit` command, from the start of its process to the end.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from report import machine, write_section

sys.path.append(str(Path(__file__).parent.parent))
from labelkit.label_studio.client import Client
from tests.support.label_studio_server import (  # type: ignore[import-not-found]
    Server,
    answer,
    running_server,
)

CLIPS, CLASSES, RUNS = 10_000, 80, 3
FEW, MANY = 1_000, CLIPS
SAMPLES, RATE = 800, 8_000
# Tasks of one request when answers are made.
BATCH = 1_000


@dataclass(frozen=True)
class Cost:
    """Seconds of a command, those it waited for the server, its requests and its peak MB."""

    whole: float
    waited: float
    requests: int
    peak: float

    @property
    def own(self) -> float:
        """Seconds over the server's own."""
        return self.whole - self.waited


class Waiting:
    """Seconds during which at least one request is under way, by every client of httpx."""

    def __init__(self) -> None:
        self.seconds, self.requests = 0.0, 0
        self._under_way, self._since = 0, 0.0
        self._lock = threading.Lock()
        self._ask = httpx.HTTPTransport.handle_request

    def install(self) -> None:
        """Take the time of all requests from now on, until their last byte is here."""

        def timed(transport: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
            self._begin()
            try:
                got = self._ask(transport, request)
                body = b"".join(got.stream)  # type: ignore[arg-type]
                got.close()
            finally:
                self._end()
            stream = httpx.ByteStream(body)
            return httpx.Response(got.status_code, headers=got.headers, stream=stream)

        httpx.HTTPTransport.handle_request = timed  # type: ignore[assignment,method-assign]

    def _begin(self) -> None:
        with self._lock:
            self.requests += 1
            if not self._under_way:
                self._since = time.perf_counter()
            self._under_way += 1

    def _end(self) -> None:
        with self._lock:
            self._under_way -= 1
            if not self._under_way:
                self.seconds += time.perf_counter() - self._since


def child(file: str, *words: str) -> None:
    """Run a command of labelkit in this process; write what it waited and its peak memory."""
    from labelkit.cli import cli

    waiting = Waiting()
    waiting.install()
    try:
        cli(words, prog_name="labelkit")
    finally:
        # Unlike the maximum of getrusage it owes nothing to the process that started this one.
        peak = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
        assert peak is not None
        found = [waiting.seconds, waiting.requests, int(peak[1]) / 1024]
        Path(file).write_text(json.dumps(found))


def measure(project: Path, *words: str) -> Cost:
    """Cost of a command of labelkit in a process of its own."""
    file = project / "cost.json"
    command = [sys.executable, __file__, "--child", str(file), "-C", str(project), *words]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    whole = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"labelkit {' '.join(words)} ended with {done.returncode}: {done.stderr}")
    waited, requests, peak = json.loads(file.read_text())
    return Cost(whole, waited, requests, peak)


def labelkit(project: Path, *words: str) -> str:
    """What a command of labelkit prints."""
    command = [str(Path(sys.executable).with_name("labelkit")), "-C", str(project), *words]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"labelkit {' '.join(words)} ended with {done.returncode}: {done.stderr}")
    return done.stdout


def make_project(root: Path, audio: Path) -> None:
    """Make a project of 10,000 short recordings with labels, probabilities and scores."""
    import soundfile

    rng = np.random.default_rng(0)
    (audio / "clips").mkdir(parents=True)
    root.mkdir()
    classes = [f"Class_{number:02d}" for number in range(CLASSES)]
    paths = [f"clips/{number:05d}.wav" for number in range(CLIPS)]
    given = rng.integers(0, CLASSES, CLIPS)
    for path in paths:
        soundfile.write(audio / path, rng.uniform(-0.1, 0.1, SAMPLES), RATE)
    rows = [(path, classes[label]) for path, label in zip(paths, given, strict=True)]
    with (root / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label"), *rows])
    probs = rng.dirichlet(np.full(CLASSES, 0.1), CLIPS)
    right = rng.random(CLIPS) < 0.7
    probs[right] *= 0.4
    probs[right, given[right]] += 0.6
    np.savez(root / "probs.npz", paths=paths, classes=classes, probs=probs)
    labelkit(root, "init", str(audio))
    columns = ["--path-column", "path", "--label-column", "label"]
    words = ["--format", "csv", *columns, "--metadata-only"]
    labelkit(root, "import", str(root / "labels.csv"), *words)
    labelkit(root, "score", "--probs", str(root / "probs.npz"), "--method", "lwlrap")


class Bench:
    """A server and a project, of which every measurement gets a fresh copy."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.client = Client(server.url, server.token)
        self.prepared = folder / "project"
        make_project(self.prepared, server.documents / "audio")

    def start(self, title: str) -> tuple[Path, int]:
        """A copy of the project, and the id of a new project in Label Studio for it."""
        project = self.folder / title.replace(" ", "_")
        shutil.copytree(self.prepared, project)
        labelkit(project, "review", "init", "--url", self.server.url, "--project", title)
        return project, self.client.find_projects(title)[0]["id"]

    def push(self, title: str, n: int) -> tuple[Cost, Cost, int]:
        """Cost of a push and of the same again, and the project in Label Studio."""
        project, project_id = self.start(title)
        costs = [measure(project, "push", "--lowest-lwlrap", str(n)) for _ in range(2)]
        found = self.client.count_tasks(project_id)
        if found != n:
            raise SystemExit(f"{title}: {found} tasks instead of {n}")
        return costs[0], costs[1], project_id

    def pull(self, title: str, n: int, pushed: int) -> tuple[Cost, Cost]:
        """Cost of a pull of answers to pushed tasks, and of another without any new ones."""
        project, project_id = self.start(title)
        self.answer(pushed, project_id, n)
        costs = measure(project, "pull"), measure(project, "pull")
        said = labelkit(project, "query", "select count(*) as n from reviews", "--json")
        found = json.loads(said)[0]["n"]
        if found != n:
            raise SystemExit(f"{title}: {found} answers instead of {n}")
        return costs

    def answer(self, source: int, target: int, n: int) -> None:
        """Make the tasks of one project anew in another, with an answer of a person each.

        Label Studio has no other way to take many answers at once.
        """
        rng = np.random.default_rng(1)
        tasks = [
            {"data": task["data"], "annotations": [self.annotation(task["data"]["given"], rng)]}
            for page in self.client.pages(source, include="id,data", size=BATCH)
            for task in page
        ]
        for start in range(0, n, BATCH):
            self.client.import_tasks(target, tasks[start : start + BATCH])

    @staticmethod
    def annotation(given: str, rng: np.random.Generator) -> dict[str, Any]:
        """Seven answers in ten keep the label, two change it, and one is none of both."""
        draw, other = rng.random(), f"Class_{rng.integers(CLASSES):02d}"
        verdict = str(rng.choice(["none of these", "unsure", "no usable sound"]))
        result = (
            answer([given])
            if draw < 0.7
            else answer([other], comment="it is another")
            if draw < 0.9
            else answer(verdict=[verdict])
        )
        fields = {"was_cancelled": False, "ground_truth": False, "lead_time": 4.5}
        return {"result": result, **fields}

    def list_tasks(self, project_id: int) -> float:
        """Seconds to learn the task of every clip of a project, the server's own among them."""
        start = time.perf_counter()
        pages = self.client.pages(project_id, include="id,data", size=BATCH)
        found = {task["data"]["clip_id"]: task["id"] for page in pages for task in page}
        took = time.perf_counter() - start
        if len(found) != MANY:
            raise SystemExit(f"{len(found)} clips in the list instead of {MANY}")
        return took


def row(what: str, costs: list[Cost]) -> str:
    """A row of the table: medians, and the peak of all."""
    own, waited = ([getattr(cost, name) for cost in costs] for name in ("own", "waited"))
    spread = f" ({min(own):.2f} to {max(own):.2f})" if len(own) > 1 else ""
    requests = statistics.median(cost.requests for cost in costs)
    return (
        f"| {what} | {statistics.median(own):.2f} s{spread} | {statistics.median(waited):.2f} s | "
        f"{requests:.0f} | {max(cost.peak for cost in costs):,.0f} MB |"
    )


def rows(bench: Bench) -> Iterator[str]:
    """The table, line by line."""
    few = [bench.push(f"push {FEW} run {run}", FEW) for run in range(RUNS)]
    many = bench.push(f"push {MANY}", MANY)
    yield row(f"push of {FEW:,} clips", [cost for cost, _, _ in few])
    yield row("the same again, nothing new", [cost for _, cost, _ in few])
    yield row(f"push of {MANY:,} clips", [many[0]])
    yield row("the same again, nothing new", [many[1]])
    pulled = [bench.pull(f"pull {FEW} run {run}", FEW, few[run][2]) for run in range(RUNS)]
    yield row(f"pull of {FEW:,} answers", [cost for cost, _ in pulled])
    yield row("once more, nothing new", [cost for _, cost in pulled])
    once, again = bench.pull(f"pull {MANY}", MANY, many[2])
    yield row(f"pull of {MANY:,} answers", [once])
    yield row("once more, nothing new", [again])
    listed = [bench.list_tasks(many[2]) for _ in range(RUNS)]
    yield (
        f"\nListing a project of {MANY:,} tasks by clip id, the server's time included: "
        f"{statistics.median(listed):.2f} s ({min(listed):.2f} to {max(listed):.2f})."
    )


def main() -> None:
    """Measure, and write the table."""
    with tempfile.TemporaryDirectory() as made, running_server(made) as server:
        os.environ |= {"LABEL_STUDIO_API_KEY": server.token, "OMP_NUM_THREADS": "1"}
        bench = Bench(server, Path(made))
        version = bench.client.version()
        lines = [machine(), ""]
        lines.append(
            f"Label Studio {version['release']}, {version['edition']}, on the same machine. "
            f"Median of {RUNS} runs at {FEW:,}, one at {MANY:,}; {CLIPS:,} clips in the store, "
            f"{CLASSES} classes."
        )
        lines += [
            "",
            "| what | client | server | requests | peak memory |",
            "|---|---|---|---|---|",
        ]
        lines += rows(bench)
    text = "\n".join(lines)
    if "--print" in sys.argv:
        print(text)
    else:
        write_section("review", text)


if __name__ == "__main__":
    if "--child" in sys.argv:
        child(*sys.argv[2:])
    else:
        main()
