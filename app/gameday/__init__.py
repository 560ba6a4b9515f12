"""Game days: every failure mode is played, and what people would have been told is watched."""
