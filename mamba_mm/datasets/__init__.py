"""Data sets, and the drawing of the demo's own."""
