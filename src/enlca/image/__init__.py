"""Pictures as arrays: files in and out (`files`), BT.601 luma (`color`), MATLAB-exact bicubic (`resize`).

Import from the modules. Nothing is re-exported here: whoever needs arithmetic alone does not load libvips.
"""
