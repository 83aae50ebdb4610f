//! What is refused before there is a request leaves a trace all the same.
