//! What we say to a next hop.
