"""The sections of gpu-check, one per file: ``measure()`` notes its figures. ``gpu_check.py`` has their time limits."""
