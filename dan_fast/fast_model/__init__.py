"""The network rebuilt to be fast, from operators: for inference (`Plan`) and for learning."""
