"""Change sets: what became of the labels in one copy of a data set, brought into another."""
