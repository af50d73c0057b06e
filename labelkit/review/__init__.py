"""Human review in Label Studio: what goes there, what comes back, and what it comes to."""
