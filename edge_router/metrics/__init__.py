"""Counters of one process, for Prometheus."""
