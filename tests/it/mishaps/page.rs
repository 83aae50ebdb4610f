//! The live page where operators put it.
