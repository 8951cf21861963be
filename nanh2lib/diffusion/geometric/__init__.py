"""The geometric extension: diffusion on the torus and SO(3) with a network that sees the whole crystal."""
