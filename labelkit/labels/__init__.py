"""Labels of a project in, out, over time, and taken back."""
