"""Noise handling on arrays and callables, whatever the model.

Scores say how doubtful labels are, selections which to keep, consensus what several people's
answers come to, and errors are planted to measure all of it. None needs a project or torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labelkit import lazy

if TYPE_CHECKING:
    from labelkit.noise.classes import class_similarity, estimate_noise, find_confusable
    from labelkit.noise.consensus import (
        Agreement,
        consensus_majority,
        consensus_per_class,
        consensus_quality,
        measure_agreement,
    )
    from labelkit.noise.dynamics import (
        Dynamics,
        measure_dynamics,
        score_aum,
        score_forgetting,
        score_mean_confidence,
        score_variability,
    )
    from labelkit.noise.fusion import score_fusion, score_probe
    from labelkit.noise.neighbours import (
        find_neighbours,
        find_off_topic,
        score_neighbour_vote,
        score_neighbours,
        score_typicality,
    )
    from labelkit.noise.pairs import find_missing, score_pairs
    from labelkit.noise.probe import Probe, cross_probs
    from labelkit.noise.scoring import (
        fuse_ranks,
        score_cleanlab,
        score_cleanlab_minimum,
        score_cleanlab_softmin,
        score_log_loss,
        score_lwlrap,
        score_margin,
        score_mixture,
        score_self_confidence,
        suggest_labels,
    )
    from labelkit.noise.selection import (
        select_clean_share,
        select_complete,
        select_confident,
        select_listed,
        select_lwlrap,
        select_mixture,
        select_rank_mean,
        select_small_loss,
    )
    from labelkit.noise.similarity import find_near_duplicates
    from labelkit.noise.simulate import (
        Planted,
        distort,
        plant_confusable,
        plant_extra,
        plant_missing,
        plant_out_of_vocabulary,
        plant_uniform,
    )
    from labelkit.noise.verify import Round, self_verify
    from labelkit.noise.windows import score_window_consensus, score_window_spread

__all__ = [
    "Agreement",
    "Dynamics",
    "Planted",
    "Probe",
    "Round",
    "class_similarity",
    "consensus_majority",
    "consensus_per_class",
    "consensus_quality",
    "cross_probs",
    "distort",
    "estimate_noise",
    "find_confusable",
    "find_missing",
    "find_near_duplicates",
    "find_neighbours",
    "find_off_topic",
    "fuse_ranks",
    "measure_agreement",
    "measure_dynamics",
    "plant_confusable",
    "plant_extra",
    "plant_missing",
    "plant_out_of_vocabulary",
    "plant_uniform",
    "score_aum",
    "score_cleanlab",
    "score_cleanlab_minimum",
    "score_cleanlab_softmin",
    "score_forgetting",
    "score_fusion",
    "score_log_loss",
    "score_lwlrap",
    "score_margin",
    "score_mean_confidence",
    "score_mixture",
    "score_neighbour_vote",
    "score_neighbours",
    "score_pairs",
    "score_probe",
    "score_self_confidence",
    "score_typicality",
    "score_variability",
    "score_window_consensus",
    "score_window_spread",
    "select_clean_share",
    "select_complete",
    "select_confident",
    "select_listed",
    "select_lwlrap",
    "select_mixture",
    "select_rank_mean",
    "select_small_loss",
    "self_verify",
    "suggest_labels",
]

# Type checkers shall know the names above and no others.
if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.attach(
        __name__,
        {
            "classes": ("class_similarity", "estimate_noise", "find_confusable"),
            "consensus": (
                "Agreement",
                "consensus_majority",
                "consensus_per_class",
                "consensus_quality",
                "measure_agreement",
            ),
            "dynamics": (
                "Dynamics",
                "measure_dynamics",
                "score_aum",
                "score_forgetting",
                "score_mean_confidence",
                "score_variability",
            ),
            "fusion": ("score_fusion", "score_probe"),
            "neighbours": (
                "find_neighbours",
                "find_off_topic",
                "score_neighbour_vote",
                "score_neighbours",
                "score_typicality",
            ),
            "pairs": ("find_missing", "score_pairs"),
            "probe": ("Probe", "cross_probs"),
            "scoring": (
                "fuse_ranks",
                "score_cleanlab",
                "score_cleanlab_minimum",
                "score_cleanlab_softmin",
                "score_log_loss",
                "score_lwlrap",
                "score_margin",
                "score_mixture",
                "score_self_confidence",
                "suggest_labels",
            ),
            "selection": (
                "select_clean_share",
                "select_complete",
                "select_confident",
                "select_listed",
                "select_lwlrap",
                "select_mixture",
                "select_rank_mean",
                "select_small_loss",
            ),
            "similarity": ("find_near_duplicates",),
            "simulate": (
                "distort",
                "Planted",
                "plant_confusable",
                "plant_extra",
                "plant_missing",
                "plant_out_of_vocabulary",
                "plant_uniform",
            ),
            "verify": ("Round", "self_verify"),
            "windows": ("score_window_consensus", "score_window_spread"),
        },
    )
