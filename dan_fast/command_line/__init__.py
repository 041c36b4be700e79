"""Code that commands share: options, jobs of many photos, messages, timing. The commands are in ``commands``."""
