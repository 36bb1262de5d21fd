//! What a peer may say to us.
