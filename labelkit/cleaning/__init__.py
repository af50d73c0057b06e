"""Which labels to doubt and which to trust: scores, selections, missing labels, rehearsals."""
