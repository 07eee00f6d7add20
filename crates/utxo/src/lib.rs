//! A store of unspent outputs, written through batchers.
