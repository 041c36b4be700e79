"""One module per sub-command of ``dan-fast``: ``add_arguments(parser)`` and ``run(args) -> exit code``."""
