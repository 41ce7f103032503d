"""Images of other stores: zarr, numcodecs, webdataset, litData and data sets of Hugging Face.

Each module needs the library that it is named after, and is imported when it is used.
docs/guides/stores.md shows each of them.
"""
