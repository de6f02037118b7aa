"""A sheet of pictures that differ in one thing across and in one down."""
