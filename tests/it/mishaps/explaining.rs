//! `explain` says what the running gateway would do.
