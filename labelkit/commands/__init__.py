"""The commands of labelkit, by what they are for."""
