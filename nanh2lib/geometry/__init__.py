"""Pure tensor functions on lattices, rotations and periodic space: no chemistry, no settings."""
