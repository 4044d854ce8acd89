"""From a checkpoint to a smaller one: plan, calibration, rounding, verification."""
