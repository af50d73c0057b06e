import ast
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import mutations  # noqa: E402

sys.path.remove(str(BENCHMARKS))

OLD = b'''
"""Where a select from a table is, and what it does: not SQL."""
LIMIT = 3

class Recorder:
    def add(self, rows: list[int], *, strict: bool = True) -> "list[int]":
        """Not this: 1 < 2."""
        if not rows and strict:
            raise ValueError("select what is left from where it is, and < 3")
        self.note(f"{len(rows) + 1} rows")
        found = self.rows("select max(n) from t "
                          "where a <> 1 and b order by n desc")
        return [\xc3\xa9 for \xc3\xa9 in found if \xc3\xa9 < 2]
'''
NEW = OLD.replace(b"Recorder", b"RunRows").replace(b"LIMIT = 3", b"\n\nLIMIT = 4")


def sites(source):
    return list(mutations.find_sites(source, "runs", "labelkit/runs/rows.py"))


def test_each_operator_changes_the_statement_it_stands_in():
    found = {(s.operator, s.change): s.mutate(OLD).decode() for s in sites(OLD)}
    assert all(site.valid(OLD) for site in sites(OLD))
    assert set(found) == {
        ("constant", "3 + 1"), ("constant", "True"), ("constant", "2 + 1"),
        ("condition", "if True"), ("condition", "if False"), ("and/or", "and"), ("not", "not"),
        ("call", "no call"), ("return", "return None"), ("comparison", "<"),
        ("sql", "max("), ("sql", "<>"), ("sql", "and"), ("sql", "desc"),
    }  # fmt: skip
    assert "if (not rows or strict):" in found["and/or", "and"]
    assert "if é < 2" not in found["comparison", "<"]
    assert "if (é <= 2)]" in found["comparison", "<"]
    assert '"where a <> 1 and b order by n")' in found["sql", "desc"]
    assert "strict: bool = (False)" in found["constant", "True"]


def test_sites_correspond_where_a_class_was_renamed_and_lines_moved():
    pairs = mutations.match(sites(OLD), sites(NEW))
    changed = [site for site in sites(OLD) if site.change == "3 + 1"]
    assert {old for old, _ in pairs} == set(sites(OLD)) - set(changed)
    for old, new in pairs:
        assert (old.text, old.operator, old.change) == (new.text, new.operator, new.change)
        assert ast.unparse(ast.parse(old.mutate(OLD))).replace(
            "Recorder", "RunRows"
        ) == ast.unparse(ast.parse(new.mutate(NEW))).replace("LIMIT = 4", "LIMIT = 3")


def test_a_draw_depends_on_the_seed_and_hardly_on_other_sites(tmp_path):
    path = tmp_path / "labelkit" / "runs" / "rows.py"
    path.parent.mkdir(parents=True)
    path.write_bytes(OLD)
    pairs = mutations.match(sites(OLD), sites(NEW))
    drawn = mutations.draw(pairs, 5, 0, tmp_path)
    assert len(drawn) == 5 and drawn == mutations.draw(pairs[::-1], 5, 0, tmp_path)
    assert drawn != mutations.draw(pairs, 5, 1, tmp_path)
    rest = [pair for pair in pairs if pair != drawn[-1]]
    assert mutations.draw(rest, 5, 0, tmp_path)[:4] == drawn[:4]


def test_the_plugin_keeps_the_chosen_tests_in_the_order_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("MUTATIONS_CHOSEN", str(tmp_path / "chosen.json"))
    (tmp_path / "chosen.json").write_text(json.dumps(["c", "a"]))
    items = [SimpleNamespace(nodeid=name) for name in "abc"]
    mutations.pytest_collection_modifyitems(items)
    assert [item.nodeid for item in items] == ["c", "a"]


def test_the_report_names_what_the_old_suite_alone_killed():
    site = sites(OLD)[0]
    row = {"path": site.path, "line": 3, "diff": "-LIMIT = 3\n+LIMIT = 4", "by": ""}
    results = {
        (site.id, "old"): row | {"verdict": "killed", "by": "tests/test_a.py::test_b"},
        (site.id, "new"): row | {"verdict": "survived", "by": "not reached"},
    }
    text = mutations.report([(site, site)], results, "Some.")
    assert "| all | all | 1 | 1 | 0 | 0 | 1 | 0 | 1 | 0 | 0 | 0 | 0 |" in text
    assert "Killed by the old suite alone: 1." in text and "tests/test_a.py::test_b" in text
    assert "Killed by the new suite alone: 0." in text


CHANGED, PLAIN = True, False


@pytest.mark.parametrize(
    ("ends", "verdict", "broken"),
    [
        ({(CHANGED, "ab"): ("passed", "")}, ("survived", ""), set()),
        ({(CHANGED, "ab"): ("failed", "b"), (PLAIN, "b"): ("passed", "")}, ("killed", "b"), set()),
        ({(CHANGED, "ab"): ("failed", "exit status 2")}, ("killed", "exit status 2"), set()),
        (
            {
                (CHANGED, "ab"): ("failed", "a"),
                (PLAIN, "a"): ("failed", "a"),
                (CHANGED, "b"): ("passed", ""),
            },
            ("survived", ""),
            {"a"},
        ),
        (
            {(CHANGED, "ab"): ("time-out", ""), (PLAIN, "ab"): ("passed", "")},
            ("killed", "time-out"),
            set(),
        ),
        (
            {(CHANGED, "ab"): ("time-out", ""), (PLAIN, "ab"): ("time-out", "")},
            ("undecided", "time-out"),
            set(),
        ),
    ],
)
def test_a_verdict_is_held_against_the_code_without_the_change(tmp_path, ends, verdict, broken):
    path = tmp_path / "labelkit" / "runs" / "rows.py"
    path.parent.mkdir(parents=True)
    path.write_bytes(OLD)
    suite = mutations.Suite("old", tmp_path, path, path, None, 1, tmp_path)
    suite.copies.put(tmp_path)
    suite.run = lambda here, tests: ends.pop((path.read_bytes() != OLD, "".join(tests)))
    assert suite.judge(sites(OLD)[0], ["a", "b"]) == verdict
    assert suite.broken == broken and not ends and path.read_bytes() == OLD
