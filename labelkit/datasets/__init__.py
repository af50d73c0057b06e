"""Label files of other tools, and a synthesised set whose truth is known.

What a format is called, the registry says; a reader or writer of yours is built of the same parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labelkit import lazy

if TYPE_CHECKING:
    from labelkit.datasets.demo import plan_demo as plan_demo
    from labelkit.datasets.demo import write_demo as write_demo
    from labelkit.datasets.formats import read_corrections as read_corrections
    from labelkit.datasets.formats import read_csv as read_csv
    from labelkit.datasets.formats import read_folder as read_folder
    from labelkit.datasets.formats import read_fsdkaggle2018 as read_fsdkaggle2018
    from labelkit.datasets.formats import read_fsdkaggle2019 as read_fsdkaggle2019
    from labelkit.datasets.formats import read_jsonl as read_jsonl
    from labelkit.datasets.formats import read_parquet as read_parquet
    from labelkit.datasets.oddities import find_alike as find_alike
    from labelkit.datasets.published import read_audioset as read_audioset
    from labelkit.datasets.published import read_birdclef as read_birdclef
    from labelkit.datasets.published import read_dcase as read_dcase
    from labelkit.datasets.published import read_esc50 as read_esc50
    from labelkit.datasets.published import read_fsd50k as read_fsd50k
    from labelkit.datasets.published import read_urbansound8k as read_urbansound8k
    from labelkit.datasets.reading import Reading as Reading
    from labelkit.datasets.writers import fills_folder as fills_folder
    from labelkit.datasets.writers import write_csv as write_csv
    from labelkit.datasets.writers import write_fsdkaggle2018 as write_fsdkaggle2018
    from labelkit.datasets.writers import write_fsdkaggle2019 as write_fsdkaggle2019
    from labelkit.datasets.writers import write_jsonl as write_jsonl
    from labelkit.datasets.writers import write_parquet as write_parquet

# Type checkers shall know the names above and no others.
if not TYPE_CHECKING:
    __getattr__, __dir__, __all__ = lazy.attach(
        __name__,
        {
            "demo": ("plan_demo", "write_demo"),
            "formats": (
                "read_corrections",
                "read_csv",
                "read_folder",
                "read_fsdkaggle2018",
                "read_fsdkaggle2019",
                "read_jsonl",
                "read_parquet",
            ),
            "oddities": ("find_alike",),
            "published": (
                "read_audioset",
                "read_birdclef",
                "read_dcase",
                "read_esc50",
                "read_fsd50k",
                "read_urbansound8k",
            ),
            "reading": ("Reading",),
            "writers": (
                "fills_folder",
                "write_csv",
                "write_fsdkaggle2018",
                "write_fsdkaggle2019",
                "write_jsonl",
                "write_parquet",
            ),
        },
    )
