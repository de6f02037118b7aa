"""How near samplers come to the converged picture, measured side by side."""
