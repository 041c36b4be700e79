"""Code that tests share: bounds of accuracy, classes of tests, example networks, compilers."""
