"""Posed images and 2D masks become 3D instances on the points of a scan."""
