"""Images in other stores: zarr, numcodecs, webdataset, litData and data sets of Hugging Face.

A module that is named after a library needs it, and `samples` needs none. Each is imported when it
is used. docs/guides/stores.md shows them.
"""
