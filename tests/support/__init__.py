"""What tests share: accuracy bounds, example networks, compilers."""
