//! Groups items into batches and drains them in order on close.
