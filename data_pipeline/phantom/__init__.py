"""PhantomBone: simulated whole-body planar bone scintigrams with exact lesion truth."""

VERSION = "2.1.0"
"""Of the simulator's output: any change of a pixel or a mask changes it. docs/phantom/card.md says how."""
