"""Commands on how recordings sound, whatever their labels say: copies, neighbours, embeddings."""

from __future__ import annotations

from typing import Any

import click

from labelkit import config
from labelkit.commands.options import (
    Finite,
    Place,
    as_of_option,
    device_option,
    probe_option,
    table_options,
    tell_unread,
    workers_option,
)
from labelkit.output import show
from labelkit.terminal import echo

# Clips without an embedding that are named.
_NAMED = 10


@click.command()
@click.option(
    "--threshold", type=Finite(0, 1, min_open=True),
    help="Lowest similarity of a pair by its spectrograms; if not given, all that is the same "
    "sound, and what is alike as chosen on ESC-10.",
)  # fmt: skip
@workers_option
@as_of_option
@table_options
@click.pass_obj
def duplicates(place: Place, threshold: float | None, workers: int | None, as_json: bool) -> None:
    """List pairs of clips that are copies: the same bytes, or re-encoded, louder, fainter, cut.

    Those of the same sound were laid over each other, sample on sample: correlation is 0.95 at
    least, and the second one begins offset_s into the first. What is alike is not the same, and
    nothing follows from it. The column parted names what parts copies, folds or subsets: that is
    a leak. Rejected clips are left out.
    """
    from labelkit.recordings.duplicates import ALIKE, list_duplicates

    pairs = list_duplicates(
        place.project(),
        config.read_recipe("probe").features,
        threshold=threshold,
        workers=workers,
    )
    show(pairs, as_json)
    same = [pair for pair in pairs if pair.what != ALIKE]
    leaks = sum(pair.parted is not None for pair in same)
    differ = sum(set(pair.labels) != set(pair.other_labels) for pair in same)
    alike = f"; {len(pairs) - len(same)} more are only alike" if len(same) < len(pairs) else ""
    echo(
        f"{len(same)} pairs: {leaks} parted by folds or subsets, {differ} with other labels{alike}",
        err=True,
    )


@click.command()
@click.argument("clip")
@click.option("--most", type=click.IntRange(min=1), default=10, show_default=True,
              help="How many to show.")  # fmt: skip
@probe_option("probe")
@workers_option
@device_option
@as_of_option
@table_options
@click.pass_obj
def similar(
    place: Place,
    clip: str,
    most: int,
    probe: config.Recipe,
    workers: int | None,
    device: str,
    as_json: bool,
) -> None:
    """Show the clips that sound most like one, named by its path below the audio folder."""
    from labelkit.recordings import embedding
    from labelkit.runs.cross_validation import device_name

    tell_unread(probe, "embedding", "features")
    clips = embedding.similar(
        place.project(),
        clip,
        spec=probe.embedding,
        feature_spec=probe.features,
        k=most,
        workers=workers,
        device=device_name(device),
    )
    show(clips, as_json)


@click.command()
@probe_option("probe")
@workers_option
@device_option
@as_of_option
@click.pass_obj
def embed(place: Place, probe: config.Recipe, workers: int | None, device: str) -> None:
    """Compute the embeddings of all clips that are not there yet, by any embedder.

    --encoder pooled_mel needs no model; aisfx is a pretrained network, of a wheel that pip
    installs; package.module:function, hear:package.module and onnx:FILE are models, checked
    on entry; vectors:FILE are your own vectors, npz or npy.
    """
    from labelkit.recordings.embedding import compute_embeddings
    from labelkit.recordings.usable import unusable
    from labelkit.runs.cross_validation import device_name

    tell_unread(probe, "embedding", "features")
    project: Any = place.project()
    store = compute_embeddings(
        project, probe.embedding, probe.features, workers=workers, device=device_name(device)
    )
    with project.store.read() as session:
        table = session.labels()
    left_out = unusable(store, table)
    echo(
        f"{len(table.paths) - len(left_out)} embeddings of {store.dim} numbers in "
        f"{store.folder.name}",
        err=True,
    )
    if left_out:
        some = ", ".join(f"{path} ({why})" for path, why in list(left_out.items())[:_NAMED])
        more = ", ..." if len(left_out) > _NAMED else ""
        echo(f"{len(left_out)} clips are left out: {some}{more}", err=True)


COMMANDS = (duplicates, similar, embed)
