"""How near samplers come to the converged picture, and how long pictures take: side by side."""
