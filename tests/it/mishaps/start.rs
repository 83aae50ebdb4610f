//! What `check` calls sound starts, and what cannot start it calls a fault.
