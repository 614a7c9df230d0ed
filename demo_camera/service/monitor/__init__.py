"""Figures and state of the service for other programs: Prometheus, probes, systemd."""
