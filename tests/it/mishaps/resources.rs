//! Descriptors, ports, inodes, threads and memory run out.
