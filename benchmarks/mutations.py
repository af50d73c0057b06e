"""Does a new test suite lose a fault that the old one finds? The same mutations, tried on both.

    python benchmarks/mutations.py draw|run|report --out results.jsonl
        --old-tree DIR --old-coverage FILE --new-tree DIR --new-coverage FILE ...

``draw`` names what would be tried, ``run`` tries it and prints the table, ``report`` prints
the table of what is there. A run that was stopped goes on where it was. Environment variables
of the tests are inherited; Label Studio must be named by LABELKIT_LABEL_STUDIO and
LABELKIT_LABEL_STUDIO_CACHE, as the copies have none.

Sites: places in the code of a room that a classic operator can change, and that exist in both
trees. They correspond by function, statement and preceding statement; else by function and
statement; else by statement and preceding one (renamed functions); among equals by order. The
text of SQL corresponds line by line. Drawn are, by a seeded hash, those that the old suite
reaches.

Tests of a site, from contexts of coverage (whole suite, in one process, in the order of
collection: ``pytest -n 0 --cov --cov-branch --cov-context=test``):

1. Tests in whose context a line of the statement ran. Where that was in the setup of a test,
   also all users of the fixtures that this test was the first to ask for, and that live longer
   than a test: what was made then is shared by them.
2. Where a line also ran in the empty context, in another process: all tests that ran a line
   which starts processes, and all of files that speak of processes.
3. What runs at import (outside of functions) has no test of its own: tests that ran any line
   of the file, then the others of their files, and those of 2. All, if none ran any line. The
   defaults of a function are reached where its body is.

Those of the contexts come first, then users of fixtures, then other processes; within these
the cheap ones, by powers of ten of a second, and then file by file. The first failure
kills, if the failed test passes alone on unchanged code; if not, it is broken, and left out
from then on. A time-out kills only if the unchanged code passes the same tests in time; else
the site is undecided (untried where they took twice the time when durations were logged).
"""

from __future__ import annotations

import argparse
import ast
import copy
import difflib
import hashlib
import json
import math
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any

RUNS = "trainingset foldwork recorder commit stages verification prepare".split()
# Where a room lies in the old tree and in the new one; what a tree has not is passed over.
ROOMS = {
    "noise": ["noise/*.py"],
    "stores": ["stores/*.py"],
    "review": ["workflows/review/*.py", "review/*.py"],
    "runs": [*(f"workflows/{name}.py" for name in RUNS), "runs/*.py"],
}

SWAPS: dict[type[ast.AST], tuple[str, type[ast.AST]]] = {
    ast.Lt: ("<", ast.LtE), ast.LtE: ("<=", ast.Lt), ast.Gt: (">", ast.GtE),
    ast.GtE: (">=", ast.Gt), ast.Eq: ("==", ast.NotEq), ast.NotEq: ("!=", ast.Eq),
    ast.In: ("in", ast.NotIn), ast.NotIn: ("not in", ast.In), ast.Is: ("is", ast.IsNot),
    ast.IsNot: ("is not", ast.Is), ast.And: ("and", ast.Or), ast.Or: ("or", ast.And),
    ast.Add: ("+", ast.Sub), ast.Sub: ("-", ast.Add), ast.Mult: ("*", ast.Div),
    ast.Div: ("/", ast.Mult),
}  # fmt: skip
SQL = re.compile(
    r"\bselect\b.+\bfrom\b|\binsert into\b|\bwhere\b[^.]*([=<>(]|\bis (not )?null\b)", re.DOTALL
)
SQL_SWAPS = {
    r"\bmax\(": "min(", r"\bmin\(": "max(", "<>": "=", "<=": "<", ">=": ">", r"\band\b": "or",
    r"\bor\b(?! replace)": "and", r" desc\b": "", r"\bnot in\b": "in",
    r"\bis not null\b": "is null", r"\bleft join\b": "join",
}  # fmt: skip
HOLLOW = {"body": [ast.Pass()], "orelse": [], "finalbody": [], "handlers": [], "cases": []}
STARTS = re.compile(r"\b(ProcessPoolExecutor|Process|Popen|subprocess\.run)\(")
SPEAKS = re.compile(r"\b(subprocess|multiprocessing|tests\.crash)\b")
LEFT = (".venv", ".git", ".label-studio", ".hypothesis", "__pycache__", "*.egg-info")
PYTEST = ["-m", "pytest", "-x", "-q", "-p", "labelkit_mutations", "-p", "no:cacheprovider",
          "-p", "no:randomly"]  # fmt: skip
