"""Hamba without its parts, over seeds: what differs, and whether by more than chance would.

================  ===========================================================================
variants.py       what is taken away, and what the paper reports of it
paired.py         differences between trainings of the same seeds, and their spread
measured.py       what the trainings of a variant logged
report.py         tables, CSV and JSON, the paper's figures beside ours and never among them
ablation_plot.py  the picture
================  ===========================================================================
"""
