//! Equal things spelt differently are equal.