UNTRIED = {"verdict": "not tried", "by": ""}
STOP = threading.Event()


# In the pytest of a tree: this file is its plugin there.


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """Keep the chosen tests, in the order asked for; or write down what there is."""
    chosen = Path(os.environ["MUTATIONS_CHOSEN"])
    if not chosen.exists():
        chosen.write_text(json.dumps([(item.nodeid, _shared(item)) for item in items]))
        return
    places = {nodeid: n for n, nodeid in enumerate(json.loads(chosen.read_text()))}
    items[:] = sorted((i for i in items if i.nodeid in places), key=lambda i: places[i.nodeid])


def pytest_runtest_logreport(report: Any) -> None:
    """Name the test that failed."""
    if report.failed:
        Path(os.environ["MUTATIONS_CHOSEN"]).with_suffix(".failed").write_text(report.nodeid)


def _shared(item: Any) -> list[str]:
    """The fixtures of a test that others use as well, one name for each time one is made."""
    found, path = [], item.nodeid.partition("::")[0]
    indices = getattr(getattr(item, "callspec", None), "indices", {})
    places = {"session": "", "package": str(Path(path).parent), "module": path}
    for name, definitions in item._fixtureinfo.name2fixturedefs.items():
        last = definitions[-1]
        # Those of plugins have no place.
        if last.scope != "function" and last.baseid:
            place = places.get(last.scope, item.nodeid.rpartition("::")[0])
            found.append(f"{last.baseid} {name} {place} {indices.get(name, 0)}")
    return found


# Sites.


@dataclass(frozen=True)
class Site:
    """A place that can be changed: where, how, and what it is known by."""

    room: str
    path: str
    function: str
    before: str
    text: str
    operator: str
    change: str
    n: int
    lines: range
    edit: tuple[int, int, str]

    @property
    def id(self) -> str:
        """Its name, in one tree."""
        return f"{self.path}:{self.edit[0]} {self.change}"

    def mutate(self, source: bytes) -> bytes:
        """The file with the change made."""
        start, end, new = self.edit
        return source[:start] + new.encode() + source[end:]

    def valid(self, source: bytes) -> bool:
        """Whether the file stays Python, and does not stay the same."""
        try:
            return ast.dump(ast.parse(self.mutate(source))) != ast.dump(ast.parse(source))
        except SyntaxError:
            return False

    def diff(self, source: bytes) -> str:
        """The change as a diff."""
        sides = (text.decode().splitlines() for text in (source, self.mutate(source)))
        lines = list(difflib.unified_diff(*sides, self.path, self.path, n=0, lineterm=""))
        return "\n".join(lines[2:])


Pair = tuple[Site, Site]


def statements(body: list[ast.stmt], function: str = "") -> Iterator[tuple[str, ast.stmt]]:
    """All statements below, depth first, each with the function it is in."""
    for stmt in body:
        if isinstance(stmt, ast.If) and "TYPE_CHECKING" in ast.unparse(stmt.test):
            continue
        inner, named = function, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        if isinstance(stmt, named):
            inner += f"{stmt.name}{':' if isinstance(stmt, ast.ClassDef) else '()'}"
        # Defaults matter where the function is called.
        yield inner, stmt
        for part in (stmt, *getattr(stmt, "handlers", ()), *getattr(stmt, "cases", ())):
            for name in ("body", "orelse", "finalbody"):
                yield from statements(getattr(part, name, []), inner)


