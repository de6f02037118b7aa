"""How long a picture takes, part by part, and beside a diffusers pipeline that paints the same."""
