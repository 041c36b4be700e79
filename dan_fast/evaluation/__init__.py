"""Measuring upscaled images: degraded test sets, metrics, pictures and plots."""
