"""Pictures in and out of files, as rows (`files`) or whole (`picture`), and MATLAB-exact bicubic (`resize`).

Imports inside the room point one way: rows, metadata, netpbm | decoding, encoding, files, picture. Nothing is
re-exported here, so that arithmetic alone does not load libvips.
"""
