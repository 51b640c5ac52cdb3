"""Every check that people see, one file each: what it asks, what that costs, and how it looks.

A new check is a new file here. What is no check stands in `machinery`: the list of them, the facts
that several need, looked up once, and what checks of one family share. Changes nothing.
"""
