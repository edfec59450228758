"""The command ``acalsim``, one file for each group of commands."""
