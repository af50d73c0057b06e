"""Which keys the commands print as JSON, in two versions of labelkit, command by command.

Both versions work through the same small project: made, scored, trained, verified, corrected,
undone. Keys are compared in their order, those inside lists and objects, too, and so is the
kind of each value. With a running Label Studio, named by LABELKIT_URL with a token in
LABEL_STUDIO_API_KEY, the review commands are among them.

    python benchmarks/json_keys.py OLD_PYTHON NEW_PYTHON
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile

CLASSES = ("Low", "Middle", "High")
SMALL = [
    part
    for setting in ("features.sample_rate=8000", "features.n_fft=512", "features.n_mels=16")
    for part in ("--set", setting)
]
PROBE = ["--recipe", "probe", *SMALL, "--workers", "1"]
# Commands in the order of a day's work; what prints no JSON prepares the next.
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("init", "{audio}"), ("import", "{folder}/train.csv", "--format", "fsdkaggle2018"),
    ("status", "--json"), ("folds", "--n", "2", "--json"), ("check", "--json"),
    ("recipes", "--json"), ("recipes", "show", "probe", "--json"),
    ("train", *PROBE, "--json"), ("score", "--method", "self_confidence", *SMALL, "--json"),
    ("score", "--method", "lwlrap", "--method", "margin", "--fuse", *SMALL, "--json"),
    ("score", "--pairs", "class_rank", *SMALL, "--json"), ("classes", "--json"),
    ("missing", "--percentile", "50", *SMALL, "--json"),
    ("select", "--rule", "confident", "--dry-run", "--json"),
    ("verify", *PROBE, "--iterations", "2", "--json"),
    ("duplicates", "--json", "--workers", "1"), ("similar", "low/0.wav", *SMALL, "--json"),
    ("import", "{folder}/corrections.json", "--format", "corrections"),
    ("history", "low/0.wav", "--json"), ("blame", "low/0.wav", "--json"),
    ("blame", "low/0.wav", "--all", "--json"), ("log", "--json"), ("log", "low/0.wav", "--json"),
    ("diff", "1", "--json"), ("query", "from labels_now limit 3", "--json"),
    ("query", "from review_queue limit 3", "--json"), ("undo", "{batch}", "--dry-run", "--json"),
    ("doctor", "--json"), ("rehearse", "--kind", "uniform", "--rate", "0.3", *PROBE, "--json"),
    ("changes", "export", "{folder}/changes.jsonl"),
    ("changes", "import", "{folder}/changes.jsonl", "--json"),
)  # fmt: skip
REVIEW: tuple[tuple[str, ...], ...] = (
    ("review", "init", "--url", "{url}", "--project", "{title}"),
    ("push", "--lowest-lwlrap", "4", "--json"), ("review", "status", "--json"),
    ("review", "doctor", "--json"), ("pull", "--json"),
    ("review", "disagreements", "--json"), ("review", "annotators", "--json"),
    ("review", "quarantine", "--json"), ("review", "repair", "--json"),
)  # fmt: skip


def write_set(folder: Path) -> None:
    """Write 24 second-long tones of three classes, some of them labelled wrong."""
    rng = np.random.default_rng(0)
    with (folder / "train.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("fname", "label", "manually_verified"))
        for k in range(24):
            heard, given = k % 3, (k % 3 + (k >= 12 and k % 4 == 0)) % 3
            path = folder / "audio" / f"{CLASSES[heard].lower()}/{k // 3}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            wave = np.sin(2 * np.pi * (200 + 700 * heard + 9 * k) * np.arange(8000) / 8000)
            soundfile.write(path, 0.3 * wave + 0.05 * rng.standard_normal(8000), 8000)
            name = path.relative_to(folder / "audio").as_posix()
            rows.writerow((name, CLASSES[given], int(k < 12)))
    (folder / "corrections.json").write_text(json.dumps({"low/0.wav": ["Low", "High"]}))


def describe(value: object, where: str = "") -> list[str]:
    """List the keys of a JSON value in their order, with the kind of what they hold."""
    if value in ([], {}):
        return [f"{where} empty {type(value).__name__}"]
    if isinstance(value, dict):
        return [line for key, part in value.items() for line in describe(part, f"{where}.{key}")]
    if isinstance(value, list):
        return list(dict.fromkeys(line for part in value for line in describe(part, f"{where}[]")))
    return [f"{where} {'number' if type(value) in (int, float) else type(value).__name__}"]


def collect(python: str, title: str) -> dict[str, list[str]]:
    """Run all commands with one interpreter, and describe what each prints."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_set(folder)
        words = {
            "folder": name, "audio": f"{name}/audio", "title": title,
            "url": os.environ.get("LABELKIT_URL", ""),
        }  # fmt: skip
        for command in (*COMMANDS, *(REVIEW if words["url"] else ())):
            args = [part.format(**words) for part in command]
            done = subprocess.run(
                [python, "-m", "labelkit", "-C", f"{name}/p", *args],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            asked = " ".join(command)
            if done.returncode not in (0, 3):
                found[asked] = [f"exit code {done.returncode}: {done.stderr.strip()[-200:]}"]
            elif "--json" in command:
                printed = json.loads(done.stdout)
                found[asked] = describe(printed)
                if command[0] == "log":
                    words["batch"] = printed[0]["batch"]
    return found


def main(old: str, new: str) -> int:
    """Print what differs or failed; how many is the exit code."""
    before, now = collect(old, "keys before"), collect(new, "keys now")
    failed = [asked for asked, keys in now.items() if keys[0].startswith("exit code")]
    differ = [asked for asked in before | now if before.get(asked) != now.get(asked)]
    for asked in differ:
        print(f"{asked}\n  old {before.get(asked)}\n  new {now.get(asked)}")
    for asked in failed:
        print(f"{asked}\n  {now[asked][0]}")
    print(f"{len(now)} commands, {len(failed)} of them failed, {len(differ)} differ")
    return len({*differ, *failed})


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
