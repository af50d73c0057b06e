"""The health of a project: status, doctor, repair, backup."""
