"""Measuring upscalers: degraded test sets, metrics, the tables of ``evaluate``, pictures and plots."""
