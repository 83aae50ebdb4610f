//! Certificates and keys that are not what they were taken for.
