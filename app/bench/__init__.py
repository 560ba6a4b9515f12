"""Benchmarks, always beside what they are compared with."""
