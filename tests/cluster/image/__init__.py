"""The image as it is shipped: built here, weighed, read, and each program started in it.

Tier `image`, outside of any box: the build needs the network, and what is started gets namespaces of its own.
"""
