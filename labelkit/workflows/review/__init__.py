"""People decide in Label Studio: setting it up, what goes there, what comes back."""
