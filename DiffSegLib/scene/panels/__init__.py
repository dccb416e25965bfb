"""The sections of the module's window, one file each with a form of its own and its part of the parameters."""
