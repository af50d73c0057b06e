"""Trainings on a project: the life of a round, from the command ``labelkit verify`` to the store.

1. ``commands/runs.py`` reads recipe, rule and options, calls one function, and prints a line a
   round.
2. ``runs/verify.py`` is the round: it has the data read and the run named (3 and 4), claims the
   run, goes through the rounds, and commits each one.
3. ``runs/dataset.py`` takes labels, states and folds from the project, at one moment, and asks
   once who learns: a network, which hears spectrograms, or a classifier, which hears embeddings.
4. ``runs/cross_validation.py`` names the run by what its verb reads, and runs the folds side by
   side, or one after the other on a GPU.
5. ``training/crossfit.py`` chooses what the model of one fold learns from, has it trained, and
   keeps how it judges the clips it left out. For a classifier ``training/probefit.py`` takes its
   place.
6. ``noise/verify.py`` decides which unverified labels to trust, from the judgements of the round
   before, and yields what the round found. It knows arrays and a function, no project.
7. ``runs/rows.py`` turns that into rows: runs, events, predictions, scores, suggestions.
8. ``runs/persist.py`` writes each round as one batch, and rolls it back if a model judged what
   it saw; at the end it writes the run itself, with the decisions of the round that counts (the
   one of lowest loss, or the last, by ``verify.keep``), and how far the run agrees with the labels.
9. ``stores/append.py`` checks every row and appends: no machine decides over a person.

Stopped at any point, the same command goes on: finished trainings are read from
``.labelkit/runs``, and a batch whose key is there already is only compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labelkit import lazy

if TYPE_CHECKING:
    from labelkit.runs import train as train
    from labelkit.runs import verify as verify
    from labelkit.runs.dataset import Dataset as Dataset
    from labelkit.runs.dataset import read_dataset as read_dataset
    from labelkit.runs.folds import freeze_folds as freeze_folds

# Type checkers shall know the names above and no others.
if not TYPE_CHECKING:
    __getattr__, __dir__, __all__ = lazy.attach(
        __name__,
        {
            "dataset": ("Dataset", "read_dataset"),
            "folds": ("freeze_folds",),
            "train": ("train",),
            "verify": ("verify",),
        },
    )
