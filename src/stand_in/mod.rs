//! An n4n to try things on: it answers the unlock call as the real one is known to.
