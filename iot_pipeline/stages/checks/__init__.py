"""Every check that people see, one file each: what it asks, what that costs, and how it looks.

`registry` finds them here; a new check is a new file. Facts that several checks need are looked up
once and shared (`facts`). Changes nothing.
"""
