//! A disk that is full, read-only or failing.
