"""PhantomBone: whole-body planar bone scans of virtual patients, physics-based, with exact lesion truth."""
