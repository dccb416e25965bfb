"""The demonstration: both hippocampi of the MNI152 template, in five steps, as masks, pictures and a Slicer scene."""