def expressions(node: ast.AST) -> Iterator[ast.AST]:
    """What may change below a node: no annotations, patterns, or insides of f-strings."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "type_params", "pattern"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield child
                if not isinstance(child, ast.JoinedStr):
                    yield from expressions(child)


def changes(stmt: ast.stmt) -> Iterator[tuple[str, str, ast.AST, str]]:
    """Operator, change, the node changed, and what to write in its place."""
    if isinstance(stmt, ast.If):
        for value in ("True", "False"):
            yield "condition", f"if {value}", stmt.test, value
    if isinstance(stmt, ast.Return) and stmt.value and ast.unparse(stmt.value) != "None":
        yield "return", "return None", stmt.value, "None"
    if isinstance(stmt, ast.Expr) and isinstance(stmt.value, ast.Call):
        yield "call", "no call", stmt, "pass"
    for node in expressions(stmt):
        if isinstance(node, ast.Compare):
            for n, op in enumerate(node.ops):
                ops = [SWAPS[type(o)][1]() if m == n else o for m, o in enumerate(node.ops)]
                yield "comparison", SWAPS[type(op)][0], node, _unparse(node, ops=ops)
        elif isinstance(node, ast.BoolOp):
            yield "and/or", *_swapped(node)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yield "not", "not", node, _unparse(node.operand)
        elif isinstance(node, ast.BinOp) and type(node.op) in SWAPS:
            # Texts and paths know one of these only.
            if not _is_text(node.left) and not _is_text(node.right):
                yield "arithmetic", *_swapped(node)
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
            yield "constant", str(node.value), node, f"({not node.value})"
        elif isinstance(node, ast.Constant) and isinstance(node.value, int):
            yield "constant", f"{node.value} + 1", node, f"({node.value + 1})"


def _swapped(node: ast.BoolOp | ast.BinOp) -> tuple[str, ast.AST, str]:
    name, other = SWAPS[type(node.op)]
    return name, node, _unparse(node, op=other())


def _unparse(node: ast.AST, **fields: Any) -> str:
    changed = copy.copy(node)
    vars(changed).update(fields)
    return f"({ast.unparse(changed)})"


def _is_text(node: ast.AST) -> bool:
    text = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return text or isinstance(node, ast.JoinedStr)


def find_sites(source: bytes, room: str = "", path: str = "") -> Iterator[Site]:
    """All sites of a file."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def span(node: Any) -> tuple[int, int]:
        first, last = starts[node.lineno - 1], starts[node.end_lineno - 1]
        return first + node.col_offset, last + node.end_col_offset

    before = ""
    for function, stmt in statements(ast.parse(source).body):
        head: Any = copy.copy(stmt)
        vars(head).update({k: v for k, v in HOLLOW.items() if hasattr(stmt, k)})
        text, body = ast.unparse(head), getattr(stmt, "body", None)
        first, last = stmt.lineno, stmt.end_lineno or 0
        if isinstance(stmt, ast.FunctionDef | ast.AsyncFunctionDef):
            # Its own name is enough, should its class have got another.
            before, first = "", stmt.body[0].lineno
        elif body:
            last = max(first, body[0].lineno - 1)
        at = partial(Site, room, path, function, lines=range(first, last + 1))
        for n, (operator, change, node, new) in enumerate(changes(head)):
            yield at(before, text, operator, change, n, edit=(*span(node), new))
        # A docstring or a message may well say where something is, and what to select.
        if not isinstance(head, ast.Raise) and text[0] not in "'\"":
            for node in filter(_is_text, expressions(head)):
                yield from _find_sql(source, *span(node), at)
        before = text


def _find_sql(source: bytes, start: int, end: int, at: Callable[..., Site]) -> Iterator[Site]:
    literal = source[start:end].decode()
    for pattern, new in SQL_SWAPS.items() if SQL.search(literal) else ():
        for found in re.finditer(pattern, literal):
            above, _, left = literal[: found.start()].rpartition("\n")
            line = left + literal[found.start() :].partition("\n")[0]
            place = start + len(literal[: found.start()].encode())
            edit = (place, place + len(found[0].encode()), new)
            yield at(above.rpartition("\n")[2].strip(), line.strip(), "sql", found[0].strip(), 0,
                     edit=edit)  # fmt: skip


