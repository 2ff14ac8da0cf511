"""What every other strategy is compared with."""
