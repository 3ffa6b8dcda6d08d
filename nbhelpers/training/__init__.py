"""Training, measuring and exporting the bundled networks."""