def match(old: list[Site], new: list[Site]) -> list[Pair]:
    """Pairs of sites that are the same one."""
    pairs: list[Pair] = []
    # Last what changed rooms.
    ways = (("room", "function", "before"), ("room", "function"), ("room", "before"))
    for names in (*ways, ("function", "before"), ("before",)):
        names = ("text", "operator", "change", "n", *names)
        waiting = defaultdict(list)
        for site in reversed(new):
            waiting[tuple(getattr(site, name) for name in names)].append(site)
        found = {}
        for site in old:
            if waiting[key := tuple(getattr(site, name) for name in names)]:
                found[site] = waiting[key].pop()
        pairs += found.items()
        taken = set(found.values())
        old = [site for site in old if site not in found]
        new = [site for site in new if site not in taken]
    return pairs


def draw(pairs: list[Pair], n: int, seed: int, root: Path) -> list[Pair]:
    """So many of each room, by a hash: a site that comes or goes leaves the others drawn."""
    rooms = list(dict.fromkeys(old.room for old, _ in pairs))
    drawn: list[Pair] = []
    for k, room in enumerate(rooms):
        own = [pair for pair in pairs if pair[0].room == room]
        own.sort(key=lambda pair: hashlib.sha256(f"{seed} {pair[0].id}".encode()).digest())
        valid = (pair for pair in own if pair[0].valid((root / pair[0].path).read_bytes()))
        drawn += islice(valid, n // len(rooms) + (k < n % len(rooms)))
    return drawn


# Suites.


@dataclass
class Suite:
    """A tree, its tests, and what they reach."""

    name: str
    root: Path
    coverage: Path
    python: Path
    durations: Path | None
    seconds: float
    scratch: Path
    options: list[str] = field(default_factory=PYTEST.copy)
    broken: set[str] = field(default_factory=set)
    contexts: dict[str, dict[int, set[str]]] = field(default_factory=dict)
    plain: dict[tuple[str, ...], tuple[str, str]] = field(default_factory=dict)
    copies: queue.Queue[Path] = field(default_factory=queue.Queue)

    def sites(self, rooms: list[str]) -> list[Site]:
        """All sites of the rooms."""
        return [
            site
            for room in rooms
            for pattern in ROOMS[room]
            for path in sorted((self.root / "labelkit").glob(pattern))
            for site in find_sites(path.read_bytes(), room, str(path.relative_to(self.root)))
        ]

    @cached_property
    def state(self) -> str:
        """A hash of code and tests: results are of this state alone."""
        files = sorted(
            p for part in ("labelkit", "tests") for p in self.root.glob(f"{part}/**/*.py")
        )
        return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]

    @cached_property
    def data(self) -> Any:
        """What coverage recorded."""
        from coverage import CoverageData

        data = CoverageData(str(self.coverage))
        data.read()
        return data

    def reaching(self, path: str, lines: range | None = None) -> set[str]:
        """Contexts in which a line of these, or of the whole file, ran."""
        if path not in self.contexts:
            measured = [f for f in self.data.measured_files() if f.endswith(f"/{path}")]
            found = self.data.contexts_by_lineno(measured[0]) if measured else {}
            self.contexts[path] = {n: set(map(sys.intern, names)) for n, names in found.items()}
        found = self.contexts[path]
        return {name for line in lines or found for name in found.get(line, ())}

    @cached_property
    def items(self) -> dict[str, list[str]]:
        """All tests in the order of collection, with the fixtures they share."""
        here, chosen = self.copies.queue[0], self.scratch / f"{self.name}-items.json"
        code = "import labelkit as k; from importlib.util import find_spec as find; "
        code += "print(k.__file__, bool(find('xdist')))"
        command, env = [self.python, "-P", "-c", code], self.environment(here)
        done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True)
        path, xdist = done.stdout.split()
        if not Path(path).is_relative_to(here):
            raise RuntimeError(f"{self.name}: {path} is not the copy's")
        self.options += ["-n", "0"] if xdist == "True" else []
        if self.pytest(here, chosen, ["--collect-only"], 600):
            raise RuntimeError(f"{self.name}: {chosen.with_suffix('.log').read_text()[-2000:]}")
        return dict(json.loads(chosen.read_text()))

    @cached_property
    def cost(self) -> Counter[str]:
        """Seconds of each test, where pytest wrote them down."""
        seconds: Counter[str] = Counter()
        text = self.durations.read_text() if self.durations else ""
        for number, test in re.findall(r"^ *([\d.]+)s (?:call|setup|teardown) +(.+)$", text, re.M):
            seconds[test] += float(number)
        return seconds

    @cached_property
    def users(self) -> dict[str, set[str]]:
        """By the test that made shared fixtures: all tests that use one of these."""
        made: dict[str, str] = {}
        users = defaultdict(set)
        set_up = self.data.measured_contexts()
        for test, fixtures in self.items.items():
            for name in fixtures:
                if f"{test}|setup" in set_up:
                    made.setdefault(name, test)
                users[name].add(test)
        by_test = defaultdict(set)
        for name, test in made.items():
            by_test[test] |= users[name]
        return by_test

    @cached_property
    def starters(self) -> set[str]:
        """Tests that may run code in another process."""
        tests: set[str] = set()
        for path in self.root.glob("labelkit/**/*.py"):
            name = str(path.relative_to(self.root))
            for n, line in enumerate(path.read_text().splitlines(), 1):
                if STARTS.search(line):
                    tests |= _tests(self.reaching(name, range(n, n + 1)))
        speaking = {f for f in self.files(self.items) if SPEAKS.search((self.root / f).read_text())}
        return tests | {test for test in self.items if test.partition("::")[0] in speaking}

    @staticmethod
    def files(tests: Any) -> list[str]:
        """Files of tests, in order."""
        return list(dict.fromkeys(test.partition("::")[0] for test in tests))

    def select(self, site: Site) -> list[str]:
        """Tests of a site, the cheap ones first; the rule is at the top of this file."""
        ran = self.reaching(site.path, site.lines)
        if not ran:
            return []
        # Groups, the surest first: those of the contexts, users of shared things, of processes.
        groups: list[set[str]] = [_tests(ran), set(), self.starters if "" in ran else set()]
        if not site.function.endswith("()"):
            groups = [_tests(self.reaching(site.path)) or set(self.items), set(), self.starters]
            files = set(self.files(groups[0]))
            groups[1] = {test for test in self.items if test.partition("::")[0] in files}
        for name in ran:
            test, _, phase = name.rpartition("|")
            groups[1] |= self.users.get(test, set()) if phase == "setup" else set()
        places = {test: n for n, test in enumerate(self.items)}

        def key(test: str) -> tuple[int, int, int]:
            group = next(n for n, tests in enumerate(groups) if test in tests)
            power = max(-1, math.ceil(math.log10(self.cost[test] + 1e-3)))
            return group, power, places[test]

        return sorted(set().union(*groups) & places.keys(), key=key)

    def environment(self, here: Path) -> dict[str, str]:
        """The copy's package before any other, this file as a plugin."""
        paths = [str(here), str(self.scratch), os.environ.get("PYTHONPATH", "")]
        return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}

    def pytest(self, here: Path, chosen: Path, arguments: list[str], seconds: float) -> int | None:
        """The exit status, or None when the time was over; nothing is left running."""
        temporary = chosen.with_suffix(".tmp")
        command = [self.python, *self.options, f"--basetemp={temporary}", *arguments]
        environment = self.environment(here) | {"MUTATIONS_CHOSEN": str(chosen)}
        with chosen.with_suffix(".log").open("wb") as log:
            process = subprocess.Popen(
                command, cwd=here, env=environment, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True,
            )  # fmt: skip
        try:
            for _ in range(math.ceil(seconds)):
                if STOP.is_set():
                    raise InterruptedError
                with suppress(subprocess.TimeoutExpired):
                    return process.wait(1)
            return None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            shutil.rmtree(temporary, ignore_errors=True)

    def run(self, here: Path, tests: list[str]) -> tuple[str, str]:
        """``passed``, ``failed`` or ``time-out``, and the test that failed."""
        chosen = here.with_suffix(".json")
        failed = chosen.with_suffix(".failed")
        failed.unlink(missing_ok=True)
        chosen.write_text(json.dumps(tests))
        status = self.pytest(here, chosen, self.files(tests), self.seconds)
        if status is None:
            return "time-out", ""
        if status == 0:
            return "passed", ""
        return "failed", failed.read_text() if failed.exists() else f"exit status {status}"

    def judge(self, site: Site, tests: list[str]) -> tuple[str, str]:
        """``killed``, ``survived`` or ``undecided``, and by what."""
        here = self.copies.get()
        try:
            while tests := [test for test in tests if test not in self.broken]:
                with mutated(here / site.path, site):
                    end, by = self.run(here, tests)
                if end == "passed":
                    return "survived", ""
                if end == "time-out":
                    if sum(self.cost[test] for test in tests) > 2 * self.seconds:
                        return "undecided", "time-out"
                    # Another site may well have had the same tests.
                    if (known := tuple(tests)) not in self.plain:
                        self.plain[known] = self.run(here, tests)
                    end, by = self.plain[known]
                    if end != "failed":
                        return ("killed" if end == "passed" else "undecided"), "time-out"
                elif by not in tests or self.run(here, [by])[0] == "passed":
                    return "killed", by
                if by not in tests:
                    raise RuntimeError(f"{self.name}, unchanged: {by}")
                self.broken.add(by)
            return "survived", "not reached"
        finally:
            self.copies.put(here)


