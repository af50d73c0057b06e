"""The bridge to Label Studio: its labelling page, its tasks, its answers, its server."""
