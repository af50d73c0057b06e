"""The settings of labelkit, as frozen dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from labelkit import registry
from labelkit.config.settings import AUTO, COARSE, setting

# Of one set; their numbers go from 0 to one less.
MOST_FOLDS = 10_000


@dataclass(frozen=True, kw_only=True)
class FormatSpec:
    """How a label file is to be read, where its format leaves a choice."""

    path_column: str | None = setting(
        None, "csv: column of the clip's path; fname if not given, path in an exported file."
    )
    label_column: str | None = setting(
        None,
        "csv: column of its label or labels; label if not given. A file with columns path, labels "
        "and state is an exported one, and its other columns count as well.",
    )
    verified_column: str | None = setting(None, "csv: column that says 1 where it is verified.")
    state_column: str | None = setting(None, "csv: column of the state; labels may be empty then.")
    fold_column: str | None = setting(None, "csv: column of a given fold.")
    group_column: str | None = setting(
        None, "csv: column of the recording that clips were cut from; no fold parts its clips."
    )
    domain_column: str | None = setting(
        None,
        "csv: column of the speaker, site, device or uploader; folds part them only where that is "
        "asked for.",
    )
    subset_column: str | None = setting(None, "csv: column of the subset, train or test.")
    hash_column: str | None = setting(None, "csv: column of the hash of the recording.")
    duration_column: str | None = setting(None, "csv: column of its length in seconds.")
    separator: str = setting(
        ",",
        "csv: what parts several labels of a clip; one that holds it stands in quotes.",
        filled=True,
    )
    state: str | None = setting(
        None,
        "State of all rows, where the file does not say it.",
        choices=("unverified", "verified"),
    )
    subset: str | None = setting(
        None,
        "Subset of all rows, where the file does not say it; test holds the clips out, train if "
        "not given.",
        choices=("train", "test"),
    )
    match: str | None = setting(
        None,
        "Where no recording lies at a path, take the one that is there: of the same name in "
        "another folder (name), with another extension or none as well (stem), in another case as "
        "well (nocase); where it is the only one. exact if not given, stem for published sets.",
        choices=("exact", "name", "stem", "nocase"),
    )
    prefix: str = setting("", "Folder below the audio folder in which the file's paths lie.")
    follow_links: bool = setting(
        False, "Take recordings, too, that links take out of the audio folder."
    )


@dataclass(frozen=True, kw_only=True)
class ReviewSpec:
    """How clips get to annotators, and how their answers count."""

    blind: bool = setting(False, "Show no suggestion, no reason and no doubtful seconds.")
    overlap: int = setting(1, "Annotators each clip is shown to.", low=1, high=100)
    consensus: str = setting(
        "auto",
        "Where they differ: majority of whole answers, per_class, quality (cleanlab, by the last "
        "run; one label a clip), or auto: majority, per_class where clips have several labels.",
        choices=("auto", *registry.names("consensus")),
    )
    audio: str = setting(
        "local",
        "How recordings get there: local, the server sees the same folder; upload; url, of a web "
        "server.",
        choices=("local", "upload", "url"),
    )
    audio_url: str | None = setting(None, "url: address of the audio folder.")
    document_root: str | None = setting(
        None,
        "local: LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT of the server; found out if not given.",
    )


@dataclass(frozen=True, kw_only=True)
class FeatureSpec:
    """How a recording becomes a spectrogram in dB."""

    kind: str = setting("log_mel", "Spectrogram to compute.", kind="feature")
    sample_rate: int = setting(
        32000,
        "Rate every recording is resampled to, in Hz; auto: that of most recordings.",
        low=1000, words=(AUTO,),
    )  # fmt: skip
    trim: str = setting(
        "peak",
        "peak cuts edges trim_db below the peak; sox normalises and cuts silence like SoX; none.",
        choices=("peak", "sox", "none"),
    )
    trim_db: float = setting(60.0, "Cut edges this far below the peak, in dB; 0 keeps all.", low=0)
    min_s: float = setting(
        0.0,
        "Bring shorter recordings to this length, in seconds; auto: that of a window.",
        low=0, words=(AUTO,),
    )  # fmt: skip
    short: str = setting(
        "pad",
        "How: pad with zeros on both sides, or take more of the untrimmed one around its sound.",
        choices=("pad", "centre"),
    )
    peak: float = setting(0.0, "Scale to this highest amplitude; 0 leaves it.", low=0, high=1)
    speed: float = setting(1.0, "Time stretch of this offline variant.", low=0.25, high=4)
    semitones: float = setting(0.0, "Pitch shift of this offline variant.", low=-24, high=24)
    n_fft: int = setting(
        1024,
        "Samples of an analysis window; auto: by the length of the recordings; coarse: likewise, "
        "for coarse frames.",
        low=16, words=(AUTO, COARSE),
    )  # fmt: skip
    hop_length: int = setting(
        500,
        "Samples between two frames; auto: by the length of the recordings; coarse: twice that, "
        "for networks.",
        low=1, words=(AUTO, COARSE),
    )  # fmt: skip
    n_mels: int = setting(
        64,
        "Bands of the spectrogram; fewer where one would be empty of a window that is auto.",
        low=1,
    )
    fmin_hz: float = setting(20.0, "Lower edge of the lowest band, in Hz.", low=0)
    fmax_hz: float | None = setting(None, "Upper edge of the highest band; half the rate if unset.")
    bands_per_octave: int = setting(26, "log_filter_bank: bands of an octave.", low=1)
    floor_db: float = setting(-100.0, "Energies below this are raised to it, in dB.")
    top_db: float | None = setting(None, "Raise all to this far below the maximum, in dB.", low=0)
    silence_db: float = setting(
        -90.0, "Leave out recordings that never leave this level, in dB of full scale.", high=0
    )
    cancelled_db: float = setting(
        10.0,
        "Leave out those that lose so much more by mixing down than channels that have nothing in "
        "common, in dB; 0 keeps all.",
        low=0,
    )
    moment_s: float = setting(
        0.1,
        "Leave out those ten times longer of which trimming keeps less seconds than this and cuts "
        "sound away; 0 keeps all.",
        low=0,
    )
    spike_db: float = setting(
        60.0,
        "Leave out those of which less than 1 ms lies within this of the peak; 0 keeps all.",
        low=0,
    )


@dataclass(frozen=True, kw_only=True)
class EmbeddingSpec:
    """Which vector stands for a clip."""

    embedder: str = setting(
        "pooled_mel",
        "pooled_mel needs no model, aisfx a wheel; hear:package.module, onnx:FILE, "
        "package.module:function; vectors:FILE are your own.",
        kind="embedder",
    )
    sample_rate: int = setting(
        16000, "Rate the embedder wants, in Hz; aisfx and hear know theirs.", low=1000
    )
    window_s: float = setting(0.0, "Length of a window, in seconds; 0 is the whole clip.", low=0)
    hop_s: float = setting(0.0, "From one window to the next, in seconds; 0 is window_s.", low=0)
    weights: str = setting("", "hear: file of the model's weights.")
    beside: tuple[str, ...] = setting(
        (),
        "Embedders whose vectors stand behind its own; to a panel each is a view.",
        kind="embedder",
    )

    @property
    def parts(self) -> list[EmbeddingSpec]:
        """The embedders whose vectors stand side by side, each by itself."""
        names = (self.embedder, *self.beside)
        return [
            replace(self, embedder=name, beside=(),
                    weights=self.weights if name.startswith("hear:") else "")
            for name in names
        ]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ProbeSpec:
    """Which classifier judges embeddings, where no network is trained."""

    classifier: str | None = setting(
        None, "Classifier on embeddings; a network is trained if unset.", kind="classifier"
    )
    options: Mapping[str, Any] = setting({}, "Its keyword arguments: options.C=0.1 say.")
    standardise: bool = setting(True, "Bring each dimension to mean 0 and deviation 1.")


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """What of a spectrogram the network sees."""

    frames: int = setting(
        256,
        "Frames of a window; auto: as most recordings have, 128 at most.",
        low=1, high=10_000, words=(AUTO,),
    )  # fmt: skip
    fill_frames: int = setting(
        0, "Repeat clips to this many frames and cut them there; 0 leaves them.", low=0
    )
    pad: str = setting(
        "wrap",
        "A clip shorter than a window is repeated (wrap), centred on its minimum (constant), "
        "or either by chance in training and centred elsewhere.",
        choices=("wrap", "constant", "either"),
    )
    place: str = setting(
        "uniform",
        "Where training windows are cut: anywhere, or as likely as their centre's energy.",
        choices=("uniform", "energy"),
    )
    normalise: str = setting(
        "band",
        "By mean and deviation of each band over the training clips; by mean and std as set "
        "here; of each clip; of each clip and then min-max in 256 steps; or not at all.",
        choices=("band", "fixed", "clip", "clip_8bit", "none"),
    )
    mean: float = setting(0.0, "fixed: subtracted, in dB.")
    std: float = setting(1.0, "fixed: divided by, in dB.", low=1e-6)
    deltas: int = setting(0, "Further channels: deltas of order 1, or 1 and 2.", low=0, high=2)
    copies: int = setting(1, "The same channel this many times.", low=1, high=8)

    @property
    def channels(self) -> int:
        """Channels of a window."""
        return self.copies * (1 + self.deltas)


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Which network."""

    name: str = setting("dense_m1", "Network to train.", kind="model")
    width: int | None = setting(None, "Channels of the first block; as published if unset.", low=1)
    dropout: float | None = setting(None, "Dropout of its head; as published if unset.", low=0)
    head: str = setting(
        "auto",
        "softmax for one label a clip, sigmoid for several; auto looks at the labels.",
        choices=("auto", "softmax", "sigmoid"),
    )