def _tests(contexts: set[str]) -> set[str]:
    return {name.rpartition("|")[0] for name in contexts if name}


@contextmanager
def mutated(path: Path, site: Site) -> Iterator[None]:
    """The file with the change, for a while."""
    source, time = path.read_bytes(), path.stat().st_mtime
    path.write_bytes(site.mutate(source))
    # Compiled code is known by second and size, and `max` is as long as `min`.
    os.utime(path, (time, time + 1000 + site.edit[0]))
    try:
        yield
    finally:
        path.write_bytes(source)
        os.utime(path, (time, time))


# What came out.


def report(drawn: list[Pair], results: dict[tuple[str, str], Any], intro: str) -> str:
    """The table as Markdown, and what only one suite killed."""
    rows: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    only: dict[str, list[str]] = {"old": [], "new": []}
    for site, _ in drawn:
        both = {name: results.get((site.id, name), UNTRIED) for name in only}
        for key in ((site.room, site.operator), (site.room, "all"), ("all", "all")):
            rows[key]["n"] += 1
            for name, result in both.items():
                rows[key][f"{result['verdict']}, {name}"] += 1
                rows[key][f"not reached, {name}"] += result["by"] == "not reached"
        for name, other in (both, reversed(both)):
            one, two = both[name], both[other]
            if one["verdict"] == "killed" and two["verdict"] in ("survived", "undecided"):
                only[name].append(
                    f"- {site.room}, {site.function}, {one['path']}:{one['line']}: "
                    f"{two['verdict']} {two['by']}; killed by {one['by']}\n\n"
                    f"```diff\n{one['diff']}\n```\n"
                )
    verdicts = ("killed", "survived", "not reached", "undecided", "not tried")
    columns = ["n", *(f"{verdict}, {name}" for verdict in verdicts for name in only)]
    lines = [intro, "", f"| room | operator | {' | '.join(columns)} |"]
    lines.append("|---" * (len(columns) + 2) + "|")
    order = [*ROOMS, "all"]
    for room, operator in sorted(rows, key=lambda key: (order.index(key[0]), key[1])):
        cells = [str(rows[room, operator][column]) for column in columns]
        lines.append(f"| {room} | {operator} | {' | '.join(cells)} |")
    for name, found in only.items():
        lines += ["", f"Killed by the {name} suite alone: {len(found)}.", "", *found]
    return "\n".join(lines)


