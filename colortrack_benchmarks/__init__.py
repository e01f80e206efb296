"""Benchmarks of the field and the demo, which use fiftyone_colortrack but are not part of it."""
