"""Rigid units, space groups, asymmetric units: reading them from crystals and writing crystals from them."""
