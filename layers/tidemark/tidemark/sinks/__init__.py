"""Destinations of changes: one file each, behind the `Sink` port."""
