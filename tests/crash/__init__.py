"""The store under fire: real work in children that are killed, and what is left of it."""
