"""Generative models of asymmetric units: the supplement's networks and the geometric extension."""