@dataclass(frozen=True, kw_only=True)
class PoolSpec:
    """How often clips of each pool are drawn; all 0 takes every clip once an epoch."""

    noisy: float = setting(0.0, "Share of draws: labels nobody vouched for.", low=0)
    selected: float = setting(0.0, "Share of draws: once noisy, since then chosen.", low=0)
    curated: float = setting(0.0, "Share of draws: labels people vouched for at once.", low=0)
    draws: int = setting(0, "Drawn clips of an epoch; 0 is as many as there are.", low=0)
    selected_stay_noisy: bool = setting(False, "Chosen clips are also left in the noisy pool.")


@dataclass(frozen=True, kw_only=True)
class StageSpec:
    """One training: which clips, for how long, with which loss and augmentation."""

    clips: str = setting(
        "all",
        "all; trusted: those that people or a selection vouch for; curated: people only; noisy: "
        "the others.",
        choices=("all", "trusted", "curated", "noisy"),
    )
    start: str = setting("", "Stage whose weights it starts from; new weights if empty.")
    select: Mapping[str, Any] = setting(
        {}, "Rule by which noisy clips are chosen beforehand, and its judges.", options="selection"
    )
    remove: Mapping[str, Any] = setting(
        {}, "Rule by which noisy clips are left out beforehand.", options="selection"
    )
    pools: PoolSpec = setting(PoolSpec(), "Sampling.")
    epochs: int = setting(30, "Passes over the training clips.", low=1)
    batch_size: int = setting(32, "Clips of a step.", low=2)
    log_every: int = setting(
        0, "Keep how every clip is judged, each so many epochs; 0 keeps nothing.", low=0
    )

    optimizer: str = setting("adam", "Optimiser.", kind="optimizer")
    momentum: float = setting(0.9, "sgd: momentum.", low=0, high=1)
    lr: float = setting(1e-3, "Peak learning rate.", low=0)
    weight_decay: float = setting(0.0, "Weight decay.", low=0)
    no_decay: tuple[str, ...] = setting((), "No decay of parameters with these in their names.")
    clip_value: float = setting(0.0, "Clamp every gradient to +- this; 0 is off.", low=0)
    clip_norm: float = setting(0.0, "Scale gradients to at most this norm; 0 is off.", low=0)

    schedule: str = setting("one_cycle", "Learning rate over the epochs.", kind="schedule")
    turn: float = setting(0.25, "Share of the epochs after which it falls.", low=0, high=1)
    lr_start: float = setting(0.0, "cosine: where the warm-up begins.", low=0)
    lr_min: float = setting(0.0, "Lowest learning rate.", low=0)
    per_epoch: bool = setting(False, "Change the rate every epoch rather than every step.")
    cycle: int = setting(10, "cosine_restarts: epochs of the first cycle.", low=1)
    cycle_factor: int = setting(2, "cosine_restarts: each cycle is so much longer.", low=1)
    patience: int = setting(6, "plateau: epochs without a gain before it falls.", low=0)
    factor: float = setting(0.5, "plateau: what it is multiplied by.", low=0, high=1)

    monitor: str = setting(
        "none",
        "Score on the held-out verified clips that decides on plateaus, stopping and keeping.",
        choices=("none", "loss", "lwlrap", "accuracy", "map3"),
    )
    keep_by: str = setting(
        "monitor",
        "Another score that decides on keeping alone.",
        choices=("monitor", "loss", "lwlrap", "accuracy", "map3"),
    )
    keep_best: int = setting(0, "Keep the weights of the best epochs; 0 is the last.", low=0)
    stop_patience: int = setting(0, "Stop after so many epochs without a gain; 0 never.", low=0)
    stop_lr: float = setting(0.0, "Stop once the learning rate is this low; 0 never.", low=0)

    loss: str = setting("auto", "Loss of trusted labels; auto follows the head.", kind="loss")
    noisy_loss: str = setting("lsoft", "Loss of labels nobody vouched for.", kind="loss")
    trusted_weight: float = setting(1.0, "Weight of trusted labels in the loss.", low=0)
    noisy_weight: float = setting(1.0, "Weight of noisy labels in the loss.", low=0)
    weigh_by: str = setting(
        "clip",
        "clip: weights count for each clip, so a pool weighs by its share of the batch; pool: "
        "for the mean of each pool.",
        choices=("clip", "pool"),
    )
    over_classes: str = setting(
        "sum", "sigmoid: losses of a clip's classes are added or averaged.", choices=("sum", "mean")
    )
    over_clips: str = setting(
        "mean", "Losses of a step's clips are averaged or added.", choices=("mean", "sum")
    )
    beta: float = setting(0.7, "lsoft: share of the label in its target.", low=0, high=1)
    q: float = setting(0.5, "lq: 0 is cross-entropy, 1 the absolute error.", low=0, high=1)
    outlier: float = setting(
        0.8, "max_outlier: drop losses above this share of the batch's highest.", low=0, high=1
    )
    head_weights: tuple[float, ...] = setting(
        (1.0, 0.4, 0.2, 0.1), "Weights of the main head and the auxiliary ones.", low=0
    )
    dropout_samples: int = setting(0, "Mean of so many dropped-out heads; 0 is off.", low=0)
    dropout_rate: float = setting(0.1, "Their dropout.", low=0, high=0.95)

    augment: Mapping[str, Any] = setting({}, "Augmentations, in order.", tables="augmentation")
    variants: tuple[str, ...] = setting(
        (), "Offline variants drawn beside the clip: speed:0.9, semitones:2."
    )


