//! What hostile guests can do.
