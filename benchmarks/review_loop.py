"""What one round of review is worth on the demonstration set, three seeds, with a real server.

python benchmarks/review_loop.py [--print]

The set is that of `make demo`. After self-verification the 30 clips with the lowest fusion go to
Label Studio; an annotator who knows the truth answers all of them; the network is trained on the
trusted clips before and after. Needs a Label Studio: `make label-studio`.
"""

from __future__ import annotations

import csv
import os
import statistics
import sys
import tempfile
from pathlib import Path

from report import machine, write_section

sys.path.append(str(Path(__file__).parent.parent))
from labelkit.cleaning.score import score
from labelkit.config import ReviewSpec, read_recipe
from labelkit.demo import SETTINGS, run_demo
from labelkit.project import Project, open_project
from labelkit.review.pull import pull
from labelkit.review.push import push
from labelkit.review.queue import Choice
from labelkit.review.setup import set_up
from labelkit.runs.train import train
from tests.support.label_studio_server import answer, running_server  # type: ignore[import-not-found]

SEEDS, SENT = (0, 1, 2), 30


def trusted(project: Project) -> tuple[int, int]:
    """How many clips are trusted, and how many of these are labelled wrong."""
    truth = {row["fname"]: row["label"] for row in read_truth(project.root)}
    with project.store.read() as session:
        rows = session.rows(
            "select path, labels from labels_now where subset = 'train' "
            "and state in ('verified', 'self_verified', 'relabeled')"
        )
    return len(rows), sum(labels != [truth[path]] for path, labels in rows)


def read_truth(root: Path) -> list[dict[str, str]]:
    """The demonstration's truth, a row a clip."""
    with (root / "truth.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def main() -> None:
    """Run it, and write the table."""
    recipe = read_recipe("quick", SETTINGS)
    rows = []
    with tempfile.TemporaryDirectory(prefix="labelkit-review-") as scratch:
        root = Path(scratch) / "demo"
        run_demo(root, say=print)
        project = open_project(root)
        score(project)
        truth = {row["fname"]: row["label"] for row in read_truth(root)}
        before = [train(project, recipe, trusted=True, seed=seed) for seed in SEEDS]
        rows.append(("before", *trusted(project), [run["test_accuracy"] for run in before]))
        with running_server(Path(scratch)) as server:
            os.environ["LABEL_STUDIO_API_KEY"] = server.token
            spec = ReviewSpec(document_root=str(server.documents))
            setup, _ = set_up(project, server.url, "review loop", spec)
            sent, _ = push(project, Choice(lowest=("fusion", SENT)))
            annotator = server.annotator()
            while task := annotator.next_task(setup.project_id):
                annotator.submit(task["id"], answer([truth[task["data"]["path"]]]))
            counts = pull(project)
        after = [train(project, recipe, trusted=True, seed=seed) for seed in SEEDS]
        rows.append(("after", *trusted(project), [run["test_accuracy"] for run in after]))
    lines = [
        machine(),
        "",
        f"{len(sent)} clips sent, {counts.labels} answered: {counts.relabeled} relabeled, "
        f"{counts.verified} verified.",
        "",
        "| review | trusted clips | of these wrong | held-out accuracy, seeds 0 to 2 | mean |",
        "|---|---|---|---|---|",
    ]
    for name, n, wrong, accuracies in rows:
        each = " / ".join(f"{100 * a:.1f}" for a in accuracies)
        mean = 100 * statistics.mean(accuracies)
        lines.append(f"| {name} | {n} | {wrong} | {each} % | {mean:.1f} % |")
    if "--print" in sys.argv:
        print("\n".join(lines))
    else:
        write_section("review_loop", "\n".join(lines))


if __name__ == "__main__":
    main()
