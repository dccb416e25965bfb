"""The bridge to Slicer: nodes and arrays, the worker's client. The only room that imports slicer, qt or vtk."""
