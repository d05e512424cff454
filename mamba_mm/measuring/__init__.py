"""Instruments of the benchmarks and comparisons: time in turns, memory, shapes, the machine."""
