"""What several architectures share: their common face, residual stages, units, auxiliary heads."""