def read_results(out: Path, states: dict[str, str]) -> dict[tuple[str, str], Any]:
    """What was decided of the trees as they are, by site and suite."""
    lines = out.read_text(encoding="utf-8").splitlines() if out.exists() else []
    rows = [json.loads(line) for line in lines if line.endswith("}")]
    return {(r["id"], r["suite"]): r for r in rows if r["state"] == states[r["suite"]]}


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("action", choices=("draw", "run", "report"))
    for name in ("old", "new"):
        parser.add_argument(f"--{name}-tree", type=Path, required=True)
        parser.add_argument(f"--{name}-coverage", type=Path, required=True)
        parser.add_argument(f"--{name}-python", type=Path, help="By default .venv of the tree.")
        parser.add_argument(f"--{name}-durations", type=Path, help="A log with --durations=0.")
    parser.add_argument("--rooms", nargs="+", choices=ROOMS, default=list(ROOMS))
    parser.add_argument("--n", type=int, default=48)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("results.jsonl"))
    return parser.parse_args()


def main() -> None:
    """Draw, try, and print the table."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    options = parse()
    with tempfile.TemporaryDirectory(prefix="mutations-") as scratch:
        shutil.copy(__file__, Path(scratch) / "labelkit_mutations.py")
        suites = [
            Suite(
                name, (root := given[f"{name}_tree"].resolve()), given[f"{name}_coverage"],
                # Not resolved: a link is what makes it the python of its environment.
                (given[f"{name}_python"] or root / ".venv/bin/python").absolute(),
                given[f"{name}_durations"], 60 * options.minutes, Path(scratch),
            )
            for given in [vars(options)]
            for name in ("old", "new")
        ]  # fmt: skip
        old, new = suites
        sides = old.sites(options.rooms), new.sites(options.rooms)
        pairs = match(*sides)
        reached = [pair for pair in pairs if old.reaching(pair[0].path, pair[0].lines)]
        drawn = draw(reached, options.n, options.seed, old.root)
        rooms = ", ".join(
            f"{n} in {room}" for room, n in Counter(p[0].room for p in reached).items()
        )
        intro = (
            f"{len(sides[0])} sites in the old tree, {len(sides[1])} in the new one, {len(pairs)} "
            f"in both, {len(reached)} of them reached by the old suite ({rooms}); {len(drawn)} "
            f"drawn with seed {options.seed}, {options.minutes:g} minutes each."
        )
        if options.action == "draw":
            print(intro)
            for pair in drawn:
                print(f"\n{pair[0].room} {pair[0].id} -> {pair[1].path}:{pair[1].lines[0]}")
                print(pair[0].diff((old.root / pair[0].path).read_bytes()))
            return
        states = {suite.name: suite.state for suite in suites}
        if options.action == "run":
            run(suites, drawn, options, read_results(options.out, states))
        print(report(drawn, read_results(options.out, states), intro))


def run(suites: list[Suite], drawn: list[Pair], options: argparse.Namespace, done: Any) -> None:
    """Try what is not decided yet, and write a line for each."""

    def try_one(suite: Suite, name: str, site: Site, tests: list[str]) -> dict[str, Any]:
        verdict, by = suite.judge(site, tests)
        diff = site.diff((suite.root / site.path).read_bytes())
        return {
            "id": name, "suite": suite.name, "state": suite.state, "room": site.room,
            "operator": site.operator, "path": site.path, "line": site.lines[0],
            "tests": len(tests), "verdict": verdict, "by": by, "diff": diff,
        }  # fmt: skip

    jobs = []
    for suite in suites:
        for n in range(options.jobs):
            here = suite.scratch / f"{suite.name}-{n}"
            shutil.copytree(suite.root, here, symlinks=True, ignore=shutil.ignore_patterns(*LEFT))
            suite.copies.put(here)
    for pair in drawn:
        for suite, site in zip(suites, pair, strict=True):
            if (pair[0].id, suite.name) not in done:
                jobs.append((suite, pair[0].id, site, suite.select(site)))
    with ThreadPoolExecutor(options.jobs) as pool, options.out.open("a", encoding="utf-8") as out:
        try:
            futures = [pool.submit(try_one, *job) for job in jobs]
            for n, future in enumerate(as_completed(futures), 1):
                row = future.result()
                out.write(json.dumps(row) + "\n")
                out.flush()
                print(f"{n}/{len(jobs)} {row['suite']} {row['id']}: {row['verdict']} {row['by']}",
                      file=sys.stderr, flush=True)  # fmt: skip
        except BaseException:
            STOP.set()
            pool.shutdown(cancel_futures=True)
            raise
    for suite in suites:
        print(f"{suite.name}: broken without a change: {sorted(suite.broken)}", file=sys.stderr)


if __name__ == "__main__":
    main()
