"""Small projects on synthesised clips."""

import shutil

from labelkit.config import FormatSpec
from labelkit.labels.importing import import_labels
from labelkit.project import create_project, open_project

# Seconds instead of minutes: a narrow net, few mels, few epochs.
TINY = (
    "features.sample_rate=8000",
    "features.n_fft=512",
    "features.hop_length=500",
    "features.n_mels=16",
    "input.frames=48",
    "model.width=4",
    "pretrain.epochs=3",
    "finetune.epochs=1",
    "verify.iterations=2",
    "verify.windows=2",
    "verify.threshold=0",
    "verify.until=all",
    "verify.keep=last",
)

# What a classifier on embeddings hears in tests.
PROBE = ("features.sample_rate=8000", "features.n_fft=512", "features.n_mels=32")


def make_demo_project(demo_clips, root):
    _, folder = demo_clips
    root.mkdir()
    project, _ = create_project(root, folder / "audio")
    for name in ("train", "test"):
        spec = FormatSpec(subset=name)
        import_labels(project, folder / f"{name}.csv", "fsdkaggle2018", spec)
    return project


def allow_several(project, said):
    """Let clips have several labels where one of some texts or lists of labels has."""
    if any(isinstance(labels, list) or "," in labels for labels in said):
        with project.store.write() as session:
            session.rows("update facts set value = 'several' where name = 'labels'")


def copy_project(project, root):
    """A copy to write to."""
    return open_project(shutil.copytree(project.root, root))


def copy_tones(folder, target):
    """A copy of ``folder``, recordings in ``audio`` and a project beside them in ``project``."""
    shutil.copytree(folder, target, dirs_exist_ok=True)
    file = target / "project" / "labelkit.toml"
    file.write_text(file.read_text().replace(str(folder), str(target)))
    return open_project(target / "project")
