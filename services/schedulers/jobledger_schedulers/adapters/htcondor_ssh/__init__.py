"""HTCondor by way of SSH: its command-line tools on an access point, in one account there, whose home holds the files of runs.

What is submitted is the same as through the bindings, and what is seen is judged the same; how it gets there is all that differs.
"""
