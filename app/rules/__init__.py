"""Objectives into Prometheus rules, and tests of every rule."""
