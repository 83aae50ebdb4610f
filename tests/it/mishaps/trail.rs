//! The trail cannot be written, or a neighbour keeps its file.
