"""The verbs of labelkit: each ties store, data, model and noise handling together."""
