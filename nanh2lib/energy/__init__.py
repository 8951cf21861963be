"""Energies, forces and stresses of crystals: named ASE calculators and labels."""
