"""Energy-guided diffusion over rigid units in a crystal's asymmetric unit."""
