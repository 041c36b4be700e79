"""What the commands share: options, jobs of many photos, timing. The commands themselves are in ``commands``."""
