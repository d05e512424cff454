"""Whole models of configs side by side: size, operations, time, memory and known accuracy.

``tools/analysis_tools/compare.py`` is the command. In the order of the work: ``sets`` names
configs, ``configs`` reads them, ``models`` builds, ``costs`` counts, ``accuracy`` looks up what is
known, ``measurement`` times, and ``records``, ``tables`` and ``plot`` write.
"""
