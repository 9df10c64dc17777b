"""What studies of one kind have in common; the files beside this folder are studies.

A study imports it as `from bases import images`: the command puts the folder of the
file named by --config on Python's path.
"""
