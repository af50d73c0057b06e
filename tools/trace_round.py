"""Which modules a round of ``verify`` goes through, and whether one sitting is enough to read them.

Runs a small ``verify`` of a network and of a classifier, and lists the modules of labelkit entered
between the command and the commit of the first round that decides, less the tools that
ARCHITECTURE.md names with a reason. Run as ``python -m tools.trace_round``; ends with 1 if they
are more than :data:`MODULES` modules or :data:`LINES` lines.
"""

from __future__ import annotations

import inspect
import re
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Any

from click.testing import CliRunner

from labelkit.cli import cli
from labelkit.config import FormatSpec
from labelkit.datasets.demo import SAMPLE_RATE, plan_demo, write_demo
from labelkit.labels.importing import import_labels
from labelkit.project import create_project
from labelkit.runs.folds import freeze_folds

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "labelkit"
MODULES, LINES = 7, 1500

# A net of four channels on few frames: what is entered does not depend on the size.
_FEATURES = (
    f"features.sample_rate={SAMPLE_RATE}", "features.n_fft=512", "features.hop_length=500",
    "features.n_mels=16", "verify.threshold=0", "verify.until=all",
)  # fmt: skip
ROUNDS = {
    "probe": (*_FEATURES, "verify.iterations=1"),
    "quick": (
        *_FEATURES, "input.frames=48", "model.width=4", "pretrain.epochs=1", "finetune.epochs=1",
        "verify.iterations=1", "verify.windows=2",
    ),
}  # fmt: skip


def read_tools(text: str) -> list[str]:
    """Read the tools that a page names: paths below ``labelkit/``, one a bullet, each with why.

    Raises:
        ValueError: If a bullet gives no reason, or names what is not there.
    """
    section = text.partition("## Tools on the way")[2].partition("\n## ")[0]
    tools = []
    for bullet in re.findall(r"^- (.+(?:\n  .+)*)", section, re.M):
        found = re.match(r"`(?:labelkit/)?([\w/.]+)`\S*\s+(.{10,})", bullet, re.S)
        if found is None:
            raise ValueError(f"tool without a name or a reason: {bullet}")
        if not (PACKAGE / found[1]).exists():
            raise ValueError(f"no such module or room: {found[1]}")
        tools.append(found[1].rstrip("/"))
    return tools


def is_tool(module: str, tools: list[str]) -> bool:
    """Tell whether a module, ``runs/verify.py`` say, is a tool or lies in the room of one."""
    return any(module == tool or module.startswith(f"{tool}/") for tool in tools)


class Trace:
    """Modules entered from the command on, up to the commit of the first round that decides."""

    def __init__(self) -> None:
        self.entered: list[str] = []
        self._commits = 0
        self._open = False

    def __call__(self, frame: FrameType, event: str, arg: Any) -> None:
        """Note a call; the profile function of the interpreter."""
        file = frame.f_code.co_filename
        if event == "call" and file.startswith(str(PACKAGE)):
            module = Path(file).relative_to(PACKAGE).as_posix()
            name = frame.f_code.co_name
            if module.startswith("commands/") and name == "verify":
                self._open = True
            # What a module or a class does when it is imported is no step of a round.
            runs = frame.f_code.co_flags & inspect.CO_OPTIMIZED
            if self._open and runs and module not in self.entered:
                self.entered.append(module)
        elif event == "return" and file.endswith("runs/persist.py"):
            if frame.f_code.co_name == "commit_trainings":
                self._commits += 1
                self._open = self._open and self._commits < 2


def trace_round(recipe: str, settings: tuple[str, ...], folder: Path) -> list[str]:
    """Run ``verify`` on a few synthesised clips, and list the modules it entered."""
    clips = plan_demo(3, n_train=4, n_test=1)
    write_demo(folder, clips, 3)
    project, _ = create_project(folder, folder / "audio")
    import_labels(project, folder / "train.csv", "fsdkaggle2018", FormatSpec())
    freeze_folds(project, n=2)
    trace = Trace()
    words = ["-C", str(folder), "verify", "--recipe", recipe, "--workers", "1", "--device", "cpu"]
    for setting in settings:
        words += ["--set", setting]
    sys.setprofile(trace)
    try:
        done = CliRunner().invoke(cli, words)
    finally:
        sys.setprofile(None)
    if done.exit_code:
        raise RuntimeError(done.output)
    return trace.entered


def main() -> int:
    """Print what was entered; 1 if it is too much to read in one sitting."""
    tools = read_tools((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"))
    failed = False
    for recipe, settings in ROUNDS.items():
        with tempfile.TemporaryDirectory() as folder:
            entered = trace_round(recipe, settings, Path(folder))
        read = [module for module in entered if not is_tool(module, tools)]
        lines = {m: len((PACKAGE / m).read_text(encoding="utf-8").splitlines()) for m in read}
        total = sum(lines.values())
        print(f"a round of verify --recipe {recipe}: {len(read)} modules, {total} lines")
        print("\n".join(f"  {n:4} {module}" for module, n in lines.items()))
        failed |= len(read) > MODULES or total > LINES
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
