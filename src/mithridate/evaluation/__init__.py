"""CA, ASR, floor and their intervals."""
