"""Label files of other tools, and a synthesised set whose truth is known."""
