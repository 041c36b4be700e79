"""The sections of gpu-check, one a file: ``run()`` notes its figures. Which run, and for how long: ``gpu_check.py``."""
