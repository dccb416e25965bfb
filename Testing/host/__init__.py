"""A stand-in for the Slicer application around real MRML: PySide6 as `qt`, doubles of Slicer's Python layer.

Only for tests. Slicer's own Python files are used instead of the doubles where the environment variable
DIFFSEG_SLICER_SOURCE names a Slicer checkout.
"""
