"""Speed and quality comparisons, with their runner and their committed results."""
