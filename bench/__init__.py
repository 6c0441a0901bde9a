"""Benchmarks: one question, one file, peers beside duende. How to run them: bench/README.md."""
