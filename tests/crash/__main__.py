"""The long run of `make crash`: a table of what became of each kind of work, and of the rest."""

import sys
import tempfile
import time
from pathlib import Path

from labelkit.datasets.demo import plan_demo, write_demo
from tests.crash.campaign import (
    Campaign,
    answer_project,
    make_empty_project,
    make_probe_project,
    make_store,
    make_undo_project,
    show,
)
from tests.crash.contents import find_faults
from tests.crash.damage import make_torn_store, run_damage, show_damage
from tests.crash.writers import find_lost, run_writers
from tests.support.label_studio_server import running_server
from tests.support.projects import make_demo_project

KILLS = {"append": 70, "checkpoint": 40, "import": 40, "undo": 35, "verify": 20, "pull": 25}
DAMAGE = {
    "torn": 50,
    "zeroed tail": 10,
    "flipped bit": 30,
    "overwritten": 30,
    "deleted": 2,
    "garbage": 5,
}


def say(*words):
    """A line at once."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def run_kills(folder, seed):
    """All kinds of work, one after the other."""
    clips = plan_demo(3, n_train=10, n_test=2)
    write_demo(folder / "demo", clips, 3)
    templates = folder / "templates"
    templates.mkdir()
    asked = make_demo_project((clips, folder / "demo"), templates / "pull")
    probed = make_demo_project((clips, folder / "demo"), templates / "verify")
    given = {
        "append": (make_store(templates / "append"), None),
        "checkpoint": (templates / "append", None),
        "import": (make_empty_project(templates / "import"), 60),
        "undo": (make_undo_project(templates / "undo"), None),
        "verify": (make_probe_project(probed), 1),
    }
    rows = []
    with running_server(folder) as server:
        given["pull"] = (asked.root, answer_project(asked, server, 60))
        for work, (template, setting) in given.items():
            began = time.monotonic()
            campaign = Campaign(work, template, folder / "work", setting=setting, seed=seed)
            rows.append(campaign.run(KILLS[work]))
            say(f"{work}: {KILLS[work]} kills in {time.monotonic() - began:.0f} s")
    return rows


def main(seed):
    """Run everything; 1 if anything was lost."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="labelkit-crash-") as name:
        folder = Path(name)
        rows = run_kills(folder, seed)
        say("\n" + show(rows) + "\n")
        torn = make_torn_store(folder / "torn", seed=seed)
        table, faults = run_damage(torn, folder / "damage", DAMAGE, seed=seed)
        say(show_damage(table) + "\n")
        store, traffic = run_writers(folder / "writers", 60)
        faults += find_lost(store, traffic)
        with store.connect(read_only=True) as con:
            faults += find_faults(con)
    kills = sum(row.kills + row.reopen_kills for row in rows)
    say(traffic)
    for fault in faults:
        say("FAULT", fault)
    passed = all(row.passed() for row in rows) and not faults and kills >= 200
    took = time.monotonic() - began
    say(f"seed {seed}, {kills} kills, {took:.0f} s:", "passed" if passed else "FAILED")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
