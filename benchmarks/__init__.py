"""Benchmarks: each runs beside its peer and prints one JSON object with --json."""