@dataclass(frozen=True, kw_only=True)
class WindowSpec:
    """Which windows of a clip are heard to judge it, and how they are put together."""

    windows: str = setting(
        "tiles",
        "tiles: every step frames, the margins filled; spaced: no further apart than step, from "
        "the first to the last; regular: n of them, evenly; random: n of them; centre; full: the "
        "whole clip at once.",
        choices=("tiles", "spaced", "regular", "random", "centre", "full"),
    )
    n: int = setting(8, "regular, random: number of windows.", low=1)
    step: int = setting(128, "tiles, spaced: frames from one to the next.", low=1)
    mean: str = setting("arithmetic", "Mean over windows.", choices=("arithmetic", "geometric"))
    fold_mean: str = setting(
        "arithmetic", "Mean over the models of the folds.", choices=("arithmetic", "geometric")
    )


@dataclass(frozen=True, kw_only=True)
class VerifySpec:
    """How the loop decides which noisy labels to trust."""

    iterations: int = setting(
        10, "Rounds of self-verification and fine-tuning.", low=1, high=10_000
    )
    windows: int = setting(
        25, "Random windows whose mean probability judges a clip; 0 as [inference] says.", low=0
    )
    threshold: float | None = setting(
        None,
        "Every given label must be among the most probable classes and exceed this probability; if "
        "unset, what is trusted is found from the verified clips, by precision.",
        low=0,
        high=1,
    )
    precision: float | None = setting(
        None,
        "Without a threshold: share of the trusted labels that is to be right, as far as verified "
        "clips can tell; if unset 0.98, or 0.95 of whole label sets where clips may have several.",
        low=0.5,
        high=0.999,
    )
    per_class: int = setting(0, "At most so many clips of a class; 0 is no limit.", low=0)
    accumulate: bool = setting(False, "Keep what earlier rounds accepted, and add to it.")
    until: str = setting(
        "settled",
        "When rounds end: settled, as soon as the trusted set is one that was there before, or the "
        "verified loss rises; all, after as many as iterations says.",
        choices=("settled", "all"),
    )
    keep: str = setting(
        "best",
        "Which round counts in the end: the last, or the one of lowest verified loss.",
        choices=("last", "best"),
    )


# The rule of Dorfer and Widmer (DCASE 2018 task 2), as their report states it and as
# their released command applies it, and the bare argmax condition of both.
RULES: dict[str, dict[str, Any]] = {
    "as_written": {"windows": 25, "threshold": 0.95, "per_class": 40},
    "as_coded": {"windows": 25, "threshold": 0.0, "per_class": 40},
    "argmax": {"threshold": 0.0, "per_class": 0},
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A whole training as data; ``changes`` are the settings that were set by hand."""

    name: str
    flavour: str | None = None
    changes: tuple[str, ...] = ()
    features: FeatureSpec = FeatureSpec()
    input: InputSpec = InputSpec()
    model: ModelSpec = ModelSpec()
    stages: Mapping[str, StageSpec] = field(default_factory=dict)
    inference: WindowSpec = WindowSpec()
    validation: WindowSpec = WindowSpec()
    verify: VerifySpec = VerifySpec()
    probe: ProbeSpec = ProbeSpec()
    embedding: EmbeddingSpec = EmbeddingSpec()
