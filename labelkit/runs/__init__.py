"""Trainings on a project, in the order in which a round happens."""
