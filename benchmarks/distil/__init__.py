"""Teaches a Refiner with the results of another network; ``__main__`` says how."""
