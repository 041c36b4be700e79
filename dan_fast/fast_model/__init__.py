"""The network made of operators, to be fast: for inference (``Plan``) and with gradients (``unroll``)."""
