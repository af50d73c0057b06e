"""Label files of other tools, and a synthesised set whose truth is known.

What a format is called, the registry says; a reader or writer of yours is built of the same parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labelkit import lazy

if TYPE_CHECKING:
    from labelkit.datasets.demo import plan_demo, write_demo
    from labelkit.datasets.formats import (
        read_corrections,
        read_csv,
        read_folder,
        read_fsdkaggle2018,
        read_fsdkaggle2019,
        read_jsonl,
        read_parquet,
    )
    from labelkit.datasets.reading import Reading
    from labelkit.datasets.writers import (
        fills_folder,
        write_csv,
        write_fsdkaggle2018,
        write_fsdkaggle2019,
        write_jsonl,
        write_parquet,
    )

__all__ = [
    "Reading",
    "fills_folder",
    "plan_demo",
    "read_corrections",
    "read_csv",
    "read_folder",
    "read_fsdkaggle2018",
    "read_fsdkaggle2019",
    "read_jsonl",
    "read_parquet",
    "write_csv",
    "write_demo",
    "write_fsdkaggle2018",
    "write_fsdkaggle2019",
    "write_jsonl",
    "write_parquet",
]

# Type checkers shall know the names above and no others.
if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.attach(
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
