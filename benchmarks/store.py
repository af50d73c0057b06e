"""How the label store grows: append, queries, as-of, predictions, file size and memory.

python benchmarks/store.py [--small] [--print] [--keep FOLDER]

Two stores are built, 10 million events of 1 million clips and 40 million of 10 million
(`--small`: 1 million of 100,000). Every second batch goes through labelkit, the others, of
the same rows, straight into the same keyed tables of a second file over one open connection,
so that both rates are of the same minutes. Each step is a process of its own, which gives the
peak of its memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from report import machine, write_section

from labelkit.errors import StoreError
from labelkit.records import Batch, Clip, LabelEvents, Predictions, Run, Scores
from labelkit.stores import sandbox, schema
from labelkit.stores.columns import as_column, as_lists
from labelkit.stores.labels import LabelStore

CLASSES = [f"class {number:02}" for number in range(80)]
BATCH = 100_000
SIZES = {
    "small": (100_000, 1_000_000),
    "1M": (1_000_000, 10_000_000),
    "10M": (10_000_000, 40_000_000),
}
STATES = np.array(["unverified", "self_verified"], object)
REPEATS = 3


def make_events(rng: np.random.Generator, n_clips: int, n: int) -> LabelEvents:
    """Random events of a machine, one to three labels each."""
    wide = zip(
        rng.integers(0, len(CLASSES), (n, 3)).tolist(), rng.integers(1, 4, n).tolist(), strict=True
    )
    return LabelEvents(
        clip_ids=rng.integers(0, n_clips, n),
        states=STATES[rng.integers(0, 2, n)],
        labels=as_lists(sorted(set(row[:k])) for row, k in wide),
        sources=np.full(n, "self_verification", object),
        iterations=np.full(n, 1, object),
        scores=rng.random(n),
    )


def append_bare(con: Any, number: int, first: int, events: LabelEvents) -> None:
    """The same rows into the same keyed tables, without labelkit."""
    n = len(events.clip_ids)
    arrays = {  # noqa: F841
        "event_id": np.arange(first, first + n),
        "clip_id": events.clip_ids,
        "state": as_column(events.states),
        "labels": events.labels,
        "source": as_column(events.sources),
        "iteration": as_column(events.iterations),
        "score": as_column(events.scores),
    }
    con.execute("begin")
    con.execute(
        "insert into batches values (?, ?, 'bench', 'bench', false, '', null, null, '', now())",
        [number, str(number)],
    )
    con.execute(
        "insert into event_rows select event_id, ?, clip_id, state, labels, source, null, "
        "iteration, score, null, now() at time zone 'utc' from arrays",
        [number],
    )
    con.execute("commit")


def build(folder: Path, n_clips: int, n_events: int) -> dict[str, Any]:
    """Fill a store with clips and events, and a bare file with the same events."""
    rng = np.random.default_rng(0)
    store = LabelStore(folder / "labels.duckdb")
    store.create()
    bare = duckdb.connect(
        str(folder / "bare.duckdb"), config={"storage_compatibility_version": "v1.5.0"}
    )
    bare.execute("set pandas_analyze_sample = 0")
    schema.migrate(bare, "bare.duckdb")
    importing = 0.0
    for first in range(0, n_clips, BATCH):
        labels = [(CLASSES[k],) for k in rng.integers(0, len(CLASSES), BATCH)]
        clips = [
            Clip(path=f"clip/{first + k:08}.wav", labels=labels[k], group=f"g{(first + k) // 8}")
            for k in range(min(BATCH, n_clips - first))
        ]
        start = time.perf_counter()
        with store.write() as session:
            classes = CLASSES if first == 0 else ()
            session.append(
                Batch(key=f"import {first}", kind="import", actor="bench", by_person=True,
                      classes=classes, clips=clips)
            )  # fmt: skip
        importing += time.perf_counter() - start
    ours, theirs, done, number = [], [], n_clips, 0
    while done < n_events:
        events = make_events(rng, n_clips, min(BATCH, n_events - done))
        number += 1
        seconds = {}
        for name in ("bare", "ours") if number % 2 else ("ours", "bare"):
            start = time.perf_counter()
            if name == "bare":
                append_bare(bare, number, done, events)
            else:
                append_ours(store, number, events)
            seconds[name] = time.perf_counter() - start
        ours.append(seconds["ours"])
        theirs.append(seconds["bare"])
        done += len(events.clip_ids)
    bare.close()
    tenth = max(1, len(ours) // 10)
    sizes = {
        name: (folder / f"{name}.duckdb").stat().st_size / 2**20 for name in ("labels", "bare")
    }
    return {
        "import": n_clips / importing,
        "ours": len(ours) * BATCH / sum(ours),
        "bare": len(theirs) * BATCH / sum(theirs),
        "first": BATCH / statistics.mean(ours[:tenth]),
        "last": BATCH / statistics.mean(ours[-tenth:]),
        "bare_first": BATCH / statistics.mean(theirs[:tenth]),
        "bare_last": BATCH / statistics.mean(theirs[-tenth:]),
        "slowest": max(ours),
        "sizes": sizes,
    }


def append_ours(store: LabelStore, number: int, events: LabelEvents) -> None:
    """One batch through labelkit, from opening the store to closing it."""
    with store.write() as session:
        session.append(
            Batch(key=str(number), kind="bench", actor="bench", by_person=False, events=events)
        )


def judge(folder: Path, n_clips: int, n_judged: int, run_id: str) -> dict[str, Any]:
    """Add a run with scores of all clips and predictions of some."""
    rng = np.random.default_rng(1)
    store = LabelStore(folder / "labels.duckdb")
    clip_ids = np.arange(n_judged)
    probs = rng.random((n_judged, len(CLASSES)), np.float32)
    run = Run(run_id=run_id, kind="train", recipe="bench", settings={}, seed=0,
              classes=CLASSES, as_of=1)  # fmt: skip
    predictions = Predictions(run_id=run_id, clip_ids=clip_ids, probs=probs)
    scores = Scores(
        run_id=f"{run_id} scores", metric="lwlrap", clip_ids=np.arange(n_clips),
        values=rng.random(n_clips),
    )  # fmt: skip
    given: dict[str, Any] = {"kind": "train", "actor": "bench", "by_person": False}
    start = time.perf_counter()
    with store.write() as session:
        session.append(Batch(key=f"{run_id}", runs=[run], predictions=[predictions], **given))
    predicted = time.perf_counter() - start
    start = time.perf_counter()
    with store.write() as session:
        later = replace(run, run_id=scores.run_id)
        session.append(Batch(key=f"{run_id} scores", runs=[later], scores=[scores], **given))
    return {"predictions": predicted, "scores": time.perf_counter() - start}


# What people ask; {half} is the batch half-way.
QUESTIONS = {
    "current state of every clip": "select state, count(*), sum(len(labels)), max(made_at) "
    "from labels_now group by state",
    "one clip's history": "select * from label_history where path = 'clip/00012345.wav' "
    "order by event_id",
    "class counts by state": "select * from class_summary",
    "top 500 to review (`review_top`)": "from review_top(500)",
    "the same of `review_queue`": "from review_queue limit 500",
    "as of half-way (`labels_at`)": "select state, count(*), sum(len(labels)) "
    "from labels_at({half}) group by state",
    "flips: pairs that changed twice": "select count(*) from (select path, class from flips "
    "group by all having count(*) > 1)",
}
ON_PREDICTIONS = {
    "probability of the given label": "select n.state, avg(p.probs[e.labels[1] + 1]) "
    "from predictions p join current_events e using (clip_id) "
    "join labels_now n using (clip_id) group by n.state",
    "one class, the 100 most probable": "select clip_id, probs[8] from predictions "
    "order by probs[8] desc limit 100",
    "mean of each class (`predictions_long`)": "select class, avg(probability) "
    "from predictions_long group by class",
    "labels of a date with predictions": "select a.state, avg(p.probs[1]) "
    "from labels_at({half}) a join predictions p using (clip_id) group by a.state",
}


def ask(folder: Path, sql: str) -> dict[str, Any]:
    """Seconds of a question as `labelkit query` asks it, by a process that starts and opens.

    What needs more memory than a statement gets there is asked as the library does, which may
    use the disk.
    """
    store, seconds, spilt = LabelStore(folder / "labels.duckdb", timeout_s=600), [], False
    for _ in range(REPEATS):
        start = time.perf_counter()
        try:
            if not spilt:
                with sandbox.ask(store, sql, timeout_s=600) as reply:
                    sum(len(rows) for rows in reply.batches)
        except StoreError:
            spilt, start = True, time.perf_counter()
        if spilt:
            with store.read() as session:
                session.rows(sql)
        seconds.append(time.perf_counter() - start)
    return {"seconds": statistics.median(seconds), "spilt": spilt}


def apart(step: str, folder: Path, **values: Any) -> dict[str, Any]:
    """A step in a process of its own, with the peak of its memory in MB."""
    done = subprocess.run(
        [sys.executable, __file__, "--step", step, "--keep", str(folder)],
        input=json.dumps(values), capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


STEPS: dict[str, Callable[..., dict[str, Any]]] = {"build": build, "judge": judge, "ask": ask}


def measure(folder: Path, name: str) -> dict[str, Any]:
    """Everything about one size."""
    n_clips, n_events = SIZES[name]
    found: dict[str, Any] = {"build": apart("build", folder, n_clips=n_clips, n_events=n_events)}
    half = n_clips // BATCH + (n_events - n_clips) // BATCH // 2
    found["judge"] = {
        n: apart("judge", folder, n_clips=n_clips, n_judged=n, run_id=f"train-{n}")
        for n in (25_000, min(n_clips, 1_000_000))
    }
    found["ask"] = {
        question: apart("ask", folder, sql=sql.format(half=half))
        for question, sql in (QUESTIONS | ON_PREDICTIONS).items()
    }
    return found


def describe(found: dict[str, Any]) -> str:
    """The tables of docs/benchmarks.md."""
    names = list(found)
    titles = [f"{SIZES[name][1] // 10**6}M events of {SIZES[name][0]:,} clips" for name in names]
    head = [f"| | {' | '.join(titles)} |", "|---|" + "---|" * len(names)]

    def row(title: str, tell: Callable[[dict[str, Any]], str]) -> str:
        return f"| {title} | {' | '.join(tell(found[name]) for name in names)} |"

    def build_row(title: str, tell: Callable[[dict[str, Any]], str]) -> str:
        return row(title, lambda every: tell(every["build"]))

    lines = [machine(), "", f"Batches of {BATCH:,} events.", "", *head]
    lines += [
        build_row("import, clips/s", lambda b: f"{b['import']:,.0f}"),
        build_row("append, events/s", lambda b: f"{b['ours']:,.0f}"),
        build_row("the same rows without labelkit, events/s", lambda b: f"{b['bare']:,.0f}"),
        build_row("**ratio**", lambda b: f"**{b['ours'] / b['bare']:.2f}**"),
        build_row(
            "ratio of the first and of the last tenth",
            lambda b: f"{b['first'] / b['bare_first']:.2f}, {b['last'] / b['bare_last']:.2f}",
        ),
        build_row("slowest batch, s", lambda b: f"{b['slowest']:.2f}"),
        build_row(
            "file, MB (of events alone, without labelkit)",
            lambda b: f"{b['sizes']['labels']:,.0f} ({b['sizes']['bare']:,.0f})",
        ),
    ]
    for n in dict.fromkeys(n for name in names for n in found[name]["judge"]):
        lines.append(
            row(
                f"append {int(n):,} by {len(CLASSES)} predictions; a score of each clip, s",
                lambda every, n=n: "{predictions:.1f}; {scores:.1f}".format(**every["judge"][n]),
            )
        )
    lines += ["", "Questions, in seconds, median of three, opening included:", "", *head]

    def seconds(every: dict[str, Any], question: str) -> str:
        asked = every["ask"][question]
        return f"{asked['seconds']:.2f}{' *' if asked['spilt'] else ''}"

    lines += [
        row(question, lambda every, question=question: seconds(every, question))
        for question in QUESTIONS | ON_PREDICTIONS
    ]
    peaks = {
        name: max(part["peak"] for step in ("judge", "ask") for part in found[name][step].values())
        for name in names
    }
    lines += [
        row("peak memory of a question or of appending a run, MB",
            lambda every: f"{peaks[next(n for n in names if found[n] is every)]:,.0f}"),
        row("peak memory of building, MB", lambda every: f"{every['build']['peak']:,.0f}"),
        "", "\\* more than the 2 GB a statement gets from `labelkit query`: asked by the library, "
        "with the disk.",
    ]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    """Measure and write the section of docs/benchmarks.md."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--print", action="store_true")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--step")
    options = parser.parse_args()
    if options.step:
        found = STEPS[options.step](options.keep, **json.loads(sys.stdin.read()))
        # A question is answered by a child.
        who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        found["peak"] = max(resource.getrusage(one).ru_maxrss for one in who) / 1024
        print(json.dumps(found))
        return
    names = ["small"] if options.small else ["1M", "10M"]
    root = options.keep or Path(tempfile.mkdtemp())
    found = {}
    for name in names:
        folder = root / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        found[name] = measure(folder, name)
        print(json.dumps({name: found[name]}, indent=1), file=sys.stderr)
    if not options.keep:
        shutil.rmtree(root)
    text = describe(found)
    if options.print or options.small:
        print(text)
    else:
        write_section("store", text)


if __name__ == "__main__":
    main()
