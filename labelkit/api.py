"""The front door from Python: a project, and what the commands do with it as methods.

Every method calls the function of a room, and gives back what that one gives; a row to print of
it is made by :func:`labelkit.output.as_row`. What has no method here takes
``OpenProject.project``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labelkit import registry
from labelkit.cleaning import score as scoring
from labelkit.cleaning.external import import_probs
from labelkit.cleaning.score import ScoredClip, ScoredLabel
from labelkit.config import RULES, FormatSpec, Recipe, change_verify, read_encoded
from labelkit.errors import InvalidInput, UnknownName
from labelkit.labels import query as querying
from labelkit.labels.importing import ImportReport
from labelkit.progress import say
from labelkit.project import Project, create_project, find_root, fix_as_of, open_project
from labelkit.recordings import checking
from labelkit.recordings.checking import ClipIssue
from labelkit.review import foreign
from labelkit.review import pull as pulling
from labelkit.review import push as pushing
from labelkit.review.queue import Choice
from labelkit.runs import train as training
from labelkit.runs import verify as verifying

if TYPE_CHECKING:
    import pandas as pd


def open(
    folder: str | Path | None = None,
    *,
    as_of: str | int | date | None = None,
    lock_timeout_s: float = 30.0,
) -> OpenProject:
    """Open a project, as the commands do.

    Args:
        folder: Folder of ``labelkit.toml``; None takes that of ``LABELKIT_PROJECT`` or, without
            it, the current folder or the nearest one above it.
        as_of: Read labels as they were: after a batch (its number), at the end of a day, at a
            time (UTC unless it says otherwise), or as a run read them.
        lock_timeout_s: Seconds to wait for another process that holds the store.

    Raises:
        NoProject: If there is none.
        InvalidInput: If ``labelkit.toml`` is not valid, or ``as_of`` is no moment of the store.
    """
    root = find_root(_path(folder))
    moment = None if as_of is None else str(as_of)
    return OpenProject(fix_as_of(open_project(root, lock_timeout_s=lock_timeout_s, as_of=moment)))


def create(folder: str | Path, audio_dir: str | Path) -> OpenProject:
    r"""Make a project and open it; harmless if the same one is there.

    Args:
        folder: Where ``labelkit.toml`` and the store go; made if it is not there.
        audio_dir: Folder of the recordings, which may lie anywhere and is only ever read.

    Raises:
        InvalidInput: If ``audio_dir`` is no folder, or ``folder`` has a project of another.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "clips").mkdir()
        >>> _ = (folder / "labels.csv").write_text("fname,label\na.wav,Bark\nb.wav,Meow\n")
        >>> data = create(folder, folder / "clips")
        >>> data.import_labels(folder / "labels.csv", "csv", metadata_only=True).added
        2
        >>> data.labels()[["path", "labels", "state"]]
            path  labels       state
        0  a.wav  [Bark]  unverified
        1  b.wav  [Meow]  unverified
        >>> data.query("select count(*) as clips from labels_now")
           clips
        0      2
    """
    return OpenProject(create_project(Path(folder), Path(audio_dir))[0])


class OpenProject:
    """A project, and what the commands do with it.

    Recipes are given by name, by the path of a TOML file, or as a :class:`Recipe`. ``settings``
    change a named one as ``--set`` does: ``epochs=3`` in every stage, ``finetune.epochs=3`` in
    one. ``flavour`` is ``as_written`` or ``as_coded``.

    Args:
        project: Its place, which functions without a method here take.
    """

    def __init__(self, project: Project) -> None:
        self.project = project

    def __repr__(self) -> str:
        return f"<labelkit project in {self.project.root}>"

    def _refuse_past(self, what: str) -> None:
        """Refuse what writes to the present from a project that looks back."""
        if self.project.store.as_of is not None:
            raise InvalidInput(
                f"this project looks back to batch {self.project.store.as_of}, and to {what} is of "
                "the present; open it without as_of"
            )

    def import_labels(
        self,
        source: str | Path,
        format: str | None = None,
        *,
        spec: FormatSpec | None = None,
        metadata_only: bool = False,
        add_classes: bool = False,
        dry_run: bool = False,
        actor: str | None = None,
        by: str | None = None,
        of: str | None = None,
    ) -> ImportReport:
        """Bring a label file into the store, whole or not at all; twice adds nothing.

        Args:
            source: The file or folder.
            format: Name of a reader: ``csv``, ``jsonl``, ``folder``, ``esc50``, ``labelstudio``,
                ...; found out by the file's columns if None.
            spec: What the format leaves open, names of columns say; its defaults if None.
            metadata_only: Do not look for the recordings.
            add_classes: Let new classes join a vocabulary that exists already.
            dry_run: Say what it would do, and change nothing.
            actor: Who brings it in, for the history; whoever runs this if None.
            by: Whether ``person`` or ``machine`` made corrections; those of a machine stay
                unverified, and leave what people decided as it is. Of ``person`` if None, but for
                those that only give a class another name.
            of: What to call the server or person an export of Label Studio is of, where two
                cannot be told apart.

        Returns:
            Counts of the clips read, added and changed, all classes, clips by state and by class,
            what was left out and why, and what looks odd.

        Raises:
            FaultyFile: If there is any fault; all of them are listed.
            InvalidInput: If the source does not exist, or nobody can tell its format.
            UnknownName: If there is no such format.
        """
        self._refuse_past("import")
        return foreign.import_file(
            self.project,
            Path(source),
            format,
            spec or FormatSpec(),
            metadata_only=metadata_only,
            add_classes=add_classes,
            dry_run=dry_run,
            actor=actor,
            by=by,
            of=of,
        )

    def check(
        self,
        recipe: str | Path | Recipe = "quick",
        *,
        settings: Sequence[str] = (),
        flavour: str | None = None,
        probe: str | Path | Recipe = "probe",
        fast: bool = False,
        workers: int | None = None,
    ) -> list[ClipIssue]:
        """List what is wrong with clips apart from their labels; nothing is changed.

        Args:
            recipe: Says how long a window is.
            settings: Changes of the recipe, ``key=value``.
            flavour: Flavour of the recipe.
            probe: Recipe of the spectrograms and embeddings by which clips are compared.
            fast: Leave out near-duplicates and outliers, which need those.
            workers: Processes at once; all cores if None.

        Returns:
            Issues with ``path``, ``issue``, ``used`` (whether the clip is trained on) and
            ``reason``, in the order of the paths.

        Raises:
            InvalidInput: If there is no audio folder, or a setting does not fit.
            UnknownName: If there is no such recipe.
        """
        return checking.check(
            self.project,
            _recipe(recipe, settings, flavour),
            probe=_recipe(probe),
            fast=fast,
            workers=workers,
        )

    def score(
        self,
        *,
        run_id: str | None = None,
        probs: str | Path | None = None,
        methods: Sequence[str] = scoring.DEFAULT,
        fuse: bool = False,
        lowest: int = 30,
        probe: str | Path | Recipe = "panel",
        encoder: str | None = None,
        settings: Sequence[str] = (),
        workers: int | None = None,
    ) -> list[ScoredClip]:
        """Score every label by a run's out-of-fold judgement, and keep the scores in the store.

        Args:
            run_id: A finished run; the last one if None.
            probs: File of probabilities of a model of your own, which judges instead of a run.
            methods: Names of scores; the first one orders the result, the next break ties.
            fuse: Order by the mean rank over all of them instead.
            lowest: How many clips to return.
            probe: Recipe of the embeddings and of what judges them.
            encoder: An embedder that is one more view to it, ``aisfx`` say.
            settings: Changes of that recipe, ``key=value``.
            workers: Processes at once; all cores if None.

        Returns:
            Clips with ``path``, ``labels``, ``state``, ``suggested``, ``scores`` by name, lower
            is worse, and ``reason``; the most doubtful first.

        Raises:
            InvalidInput: If there is no such run, or it lacks what a score reads.
            UnknownName: If there is no such score or recipe.
        """
        return scoring.score(
            self.project,
            run_id=self._judge(run_id, probs),
            methods=_several("methods", methods),
            fuse=fuse,
            lowest=lowest,
            probe=_recipe(probe, settings, encoder=encoder),
            workers=workers,
        )

    def score_pairs(
        self,
        *,
        run_id: str | None = None,
        probs: str | Path | None = None,
        method: str = "self_confidence",
        lowest: int = 30,
        probe: str | Path | Recipe = "panel",
        encoder: str | None = None,
        settings: Sequence[str] = (),
        workers: int | None = None,
    ) -> list[ScoredLabel]:
        """Score each given label of each clip, for clips of several labels, and keep the scores.

        Args:
            run_id: A finished run; the last one if None.
            probs: File of probabilities of a model of your own, which judges instead of a run.
            method: How, see :func:`labelkit.noise.pairs.score_pairs`.
            lowest: How many labels to return.
            probe: Recipe of the embeddings and of what judges them.
            encoder: An embedder that is one more view to it, ``aisfx`` say.
            settings: Changes of that recipe, ``key=value``.
            workers: Processes at once; all cores if None.

        Returns:
            Labels with ``path``, ``label``, ``score`` and ``reason``, the most doubtful first.

        Raises:
            InvalidInput: If there is no such run or method.
            UnknownName: If there is no such recipe.
        """
        return scoring.score_given(
            self.project,
            run_id=self._judge(run_id, probs),
            pairs=method,
            lowest=lowest,
            probe=_recipe(probe, settings, encoder=encoder),
            workers=workers,
        )

    def _judge(self, run_id: str | None, probs: str | Path | None) -> str | None:
        """Return the run that judges: the one named, or that of a file."""
        if probs is None:
            return run_id
        if run_id is not None:
            raise InvalidInput("run_id and probs exclude one another")
        return import_probs(self.project, Path(probs))

    def verify(
        self,
        recipe: str | Path | Recipe = "quick",
        *,
        encoder: str | None = None,
        settings: Sequence[str] = (),
        flavour: str | None = None,
        rule: str | None = None,
        seed: int = 0,
        workers: int | None = None,
        device: str = "auto",
        on_round: Callable[[dict[str, Any]], None] = lambda row: None,
    ) -> dict[str, Any]:
        """Train, then trust labels and fine-tune round by round; each round is one batch.

        The same recipe, seed and labels of people are the same run: stopped, it goes on where
        it was; finished, it is only shown.

        Args:
            recipe: Stages, rule and number of rounds.
            encoder: An embedder for a recipe that judges vectors, ``aisfx`` say.
            settings: Changes of the recipe, ``verify.iterations=3`` say.
            flavour: Flavour of the recipe.
            rule: ``as_written``, ``as_coded`` or ``argmax``: the thresholds of a published rule.
            seed: Number from which everything random follows.
            workers: Processes at once; all cores if None.
            device: ``auto``, ``cpu`` or ``cuda``.
            on_round: Gets one row after each round is in the store.

        Returns:
            ``run_id``, ``rounds`` (a row each), the scores, ``signature``, and
            ``finished_before``.

        Raises:
            InvalidInput: If there is nothing to train on or nothing verified, or a setting
                does not fit.
            UnknownName: If there is no such recipe or rule.
            StoreBusy: If another process works on the same run.
        """
        found = _recipe(recipe, settings, flavour, encoder)
        if rule is not None:
            if rule not in RULES:
                raise UnknownName(
                    f"unknown rule {rule!r}; {registry.suggestion(rule, sorted(RULES))}"
                )
            found = change_verify(found, RULES[rule])
        return verifying.verify(
            self.project, found, seed=seed, workers=workers, device=device, on_round=on_round
        )

    def train(
        self,
        recipe: str | Path | Recipe = "quick",
        *,
        encoder: str | None = None,
        settings: Sequence[str] = (),
        flavour: str | None = None,
        trusted: bool = False,
        rest: float | None = None,
        start: str | None = None,
        seed: int = 0,
        workers: int | None = None,
        device: str = "auto",
        on_stage: Callable[[dict[str, Any]], None] = lambda row: None,
    ) -> dict[str, Any]:
        """Train one model per fold, and keep how it judges the clips it never saw.

        Stopped, the same call goes on with the stage it was in; finished, it is not repeated.

        Args:
            recipe: The stages.
            encoder: An embedder for a recipe that judges vectors, ``aisfx`` say.
            settings: Changes of the recipe, ``epochs=3`` say.
            flavour: Flavour of the recipe.
            trusted: Learn from verified, relabeled and self-verified clips only.
            rest: With ``trusted``: keep the others as the noisy pool, at this weight of their
                losses.
            start: A finished run with the same folds, whose models the first stage starts from.
            seed: Number from which everything random follows.
            workers: Processes at once; all cores if None.
            device: ``auto``, ``cpu`` or ``cuda``.
            on_stage: Gets one row after each stage is in the store.

        Returns:
            ``run_id``, the metric on verified clips out of fold and on held-out clips, and
            ``signature``.

        Raises:
            InvalidInput: If there is nothing to train on, ``start`` or a setting does not fit.
            UnknownName: If there is no such recipe.
            StoreBusy: If another process works on the same run.
        """
        return training.train(
            self.project,
            _recipe(recipe, settings, flavour, encoder),
            seed=seed,
            trusted=trusted,
            rest=rest,
            start=start,
            workers=workers,
            device=device,
            on_stage=on_stage,
        )

    def push(
        self,
        *,
        first: int | None = None,
        lowest: tuple[str, int] | None = None,
        missing: int | None = None,
        where: str | None = None,
        clips: str | Path | None = None,
        disagreements: bool = False,
        dry_run: bool = False,
        follow_links: bool = False,
        token_file: str | Path | None = None,
    ) -> tuple[list[pushing.PushedClip], pushing.PushReport]:
        """Send clips to Label Studio, the most doubtful first; twice sends nothing twice.

        Exactly one of the first six says which clips.

        Args:
            first: So many of the first rows of ``review_queue``.
            lowest: A score and how many clips: ``("lwlrap", 200)``.
            missing: So many clips that a label is likely missing of.
            where: SQL condition on ``labels_now`` with the scores of ``review_queue``.
            clips: File of clips, a path a line.
            disagreements: Clips on which people differ, to one more of them.
            dry_run: Send nothing, only say what would be sent.
            follow_links: Upload recordings, too, that links take out of the audio folder.
            token_file: File of the token, where the environment holds none.

        Returns:
            The clips in the order they will be heard, and counts of their tasks: ``new``,
            ``changed``, ``same``, ``answered``, ``left_out``.

        Raises:
            InvalidInput: If nothing was set up (``labelkit review init``), or not exactly one
                choice is given.
            ServiceError: If the server fails; the same again sends nothing twice.
        """
        self._refuse_past("push")
        choice = Choice(
            first=first,
            lowest=lowest,
            missing=missing,
            where=where,
            clips=_path(clips),
            disagreements=disagreements,
        )
        return pushing.push(
            self.project,
            choice,
            dry_run=dry_run,
            follow_links=follow_links,
            token_file=_path(token_file),
        )

    def pull(
        self,
        *,
        full: bool = False,
        file: str | Path | None = None,
        token_file: str | Path | None = None,
    ) -> pulling.PullReport:
        """Bring in what people answered, changed and took back; twice brings nothing new.

        Args:
            full: Look at every task, not only at those that changed.
            file: Take the answers of a JSON export instead; no server is asked.
            token_file: File of the token, where the environment holds none.

        Returns:
            Counts of answers by kind, and of clips by what they became.

        Raises:
            InvalidInput: If nothing was set up, or the file is no export.
            ServiceError: If the server fails or the project is gone.
        """
        self._refuse_past("pull")
        if file is None:
            return pulling.pull(self.project, full=full, token_file=_path(token_file))
        if full:
            raise InvalidInput("an export is read whole; leave out full, or file")
        return pulling.pull_file(self.project, Path(file))

    def labels(self) -> pd.DataFrame:
        """Read the labels as they stand, or stood at ``as_of``.

        Returns:
            A row a clip with ``path``, ``labels`` (a list of class names), ``state``,
            ``subset``, ``group`` and ``domain``, in the order the clips came in.

        Raises:
            StoreError: If the store cannot be opened.
        """
        import pandas as pd

        with self.project.store.read() as session:
            table = session.labels()
        return pd.DataFrame(
            {
                "path": table.paths,
                "labels": [table.names(clip) for clip in range(len(table.paths))],
                "state": table.states.tolist(),
                "subset": table.subsets.tolist(),
                "group": table.groups,
                "domain": table.domains,
            }
        )

    def query(
        self, sql: str, *, timeout_s: float = 30.0, max_rows: int | None = None
    ) -> pd.DataFrame:
        """Answer one SELECT over the store, in a process of its own that can only read it.

        Args:
            sql: One statement that reads, from ``labels_now`` say.
            timeout_s: Seconds after which it is stopped.
            max_rows: Rows to answer at most; all if None.

        Returns:
            The answer. Lists stay lists and timestamps are timestamps (UTC); whole numbers
            among which there is a NULL are ``Int64``.

        Raises:
            InvalidInput: If it is not exactly one reading statement, or wrong SQL.
            StoreError: If a limit stops it, or the store cannot be opened.
        """
        import pandas as pd

        with querying.ask(self.project, sql, timeout_s=timeout_s, max_rows=max_rows) as reply:
            rows = [row for batch in reply.batches for row in batch]
        if reply.more:
            say(f"there are more than these {max_rows} rows; give a higher max_rows")
        columns = zip(*rows, strict=True) if rows else [()] * len(reply.columns)
        return pd.DataFrame(
            {name: _column(values) for name, values in zip(reply.columns, columns, strict=True)}
        )


def _recipe(
    recipe: str | Path | Recipe,
    settings: Sequence[str] = (),
    flavour: str | None = None,
    encoder: str | None = None,
) -> Recipe:
    """A recipe by its name, or the one that is given."""
    settings = _several("settings", settings)
    if not isinstance(recipe, Recipe):
        return read_encoded(str(recipe), encoder, settings, flavour)
    if settings or flavour is not None or encoder is not None:
        raise InvalidInput(
            f"settings, flavour and encoder change a recipe given by name; {recipe.name} is read "
            "already, so give them to read_recipe"
        )
    return recipe


def _several(what: str, values: Sequence[str]) -> Sequence[str]:
    """Refuse a text in place of a list of texts: it would be read letter by letter."""
    if isinstance(values, str):
        raise InvalidInput(f"{what} is a list, [{values!r}] say, got {values!r}")
    return values


def _path(name: str | Path | None) -> Path | None:
    return None if name is None else Path(name)


def _column(values: Sequence[Any]) -> pd.Series:
    """A column of an answer, typed as pandas does, but for whole numbers beside NULL."""
    import pandas as pd

    kinds = {type(value) for value in values}
    if kinds == {int, type(None)}:
        # As floats, which pandas would make of them, they would lose digits.
        try:
            return pd.Series(values, dtype="Int64")
        except OverflowError:
            return pd.Series(values, dtype=object)
    return pd.Series(values)
