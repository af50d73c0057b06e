"""Noise handling on arrays and callables, whatever the model.

Scores say how doubtful labels are, selections which to keep, consensus what several people's
answers come to, and errors are planted to measure all of it. None needs a project or torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labelkit import lazy

if TYPE_CHECKING:
    from labelkit.noise.classes import class_similarity as class_similarity
    from labelkit.noise.classes import estimate_noise as estimate_noise
    from labelkit.noise.classes import find_confusable as find_confusable
    from labelkit.noise.consensus import Agreement as Agreement
    from labelkit.noise.consensus import consensus_majority as consensus_majority
    from labelkit.noise.consensus import consensus_per_class as consensus_per_class
    from labelkit.noise.consensus import consensus_quality as consensus_quality
    from labelkit.noise.consensus import measure_agreement as measure_agreement
    from labelkit.noise.dynamics import Dynamics as Dynamics
    from labelkit.noise.dynamics import measure_dynamics as measure_dynamics
    from labelkit.noise.dynamics import score_aum as score_aum
    from labelkit.noise.dynamics import score_forgetting as score_forgetting
    from labelkit.noise.dynamics import score_mean_confidence as score_mean_confidence
    from labelkit.noise.dynamics import score_variability as score_variability
    from labelkit.noise.fusion import score_fusion as score_fusion
    from labelkit.noise.fusion import score_probe as score_probe
    from labelkit.noise.neighbours import find_neighbours as find_neighbours
    from labelkit.noise.neighbours import find_off_topic as find_off_topic
    from labelkit.noise.neighbours import score_neighbour_vote as score_neighbour_vote
    from labelkit.noise.neighbours import score_neighbours as score_neighbours
    from labelkit.noise.neighbours import score_typicality as score_typicality
    from labelkit.noise.pairs import find_missing as find_missing
    from labelkit.noise.pairs import score_pairs as score_pairs
    from labelkit.noise.probe import Probe as Probe
    from labelkit.noise.probe import cross_probs as cross_probs
    from labelkit.noise.scoring import fuse_ranks as fuse_ranks
    from labelkit.noise.scoring import score_cleanlab as score_cleanlab
    from labelkit.noise.scoring import score_cleanlab_minimum as score_cleanlab_minimum
    from labelkit.noise.scoring import score_cleanlab_softmin as score_cleanlab_softmin
    from labelkit.noise.scoring import score_log_loss as score_log_loss
    from labelkit.noise.scoring import score_lwlrap as score_lwlrap
    from labelkit.noise.scoring import score_margin as score_margin
    from labelkit.noise.scoring import score_mixture as score_mixture
    from labelkit.noise.scoring import score_self_confidence as score_self_confidence
    from labelkit.noise.selection import select_clean_share as select_clean_share
    from labelkit.noise.selection import select_complete as select_complete
    from labelkit.noise.selection import select_confident as select_confident
    from labelkit.noise.selection import select_listed as select_listed
    from labelkit.noise.selection import select_lwlrap as select_lwlrap
    from labelkit.noise.selection import select_mixture as select_mixture
    from labelkit.noise.selection import select_rank_mean as select_rank_mean
    from labelkit.noise.selection import select_small_loss as select_small_loss
    from labelkit.noise.similarity import find_near_duplicates as find_near_duplicates
    from labelkit.noise.simulate import Planted as Planted
    from labelkit.noise.simulate import distort as distort
    from labelkit.noise.simulate import plant_confusable as plant_confusable
    from labelkit.noise.simulate import plant_extra as plant_extra
    from labelkit.noise.simulate import plant_missing as plant_missing
    from labelkit.noise.simulate import plant_out_of_vocabulary as plant_out_of_vocabulary
    from labelkit.noise.simulate import plant_uniform as plant_uniform
    from labelkit.noise.verify import Round as Round
    from labelkit.noise.verify import self_verify as self_verify
    from labelkit.noise.windows import score_window_consensus as score_window_consensus
    from labelkit.noise.windows import score_window_spread as score_window_spread

# Type checkers shall know the names above and no others.
if not TYPE_CHECKING:
    __getattr__, __dir__, __all__ = lazy.attach(
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
